"""Answers a question: filter, candidates, re-rank, fuse, store.

Everything that is counted, compared or ranked comes from querysets that are visible to the
asker and filtered before any LIMIT, so that an answer says nothing about hidden rows.
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction

from cases.models import SlideImage
from cases.permissions import departments_with
from cases.querysets import sharing_looked_up
from cases.services.audit import Action, access_event_record
from retrieval.filters import SearchFilters
from retrieval.models import EmbeddingModel, SearchHit, SearchQuery
from retrieval.replica import gathered_near
from retrieval.services.comparing import mosaic_share
from retrieval.services.models import active_model
from retrieval.services.query_encoding import EncoderUnavailable
from retrieval.services.query_mosaics import (
    ImagePart,
    QueryRefused,
    Region,
    image_part_of_picture,
    image_part_of_query,
    image_part_of_region,
    image_part_of_slide,
)
from retrieval.services.refining import Refinement, refinement_of
from retrieval.services.search_evidence import (
    Scope,
    StageClock,
    evidence_fused,
    evidence_gather,
)
from retrieval.services.text_search import (
    TextPart,
    text_part,
)

log = logging.getLogger(__name__)

LIMIT_MAX = 200
TEXT_MAX = 1000
WEIGHT_MAX = 10.0
TEXT_SHARE_OF_CONDITION = 0.01


Run = TypeVar("Run", bound=Callable[..., SearchQuery])


def again_without_what_went(run: Run) -> Run:
    """Ask once more where a slide was deleted between finding it and keeping the answer."""

    @wraps(run)
    def asked(*args: Any, **kwargs: Any) -> SearchQuery:
        try:
            return run(*args, **kwargs)
        except IntegrityError:
            log.info("a slide went while a search held it; asking again")
            return run(*args, **kwargs)

    return cast(Run, asked)


@again_without_what_went
def search_run(
    user: Any,
    *,
    slide_image: SlideImage | None = None,
    region: Region | None = None,
    image: bytes | None = None,
    image_mpp: float | None = None,
    repeat: SearchQuery | None = None,
    text: str = "",
    is_literal: bool = False,
    filters: SearchFilters | None = None,
    image_weight: float = 1.0,
    text_weight: float = 1.0,
    include_same_patient: bool = False,
    limit: int = 50,
    refinement: Refinement | None = None,
) -> SearchQuery:
    """Answer a question and return it, stored with its hits and audited.

    The question is a slide, a region of it, or an image (PNG or JPEG bytes), or words, or
    tissue and words together. repeat: take the tissue of this earlier question; the caller
    has checked that the user may see it, and the slide image.
    """
    departments = departments_with(user, "search")
    if not departments:
        raise PermissionDenied("Your role does not allow searching.")
    clock = StageClock()
    text = " ".join(text.replace("\x00", " ").split())
    filters = filters or SearchFilters()
    _check(slide_image, region, image, repeat, text, image_weight, text_weight)
    with sharing_looked_up(user):
        with clock.stage("encode"):
            part = _image_part(slide_image, region, image, image_mpp, repeat)
            words = text_part(user, text, filters=filters, is_literal=is_literal)
        if not part and not words:
            raise QueryRefused(
                "Nothing is asked: give words, an image, or a slide.", code="nothing_asked"
            )
        if refinement and not part and (words is None or words.vector is None):
            raise QueryRefused(
                "Marks move tissue or meaning, and this question has neither: the encoder of "
                "meaning was not available. Ask again later.",
                code="nothing_to_move",
            )
        scope = Scope(user, filters, part, include_same_patient, words if text_weight else None)
        # "Like this slide, but …": the words say which slides, the tissue in what order.
        share = TEXT_SHARE_OF_CONDITION if part and words and words.is_condition else 1.0
        with transaction.atomic():
            if words and refinement:
                words = refinement.moved_words(user, words)
                words.notices.append(refinement.notice)
            elif part and refinement:
                part.notices.append(refinement.notice)
            found = gathered_near(lambda: evidence_gather(scope, part, words, refinement, clock))
            hits = evidence_fused(
                found,
                image_weight=image_weight,
                text_weight=text_weight * share,
                limit=max(1, min(limit, LIMIT_MAX)),
            )
            return _stored(
                user,
                scope_department_ids=sorted(departments),
                part=part,
                words=words,
                filters=filters.to_json(),
                image_weight=image_weight,
                text_weight=text_weight,
                include_same_patient=include_same_patient,
                refined_from=refinement.query if refinement else None,
                hits=hits,
                clock=clock,
            )


def _check(
    slide_image: SlideImage | None,
    region: Region | None,
    image: bytes | None,
    repeat: SearchQuery | None,
    text: str,
    image_weight: float,
    text_weight: float,
) -> None:
    if sum((slide_image is not None, bool(image), repeat is not None)) > 1:
        raise QueryRefused(
            "Ask by a slide or by an image, not by both at once.", code="two_images_asked"
        )
    if region and slide_image is None:
        raise QueryRefused("A region needs its slide.", code="region_without_slide")
    if len(text) > TEXT_MAX:
        raise QueryRefused(f"At most {TEXT_MAX} characters of text.", code="text_too_long")
    weights = np.array([image_weight, text_weight], dtype=float)
    if not np.isfinite(weights).all() or (weights < 0).any() or (weights > WEIGHT_MAX).any():
        raise QueryRefused(
            f"Weights must lie between 0 and {WEIGHT_MAX:g}.", code="weight_out_of_range"
        )
    asks_tissue = slide_image is not None or bool(image) or bool(repeat and repeat.asks_by_image)
    if image_weight * asks_tissue + text_weight * bool(text) <= 0 and (asks_tissue or text):
        raise QueryRefused(
            "The only part of the question has the weight 0.", code="weight_out_of_range"
        )


def _image_part(
    slide_image: SlideImage | None,
    region: Region | None,
    image: bytes | None,
    image_mpp: float | None,
    repeat: SearchQuery | None,
) -> ImagePart | None:
    if slide_image is None and not image and not (repeat and repeat.asks_by_image):
        return None
    model = active_model(EmbeddingModel.Modality.IMAGE)
    if repeat is not None:
        return image_part_of_query(model, repeat)
    if image:
        return image_part_of_picture(model, image, image_mpp)
    if region:
        return image_part_of_region(model, slide_image, region)
    return image_part_of_slide(model, slide_image)


def _stored(
    user: Any,
    *,
    part: ImagePart | None,
    words: TextPart | None,
    hits: list[SearchHit],
    clock: StageClock,
    **fields: Any,
) -> SearchQuery:
    query = SearchQuery(
        user=user,
        text=words.text if words else "",
        is_literal=bool(words and words.is_literal),
        understood=words.understood if words else {},
        text_model=words.model if words else None,
        notices=[*(part.notices if part else []), *(words.notices if words else [])],
        **fields,
    )
    if part:
        query.slide_image = part.slide_image
        query.region = part.region.to_json() if part.region else None
        query.image_jpeg = part.image_jpeg
        query.image_mpp = part.image_mpp
        query.image_model = part.model
        query.vector = part.mosaic.slide_vector.tolist()
        query.mosaic = part.mosaic.token_bytes()
        query.places = part.mosaic.places
    query.seconds = round(clock.seconds, 3)
    query.timings = clock.stages
    query.save()
    owners = dict(
        SlideImage.objects.filter(pk__in=[hit.slide_image_id for hit in hits]).values_list(
            "pk", "department_id"
        )
    )
    hits = [hit for hit in hits if hit.slide_image_id in owners]  # the others went meanwhile
    for hit in hits:
        hit.query = query
        hit.department_id = owners[hit.slide_image_id]
    SearchHit.objects.bulk_create(hits)
    patient = part.patient if part else None
    access_event_record(
        user=user,
        action=Action.SEARCH,
        target=query,
        patient_id=patient.pk if patient else None,
        department_id=patient.department_id if patient else None,
        detail={"hits": len(hits)},
    )
    return query


def search_again(
    user: Any, query: SearchQuery, *, refinement: Refinement | None = None
) -> SearchQuery:
    """Ask a question anew as it was asked, with the rights of this moment; stored as a new one.

    The caller has checked that the user may see the question, and its slide image.
    """
    return search_run(
        user,
        repeat=query if query.asks_by_image else None,
        text=query.text,
        is_literal=query.is_literal,
        filters=SearchFilters.from_json(query.filters),
        image_weight=query.image_weight,
        text_weight=query.text_weight,
        include_same_patient=query.include_same_patient,
        refinement=refinement,
    )


def search_refine(user: Any, query: SearchQuery) -> SearchQuery:
    """Ask a question anew, moved by the reader's own marks on its answers."""
    return search_again(user, query, refinement=refinement_of(user, query))


__all__ = [
    "EncoderUnavailable",
    "Region",
    "mosaic_share",
    "search_again",
    "search_refine",
    "search_run",
]
