"""Measures focus and ink of a slide once it is indexed, where its mosaic looked."""

import logging
from typing import Any
from uuid import UUID

import numpy as np

from cases.errors import DomainError
from cases.models import SlideImage
from cases.services.slide_readers import slide_reader
from cases.wsi.errors import WsiError
from cases.wsi.reader import SlideReader
from retrieval.engine.quality import FOCUS_MPP, FOCUS_PX, blur_measure, pen_share
from retrieval.models import EmbeddingModel, SlideEmbedding, SlideQuality

log = logging.getLogger(__name__)

PICTURE_PX = 1024
SWEEP_MOST = 10


def quality_measure(pk: UUID | str) -> SlideQuality | None:
    """Measure one indexed slide image by the active model's places; None where there is none."""
    embedding = (
        SlideEmbedding.objects.filter(slide_image=pk, model__in=_active())
        .select_related("slide_image__slide")
        .first()
    )
    if embedding is None:
        return None
    slide_image = embedding.slide_image
    blur = share = None
    try:
        with slide_reader(slide_image) as reader:
            blur = _blur(reader, slide_image, embedding.places)
            if is_haematoxylin_eosin(slide_image.slide.stain):
                share = pen_share(reader.thumbnail(PICTURE_PX))
    except (DomainError, WsiError, OSError) as error:
        log.warning("slide image %s: quality not measured (%s)", pk, type(error).__name__)
    quality, _made = SlideQuality.objects.update_or_create(
        slide_image=slide_image,
        defaults={"department_id": slide_image.department_id, "blur": blur, "pen_share": share},
    )
    return quality


def quality_sweep() -> int:
    """Measure some of the slides that were indexed before they were measured."""
    waiting = (
        SlideEmbedding.objects.filter(model__in=_active())
        .exclude(slide_image__in=SlideQuality.objects.values("slide_image"))
        .order_by("-pk")
        .values_list("slide_image_id", flat=True)[:SWEEP_MOST]
    )
    return sum(quality_measure(pk) is not None for pk in list(waiting))


def is_haematoxylin_eosin(stain: str) -> bool:
    """Return whether the stain is one in which ink can be told by its colour."""
    letters = "".join(letter for letter in stain.upper() if letter.isalpha())
    return letters in {"HE", "HANDE", "HAEMATOXYLINEOSIN", "HEMATOXYLINEOSIN"}


def _active() -> Any:
    return EmbeddingModel.objects.filter(is_active=True, modality=EmbeddingModel.Modality.IMAGE)


def _blur(
    reader: SlideReader, slide_image: SlideImage, places: list[dict[str, float]]
) -> float | None:
    """Return the median over the places: single ones may lie on what is out of focus anyway."""
    side = FOCUS_PX * FOCUS_MPP / slide_image.mpp
    measures = []
    for place in places:
        x = place["x_l0"] + (place["size_l0"] - side) / 2
        y = place["y_l0"] + (place["size_l0"] - side) / 2
        crop = reader.read_region_l0(x, y, side, side, FOCUS_PX, FOCUS_PX)
        measure = blur_measure(crop)
        if measure is not None:
            measures.append(measure)
    # A scan coarser than FOCUS_MPP has no such detail: what is magnified is no evidence of blur.
    if not measures or slide_image.mpp > 1.5 * FOCUS_MPP:
        return None
    return float(np.median(measures))
