"""What an evaluation reads of the site's archive: rows that the user may see and export."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from django.db.models import Prefetch

from cases.errors import DomainError
from cases.models import Cohort, Report, SlideImage
from cases.permissions import departments_with
from retrieval.engine.aligner.archive import Archive
from retrieval.engine.aligner.diagnoses import label_of
from retrieval.engine.evaluation import cohen_kappa
from retrieval.engine.evaluation_report import Agreement
from retrieval.engine.ranking import diagnosis_key, pad_mosaics
from retrieval.filters import SIGNED, SearchFilters
from retrieval.models import (
    EmbeddingModel,
    Feedback,
    ReportEmbedding,
    SearchHit,
    SearchQuery,
    SlideEmbedding,
    SlideIndex,
)
from retrieval.services.features import FeaturesUnreadable, features_read

BY_DIAGNOSIS, BY_WORDS = "diagnosis", "words"
# Two readers who share fewer answers than this agree or not by chance alone.
AGREEMENT_MIN = 5


class TooLittleToEvaluate(DomainError):
    """There is nothing to compare."""

    http_status = 409
    code = "too_little_to_evaluate"


@dataclass(frozen=True)
class SiteArchive:
    """The indexed slides that a user may see; all arrays are in the order of `slide_images`.

    Attributes
    ----------
    slide_images : list of SlideImage
    archive : Archive
        A sample of each slide's kept features; hospitals are departments.
    places : list of int64 (N, 2)
        Of the sampled patches.
    tokens, shares, present, vectors
        As the index holds them: float32 (S, M, K), (S, M), bool (S, M), float32 (S, D).
    texts : float32 (S, T), optional
        Unit vectors of the current reports; a row of nan where there is none.
    left_out : dict of str to int
        Slides that could not take part, by why.
    """

    slide_images: list[SlideImage]
    archive: Archive
    places: list[np.ndarray]
    tokens: np.ndarray
    shares: np.ndarray
    present: np.ndarray
    vectors: np.ndarray
    texts: np.ndarray | None
    left_out: dict[str, int]


def site_archive(
    *,
    user: Any,
    model: EmbeddingModel,
    text_model: EmbeddingModel | None,
    cohort: Cohort | None,
    labels: str,
    patches: int,
) -> SiteArchive:
    """Gather what the user may see and export of the slides that the model has indexed.

    patches: most patches of a slide that are kept in memory, evenly over the slide.
    Raises TooLittleToEvaluate.
    """
    seen = SlideImage.objects.visible_to(user)
    if cohort is not None:
        seen = seen.filter(SearchFilters(cohort=str(cohort.pk)).condition(user))
    # To see a slide is not to take its picture and diagnosis out.
    visible = seen.filter(department__in=departments_with(user, "export_cohort"))
    embeddings = {
        embedding.slide_image_id: embedding
        for embedding in SlideEmbedding.objects.visible_to(user)
        .filter(model=model, slide_image__in=visible)
        .select_related("model")
    }
    paths = dict(
        SlideIndex.objects.filter(model=model, slide_image__in=list(embeddings)).values_list(
            "slide_image_id", "features_path"
        )
    )
    left_out = {
        "of departments that this user may not export from": seen.count() - visible.count(),
        "not indexed by this model": visible.count() - len(embeddings),
    }
    reports = Prefetch("slide__case__reports", Report.objects.filter(is_current=True))
    found: list[SlideImage] = []
    bags, places = [], []
    for slide_image in (
        visible.filter(pk__in=list(embeddings))
        .select_related("department", "slide__case__patient")
        .prefetch_related(reports)
        .order_by("created_at", "pk")
    ):
        try:
            kept = features_read(paths.get(slide_image.pk, ""))
        except FeaturesUnreadable:
            why = "kept features missing or damaged"
            left_out[why] = left_out.get(why, 0) + 1
            continue
        order = np.lexsort((kept.coords_l0[:, 0], kept.coords_l0[:, 1]))
        if len(order) > patches:
            order = order[np.linspace(0, len(order) - 1, patches).round().astype(np.int64)]
        found.append(slide_image)
        bags.append(kept.features[order])
        places.append(kept.coords_l0[order])
    if len(found) < 2:
        raise TooLittleToEvaluate(
            f"{len(found)} slides are indexed by {model.name} and can be seen and exported by "
            f"{user.get_username()}; at least two are needed."
        )
    archive = _archive(found, bags, labels)
    if len(archive.label_names()) < 2:
        raise TooLittleToEvaluate(
            "Fewer than two diagnoses are known of these slides. Sign reports with a diagnosis "
            "code, or read the diagnoses from the reports' words: --labels words"
        )
    chosen = [embeddings[slide_image.pk] for slide_image in found]
    mosaics = [e.as_mosaic().tokens for e in chosen]
    tokens, shares, present = pad_mosaics(
        mosaics, [np.array([p["share"] for p in e.places], np.float32) for e in chosen]
    )
    vectors = np.stack([np.asarray(e.vector, np.float32) for e in chosen])
    texts = _texts(user, text_model, found)
    return SiteArchive(
        found,
        archive,
        places,
        tokens,
        shares,
        present,
        vectors,
        texts,
        {why: count for why, count in left_out.items() if count},
    )


def _archive(slide_images: list[SlideImage], bags: list[np.ndarray], labels: str) -> Archive:
    cases = [slide_image.slide.case for slide_image in slide_images]
    people = [f"{case.patient.mrn_issuer}|{case.patient.mrn}" for case in cases]
    reports = {
        person: case.current_report.full_text
        for person, case in zip(people, cases, strict=True)
        if case.current_report
    }
    return Archive(
        features=np.concatenate(bags),
        offsets=np.r_[0, np.cumsum([len(bag) for bag in bags])].astype(np.int64),
        slide_ids=tuple(str(slide_image.pk) for slide_image in slide_images),
        patients=tuple(people),
        hospitals=tuple(slide_image.department.code for slide_image in slide_images),
        labels=tuple(_label(case.current_report, labels) for case in cases),
        splits=("",) * len(slide_images),
        reports=reports,
    )


def _label(report: Report | None, labels: str) -> str:
    """Return the signed diagnosis as the vote of an answer tells them apart, or by its words."""
    if report is None or report.status not in SIGNED:
        return ""
    if labels == BY_WORDS:
        return label_of(report.full_text)
    return diagnosis_key(report.diagnosis_system, report.diagnosis_code, report.diagnosis_line)


def _texts(
    user: Any, text_model: EmbeddingModel | None, slide_images: list[SlideImage]
) -> np.ndarray | None:
    if text_model is None:
        return None
    cases = [slide_image.slide.case_id for slide_image in slide_images]
    known = {
        case: np.asarray(vector, np.float32)
        for case, vector in ReportEmbedding.objects.visible_to(user)
        .filter(model=text_model, report__case_id__in=set(cases), report__is_current=True)
        .values_list("report__case_id", "vector")
    }
    if not known:
        return None
    missing = np.full(text_model.dimension, np.nan, np.float32)
    return np.stack([known.get(case, missing) for case in cases])


def agreements(*, user: Any, slide_images: Iterable[SlideImage]) -> list[Agreement]:
    """Return how far each two readers agree on answers that the user may see."""
    hits = SearchHit.objects.visible_to(user).filter(
        slide_image__in=[slide_image.pk for slide_image in slide_images],
        query__in=SearchQuery.objects.visible_to(user),
    )
    verdicts: dict[int, dict[int, str]] = {}
    rows = Feedback.objects.filter(hit__in=hits).order_by("user_id", "hit_id")
    for reader, hit, verdict in rows.values_list("user_id", "hit_id", "verdict"):
        verdicts.setdefault(reader, {})[hit] = verdict
    # By number, not by name: the file may go to somebody who need not know who judged what.
    named = {reader: f"reader {number}" for number, reader in enumerate(verdicts, start=1)}
    out = []
    for first, second in combinations(verdicts, 2):
        shared = sorted(set(verdicts[first]) & set(verdicts[second]))
        if len(shared) >= AGREEMENT_MIN:
            pairs = [(verdicts[first][hit], verdicts[second][hit]) for hit in shared]
            out.append(
                Agreement(
                    named[first],
                    named[second],
                    len(shared),
                    sum(a == b for a, b in pairs),
                    cohen_kappa([a for a, _ in pairs], [b for _, b in pairs]),
                )
            )
    return out
