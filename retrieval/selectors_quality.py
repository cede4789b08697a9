"""What makes an answer weak evidence, whatever its similarity."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from retrieval.engine.quality import BLURRED_FROM, PEN_FROM
from retrieval.models import SlideQuality
from retrieval.selectors_indexing import slide_indexes

# Less tissue than a small part of one biopsy core: a handful of patches speaks for the slide.
LITTLE_TISSUE_MM2 = 1.0


def slides_with_little_tissue(*, user: Any, slide_image_ids: Iterable[UUID]) -> set[UUID]:
    """Return those of these slide images on which the active model found little tissue."""
    rows = slide_indexes(user=user).filter(
        slide_image_id__in=list(slide_image_ids), state="indexed", model__patch_px__gt=0
    )
    return {
        pk
        for pk, patches, size, mpp in rows.values_list(
            "slide_image_id", "patch_count", "model__patch_px", "model__mpp"
        )
        if patches * (size * mpp / 1000) ** 2 < LITTLE_TISSUE_MM2
    }


LITTLE, BLURRED, PEN = "little", "blurred", "pen"


def slides_weak(*, user: Any, slide_image_ids: Iterable[UUID]) -> dict[UUID, list[str]]:
    """Return by slide image why it is weak evidence: LITTLE tissue, BLURRED, PEN marks."""
    ids = list(slide_image_ids)
    weak: dict[UUID, list[str]] = defaultdict(list)
    for pk in slides_with_little_tissue(user=user, slide_image_ids=ids):
        weak[pk].append(LITTLE)
    rows = SlideQuality.objects.visible_to(user).filter(slide_image__in=ids)
    for pk, blur, share in rows.values_list("slide_image_id", "blur", "pen_share"):
        if blur is not None and blur >= BLURRED_FROM:
            weak[pk].append(BLURRED)
        if share is not None and share >= PEN_FROM:
            weak[pk].append(PEN)
    return dict(weak)
