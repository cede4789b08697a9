"""Looks up what is most like a slide as soon as it is indexed."""

import logging
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from cases.errors import DomainError
from cases.models import SlideImage
from retrieval.filters import other_people
from retrieval.models import SlideEmbedding, SlideNeighbours
from retrieval.querysets import SlideEmbeddingQuerySet
from retrieval.services.comparing import compare_mosaics
from retrieval.services.models import Modality, active_model
from retrieval.services.query_mosaics import ImagePart, image_part_of_slide

log = logging.getLogger(__name__)

CANDIDATES = 100
KEPT = 30


def neighbours_compute(pk: UUID | str) -> int:
    """Keep the nearest slides of other patients of its department; returns how many."""
    slide_image = SlideImage.objects.select_related("slide__case__patient").filter(pk=pk).first()
    if slide_image is None:
        return 0
    try:
        part = image_part_of_slide(active_model(Modality.IMAGE), slide_image)
    except DomainError as error:
        log.info("slide image %s: no neighbours (%s)", pk, error.code)
        return 0
    embeddings = SlideEmbedding.objects.filter(department=slide_image.department_id)
    found = nearest_slides(embeddings, part, slide_image)
    with transaction.atomic():
        SlideNeighbours.objects.update_or_create(
            slide_image=slide_image,
            model=part.model,
            defaults={
                "department_id": slide_image.department_id,
                "neighbours": [[str(key), similarity] for key, similarity in found],
                "computed_at": timezone.now(),
            },
        )
    return len(found)


def neighbours_in_scope(*, user: Any, slide_image: SlideImage) -> list[tuple[UUID, float]]:
    """Return the nearest slides of all that the user sees, looked up now and not kept.

    The caller has checked that the user may see the slide image.
    """
    try:
        part = image_part_of_slide(active_model(Modality.IMAGE), slide_image)
    except DomainError:
        return []
    return nearest_slides(SlideEmbedding.objects.visible_to(user), part, slide_image)


def nearest_slides(
    embeddings: SlideEmbeddingQuerySet, part: ImagePart, slide_image: SlideImage
) -> list[tuple[UUID, float]]:
    """Return (slide image, similarity) among these embeddings, of other patients, nearest first."""
    patient = slide_image.slide.case.patient
    others = embeddings.filter(other_people(patient, prefix="slide_image__")).exclude(
        slide_image=slide_image
    )
    near = others.nearest_mosaics(
        model=part.model, vector=part.mosaic.slide_vector, limit=CANDIDATES
    )
    compared = compare_mosaics(others, part, near, near)
    order = sorted(compared.items(), key=lambda item: (-item[1].similarity, str(item[0])))
    return [(key, comparison.similarity) for key, comparison in order[:KEPT]]
