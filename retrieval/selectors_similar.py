"""Reads of similar cases: what was looked up ahead, as far as a reader sees it now."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Prefetch

from cases.models import Case, Report, SlideImage
from retrieval.models import EmbeddingModel, SlideEmbedding, SlideNeighbours
from retrieval.selectors_vote import person

CASES_SHOWN = 6
CASES_FEW = 3
# Each slide of a case may have neighbours; a case of very many is looked up for the first ones.
SLIDES_MOST = 8

Near = dict[UUID, list[tuple[UUID, float]]]


@dataclass(frozen=True)
class SimilarCase:
    """A case, its nearest slide, and which slide of the case asked that one is like."""

    case: Case
    slide_image: SlideImage
    similarity: float
    like: SlideImage
    report: Report | None

    @property
    def diagnosis(self) -> Report | None:
        """Return the current report where it is signed: only then it gives the diagnosis."""
        return self.report if self.report and self.report.is_signed else None


def neighbours_waiting(user: Any, case: Case) -> Near:
    """Return by visible slide image of the case what was looked up when it was indexed."""
    rows = SlideNeighbours.objects.visible_to(user).filter(
        slide_image__slide__case=case,
        model__is_active=True,
        model__modality=EmbeddingModel.Modality.IMAGE,
    )
    return {
        pk: [(UUID(key), similarity) for key, similarity in near]
        for pk, near in rows.values_list("slide_image_id", "neighbours")
    }


def slide_images_indexed(user: Any, case: Case) -> list[SlideImage]:
    """Return the visible slide images of the case that the active model knows."""
    known = SlideEmbedding.objects.visible_to(user).filter(
        slide_image__slide__case=case,
        model__is_active=True,
        model__modality=EmbeddingModel.Modality.IMAGE,
    )
    images = SlideImage.objects.visible_to(user).filter(pk__in=known.values("slide_image_id"))
    return list(
        images.select_related("slide__case__patient").order_by("slide__label", "pk")[:SLIDES_MOST]
    )


def similar_cases(user: Any, case: Case, near: Near) -> list[SimilarCase]:
    """Return the nearest cases of other patients that the reader sees now, each once."""
    wanted = {key for found in near.values() for key, _similarity in found} | set(near)
    reports = Prefetch(
        "slide__case__reports", Report.objects.visible_to(user).filter(is_current=True)
    )
    images = {
        image.pk: image
        for image in SlideImage.objects.visible_to(user)
        .filter(pk__in=wanted)
        .select_related("department", "slide__specimen", "slide__case__patient")
        .prefetch_related(reports)
    }
    own = person(case.patient)
    best: dict[UUID, SimilarCase] = {}
    pairs = sorted(
        (
            (similarity, str(key), key, like)
            for like, found in near.items()
            for key, similarity in found
        ),
        key=lambda pair: (-pair[0], pair[1]),
    )
    for similarity, _text, key, like in pairs:
        image = images.get(key)
        if image is None or like not in images:
            continue
        other = image.slide.case
        if person(other.patient) == own or other.pk in best:
            continue
        best[other.pk] = SimilarCase(other, image, similarity, images[like], other.current_report)
        if len(best) == CASES_SHOWN:
            break
    return list(best.values())
