"""How well the site's own archive is searched: the model in use, and rivals on its features."""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from cases.models import Cohort, SlideImage
from cases.permissions import departments_with
from cases.services.audit import Action, access_events_listed
from cases.services.store import thumbnail_file
from retrieval.engine.aggregators import UnknownWords
from retrieval.engine.evaluation import RetrievalResult, evaluate_retrieval
from retrieval.engine.evaluation_report import (
    EvaluationReport,
    GridCell,
    GridRow,
    MethodFigures,
    PairFigures,
    RetrievalSection,
    class_figures,
    confusion_of,
    method_figures,
    pair_figures,
    token_distinctness,
)
from retrieval.engine.file_evaluation import (
    ask_by_texts,
    example_queries,
    nearest_slides,
    slide_to_slide,
)
from retrieval.engine.hypergraph import hypergraph_search
from retrieval.engine.mosaic import normalised
from retrieval.engine.ranking import RRF_K, mosaic_similarity
from retrieval.engine.report_html import report_html
from retrieval.engine.rivals import (
    RawMosaics,
    Rival,
    Similarity,
    bunch_of_barcodes,
    cosine,
    max_pooled_sets,
    mean_pooling,
    mosaic_patches,
    prototype_search,
    raw_mosaics,
    whitened_mean,
)
from retrieval.models import EmbeddingModel
from retrieval.services.aggregation import texts_as_slides
from retrieval.services.evaluation_data import (
    BY_DIAGNOSIS,
    SiteArchive,
    agreements,
    site_archive,
)
from retrieval.services.search import mosaic_share

PATCHES = 256
ROUNDS = 1000
_PATIENT_OUT = "The query's patient left out"
_HOSPITAL_OUT = "The query's patient and department left out"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Run:
    """One evaluation under way."""

    site: SiteArchive
    rivals: list[Rival]
    ours: Rival
    rounds: int
    tell: Tell


def evaluate_site(
    *,
    user: Any,
    model: EmbeddingModel,
    folder: Path,
    text_model: EmbeddingModel | None = None,
    cohort: Cohort | None = None,
    labels: str = BY_DIAGNOSIS,
    patches: int = PATCHES,
    rounds: int = ROUNDS,
    with_rivals: bool = True,
    tell: Tell = lambda _: None,
) -> EvaluationReport:
    """Measure a model on the slides that the user may see; write two files into the folder.

    The files name diagnoses and show slides: making them is an export, on record for every
    patient. The caller has checked that the user may see the cohort.

    Raises PermissionDenied, TooLittleToEvaluate.
    """
    if not departments_with(user, "export_cohort"):
        raise PermissionDenied("Your role does not allow to take slides and diagnoses out.")
    site = site_archive(
        user=user,
        model=model,
        text_model=text_model,
        cohort=cohort,
        labels=labels,
        patches=patches,
    )
    ours = Rival(model.name, "as searches use it", _our_similarity(model, site))
    rivals = [
        Rival(f"{model.name}, vectors", "what the index searches", cosine(site.vectors)),
        *(_rivals(site, tell) if with_rivals else [mean_pooling(site.archive)]),
    ]
    run = _Run(site, [ours, *rivals], ours, rounds, tell)
    report = _report(run, user=user, model=model, text_model=text_model, cohort=cohort)
    cases = [slide_image.slide.case for slide_image in site.slide_images]
    access_events_listed(
        user=user,
        action=Action.EXPORT,
        object_type=SlideImage._meta.model_name,
        subjects=[(case.patient_id, case.department_id) for case in cases],
        detail={"evaluation": model.name, "slides": len(cases)},
    )
    folder.mkdir(parents=True, exist_ok=True)
    plain = json.dumps(report.to_json(), indent=2, sort_keys=True) + "\n"
    (folder / "evaluation.json").write_text(plain, encoding="utf-8")
    (folder / "evaluation.html").write_text(report_html(report), encoding="utf-8")
    return report


def _our_similarity(model: EmbeddingModel, site: SiteArchive) -> Similarity:
    share = mosaic_share(model, whole_slide=True)
    by_vector = cosine(site.vectors)

    def similarity(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        tokens, shares, present = site.tokens[gallery], site.shares[gallery], site.present[gallery]
        rows = []
        for query in queries:
            own = site.present[query]
            rows.append(
                mosaic_similarity(
                    site.tokens[query][own], site.shares[query][own], tokens, shares, present
                )[0]
            )
        return share * np.stack(rows) + (1 - share) * by_vector(queries, gallery)

    return similarity


def _rivals(site: SiteArchive, tell: Tell) -> list[Rival]:
    archive = site.archive
    everything = np.arange(len(archive))
    tell("rivals")
    mosaics = raw_mosaics(archive, everything)
    return [
        mean_pooling(archive),
        whitened_mean(archive, everything),
        prototype_search(mosaics),
        max_pooled_sets(mosaics),
        hypergraph_search(mosaics),
        bunch_of_barcodes(_by_place(site, mosaics)),
    ]


def _by_place(site: SiteArchive, mosaics: RawMosaics) -> RawMosaics:
    """Return the mosaics with Yottixel's choice of patches; features stand for the colour."""
    chosen = []
    for slide, places in enumerate(site.places):
        features = site.archive.bag(slide).astype(np.float32)
        chosen.append(features[mosaic_patches(features, places)])
    most = max(len(patches) for patches in chosen)
    patches = np.zeros((len(chosen), most, chosen[0].shape[1]), np.float32)
    present = np.zeros((len(chosen), most), bool)
    for slide, own in enumerate(chosen):
        patches[slide, : len(own)] = own
        present[slide, : len(own)] = True
    return replace(mosaics, patches=patches, present=present)


def _report(
    run: _Run,
    *,
    user: Any,
    model: EmbeddingModel,
    text_model: EmbeddingModel | None,
    cohort: Cohort | None,
) -> EvaluationReport:
    site, archive = run.site, run.site.archive
    departments = sorted(set(archive.hospitals))
    notes = ["The query's own patient, in whichever department, is never in the gallery."]
    notes += [f"Slides left out, {why}: {count}." for why, count in site.left_out.items()]
    unlabelled = sum(not label for label in archive.labels)
    if unlabelled:
        notes.append(f"Slides without a known diagnosis, which take no part: {unlabelled}.")
    if len(departments) == 1:
        notes.append(
            "All slides are of one department. Figures without the query's department cannot be "
            "given; those below may reward recognising a scanner or a stain."
        )
    ways = [(_PATIENT_OUT, False)]
    if len(departments) > 1:
        ways.insert(0, (_HOSPITAL_OUT, True))
    sections, first = [], {}
    for title, exclude in ways:
        section, results = _slides(run, title, exclude)
        sections.append(section)
        first = first or results
    told = _told(site)
    if site.texts is None or not len(told):
        notes.append("No signed report is embedded: searches by words were not measured.")
    else:
        sections += [_texts(run, site.texts, told, title, exclude) for title, exclude in ways]
    section, pairs = _among_slides(run, model, has_departments=len(departments) > 1)
    if section is None:
        notes.append("The model places no words among slides: slide to report was not measured.")
    else:
        sections.append(section)
    names = archive.label_names()
    return EvaluationReport(
        title=f"Evaluation of {model.name}",
        facts=[
            ("Made", timezone.localtime().strftime("%Y-%m-%d %H:%M")),
            ("Slides", f"{len(archive)}, as {user.get_username()} may see them"),
            ("Cohort", cohort.name if cohort else "none: all visible slides"),
            ("Departments", ", ".join(departments)),
            ("Diagnoses", str(len(names))),
            ("Text model", text_model.name if text_model else "none"),
            ("Patches compared by the rivals", f"at most {_most(archive.offsets)} a slide"),
            ("Effective rank of the tokens", token_distinctness(site.tokens, site.present)),
        ],
        notes=notes,
        sections=sections,
        classes=class_figures(first[run.ours.name], names, first["mean"]),
        confusion=confusion_of(first[run.ours.name], names),
        pairs=pairs,
        grid=_grid(run, exclude_hospital=len(departments) > 1),
        agreements=agreements(user=user, slide_images=site.slide_images),
    )


def _most(offsets: np.ndarray) -> int:
    return int(np.diff(offsets).max())


def _slides(
    run: _Run, title: str, exclude: bool
) -> tuple[RetrievalSection, dict[str, RetrievalResult]]:
    archive = run.site.archive
    everything = np.arange(len(archive))
    results = slide_to_slide(
        run.rivals, archive, everything, exclude_hospital=exclude, progress=run.tell
    )
    methods = [
        method_figures(rival.name, rival.about, results[rival.name], rounds=run.rounds)
        for rival in run.rivals
    ]
    count = len(results[run.ours.name].labels)
    section = RetrievalSection(f"Slide to slide. {title}", "", count, count, methods)
    return section, results


def _told(site: SiteArchive) -> np.ndarray:
    """Return the positions of slides with a diagnosis whose report is embedded."""
    if site.texts is None:
        return np.array([], np.int64)
    known = site.archive.subjects().labels >= 0
    return np.flatnonzero(np.isfinite(site.texts).all(1) & known)


def _texts(
    run: _Run, texts: np.ndarray, known: np.ndarray, title: str, exclude: bool
) -> RetrievalSection:
    """Ask by each case's report, and by slide and report together, fused as searches fuse."""
    subjects = run.site.archive.subjects()
    cases = [run.site.slide_images[i].slide.case_id for i in known]
    asked = known[np.unique(np.array([str(case) for case in cases]), return_index=True)[1]]
    own, others = subjects.take(asked), subjects.take(known)

    def by_text(block: np.ndarray) -> np.ndarray:
        return texts[asked[block]] @ texts[known].T

    def together(block: np.ndarray) -> np.ndarray:
        hidden = own.patients[block][:, None] == others.patients[None]
        if exclude:
            hidden |= own.hospitals[block][:, None] == others.hospitals[None]
        total = np.zeros(hidden.shape, np.float32)
        for values in (by_text(block), run.ours.similarity(asked[block], known)):
            order = np.argsort(-np.where(hidden, -np.inf, values), axis=1, kind="stable")
            total += (1 / (RRF_K + 1 + np.argsort(order, axis=1))).astype(np.float32)
        return total

    methods: list[MethodFigures] = [
        method_figures(
            name,
            about,
            evaluate_retrieval(scores, own, others, exclude_hospital=exclude),
            rounds=run.rounds,
        )
        for name, about, scores in (
            ("text to slide", "by the meaning of the slides' reports", by_text),
            ("slide + text", "ranks of both, fused", together),
        )
    ]
    return RetrievalSection(
        f"By words. {title}",
        "The query is a patient's report, or the report and a slide; a slide is found by the "
        "report of its case.",
        len(asked),
        len(known),
        methods,
    )


def _among_slides(
    run: _Run, model: EmbeddingModel, *, has_departments: bool
) -> tuple[RetrievalSection | None, list[PairFigures]]:
    """Ask by reports that the model itself places among the slides, where it can."""
    if not model.has_text_side:
        return None, []
    archive = run.site.archive
    run.tell("reports among slides")
    vectors: dict[str, np.ndarray] = {}
    for person, report in archive.reports.items():
        try:
            vectors[person] = texts_as_slides(model, [report])[0]
        except UnknownWords:
            continue
    asked = {p for p, label in zip(archive.patients, archive.labels, strict=True) if label}
    if not asked & set(vectors):
        return None, []
    found = ask_by_texts(normalised(run.site.vectors), vectors, archive, np.arange(len(archive)))
    ways = [("text to slide", _PATIENT_OUT.lower(), found.class_own)]
    if has_departments:
        ways += [
            ("text to slide, department out", _HOSPITAL_OUT.lower(), found.class_hospital),
            ("slide + text, department out", _HOSPITAL_OUT.lower(), found.joint),
        ]
    section = RetrievalSection(
        "Words among slides",
        "The model places the words of a report among the slides. Reports of slides that it was "
        "trained on find them more easily than new ones do.",
        found.queries,
        found.pairs.gallery_count,
        [method_figures(name, about, result, rounds=run.rounds) for name, about, result in ways],
    )
    return section, [
        pair_figures("report to own slides", found.pairs),
        pair_figures("slide to own report", found.reports),
    ]


def _grid(run: _Run, *, exclude_hospital: bool) -> list[GridRow]:
    subjects = run.site.archive.subjects()
    asked = example_queries(subjects.labels, np.arange(len(run.site.archive)))
    found = nearest_slides(run.ours.similarity, subjects, asked, exclude_hospital=exclude_hospital)
    return [
        GridRow(
            _cell(run.site, int(query), True),
            [
                _cell(run.site, int(at), bool(subjects.labels[at] == subjects.labels[query]))
                for at in nearest
            ],
        )
        for query, nearest in zip(asked, found, strict=True)
    ]


def _cell(site: SiteArchive, at: int, is_right: bool) -> GridCell:
    slide_image = site.slide_images[at]
    try:
        jpeg = b64encode(thumbnail_file(slide_image.pk).read_bytes()).decode()
    except OSError:
        jpeg = ""  # not made yet, or the pixels cannot be read: the table says the rest
    return GridCell(
        str(slide_image.pk)[:8],
        site.archive.labels[at],
        is_right,
        f"data:image/jpeg;base64,{jpeg}" if jpeg else "",
    )
