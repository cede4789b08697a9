"""Answers a question: filter, candidates, re-rank, fuse, store.

Everything that is counted, compared or ranked comes from querysets that are visible to the
asker and filtered before any LIMIT, so that an answer says nothing about hidden rows.
"""

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet

from cases.models import SlideImage
from cases.permissions import departments_with
from cases.services.audit import Action, access_event_record
from retrieval.engine.ranking import competition_ranks, reciprocal_rank_fusion
from retrieval.filters import SearchFilters, other_people
from retrieval.models import EmbeddingModel, SearchHit, SearchQuery, SlideEmbedding
from retrieval.services.comparing import compare_mosaics, mosaic_share
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
from retrieval.services.text_search import (
    TextPart,
    TextScore,
    slides_near_words,
    text_nearest,
    text_part,
    text_score,
    words_to_slides,
)

# Slides taken from the slide vectors to be compared mosaic by mosaic. A region may fill a
# small part of a slide and sway its vector little, so more of them are looked at.
CANDIDATES = 200
CANDIDATES_FOR_PART = 500
TEXT_CANDIDATES = 200
LIMIT_MAX = 200
TEXT_MAX = 1000
WEIGHT_MAX = 10.0
TEXT_SHARE_OF_CONDITION = 0.01


@dataclass
class _Evidence:
    """What is known of one candidate."""

    case_id: UUID
    image_similarity: float | None = None
    image_order: float | None = None  # the similarity, or what marks made of it
    pairs: list[dict[str, Any]] = field(default_factory=list)
    text: TextScore | None = None
    words_to_tissue: float | None = None


@dataclass(frozen=True)
class _Scope:
    """The slides that may answer: visible to the user, filtered, of other people."""

    user: Any
    filters: SearchFilters
    part: ImagePart | None
    include_same_patient: bool
    words: TextPart | None = None

    def _condition(self, prefix: str) -> Q:
        condition = self.filters.condition(self.user, prefix=prefix)
        if self.part and self.part.slide_image:
            condition &= ~Q(**{f"{prefix}pk": self.part.slide_image.pk})
        if self.part and self.part.patient and not self.include_same_patient:
            condition &= other_people(self.part.patient, prefix=prefix)
        if self.part and self.words:
            condition &= self.words.condition(self.user, prefix)
        return condition

    def slide_images(self) -> QuerySet[SlideImage]:
        return SlideImage.objects.visible_to(self.user).filter(self._condition(""))

    def embeddings(self) -> QuerySet[SlideEmbedding]:
        return SlideEmbedding.objects.visible_to(self.user).filter(self._condition("slide_image__"))


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
    started = time.perf_counter()
    text = " ".join(text.replace("\x00", " ").split())
    filters = filters or SearchFilters()
    _check(slide_image, region, image, repeat, text, image_weight, text_weight)
    part = _image_part(slide_image, region, image, image_mpp, repeat)
    words = text_part(user, text, filters=filters, is_literal=is_literal)
    if not part and not words:
        raise QueryRefused(
            "Nothing is asked: give words, an image, or a slide.", code="nothing_asked"
        )
    if refinement and not part and (words is None or words.vector is None):
        raise QueryRefused(
            "Marks move tissue or meaning, and this question has neither: the encoder of meaning "
            "was not available. Ask again later.",
            code="nothing_to_move",
        )
    scope = _Scope(user, filters, part, include_same_patient, words if text_weight else None)
    # "Like this slide, but …": the words say which slides, the tissue in what order.
    share = TEXT_SHARE_OF_CONDITION if part and words and words.is_condition else 1.0
    with transaction.atomic():
        if words and refinement:
            words = refinement.moved_words(user, words)
            words.notices.append(refinement.notice)
        elif part and refinement:
            part.notices.append(refinement.notice)
        found = _evidence(scope, part, words, refinement)
        hits = _fused(found, image_weight=image_weight, text_weight=text_weight * share)
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
            hits=hits[: max(1, min(limit, LIMIT_MAX))],
            started=started,
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


def _evidence(
    scope: _Scope,
    part: ImagePart | None,
    words: TextPart | None,
    refinement: Refinement | None = None,
) -> dict[UUID, _Evidence]:
    """Return what is known of every candidate of either part, each compared in both."""
    slide_ids: set[UUID] = set()
    case_ids: set[UUID] = set()
    if part:
        seen = SlideEmbedding.objects.visible_to(scope.user)
        aim = refinement.moved_part(seen, part) if refinement else part
        near = scope.embeddings().nearest(
            model=part.model,
            vector=aim.mosaic.slide_vector,
            limit=CANDIDATES if part.whole_slide else CANDIDATES_FOR_PART,
            key="slide_image_id",
        )
        slide_ids = {neighbour.key for neighbour in near}
    if words:
        case_ids = text_nearest(scope.user, scope.slide_images(), words, limit=TEXT_CANDIDATES)
        slide_ids |= slides_near_words(scope.user, scope.embeddings(), words, limit=TEXT_CANDIDATES)
    candidates = scope.slide_images().filter(Q(pk__in=slide_ids) | Q(slide__case_id__in=case_ids))
    found = {
        pk: _Evidence(case_id)
        for pk, case_id in candidates.order_by("pk").values_list("pk", "slide__case_id")
    }
    if part and found:
        _compare(scope, part, found, refinement)
    if words and found:
        scores = text_score(scope.user, {evidence.case_id for evidence in found.values()}, words)
        for evidence in found.values():
            evidence.text = scores.get(evidence.case_id)
        for pk, similarity in words_to_slides(scope.user, scope.embeddings(), words, found).items():
            found[pk].words_to_tissue = similarity
    return found


def _compare(
    scope: _Scope, part: ImagePart, found: dict[UUID, _Evidence], refinement: Refinement | None
) -> None:
    compared = compare_mosaics(scope.embeddings(), part, found)
    for pk, comparison in compared.items():
        found[pk].image_similarity = found[pk].image_order = comparison.similarity
        found[pk].pairs = comparison.pairs
    if refinement:
        similarities = {pk: comparison.similarity for pk, comparison in compared.items()}
        seen = SlideEmbedding.objects.visible_to(scope.user)
        for pk, score in refinement.scores(seen, part.model, similarities).items():
            found[pk].image_order = score


def _fused(
    found: dict[UUID, _Evidence], *, image_weight: float, text_weight: float
) -> list[SearchHit]:
    """Return the hits, best first, with their ranks in each part."""
    by_image = competition_ranks(
        {pk: e.image_order for pk, e in found.items() if e.image_order is not None}
    )
    by_text = _text_ranks(found)
    scores = reciprocal_rank_fusion([(by_image, image_weight), (by_text, text_weight)])
    order = sorted(scores, key=lambda pk: (-scores[pk], -(found[pk].image_order or -1), str(pk)))
    return [
        SearchHit(
            rank=rank,
            slide_image_id=pk,
            score=scores[pk],
            image_similarity=found[pk].image_similarity,
            image_rank=by_image.get(pk),
            text_rank=by_text.get(pk),
            text_similarity=found[pk].text.similarity if found[pk].text else None,
            tissue_text_similarity=found[pk].words_to_tissue,
            full_text_match=bool(found[pk].text and found[pk].text.full_text_rank is not None),
            pairs=found[pk].pairs,
        )
        for rank, pk in enumerate(order, start=1)
    ]


def _text_ranks(found: dict[UUID, _Evidence]) -> dict[UUID, int]:
    """Return ranks by words, meaning and tissue together; slides of a case share the first two."""
    texts = {e.case_id: e.text for e in found.values() if e.text}
    by_words = competition_ranks(
        {case: t.full_text_rank for case, t in texts.items() if t.full_text_rank is not None}
    )
    by_meaning = competition_ranks(
        {case: t.similarity for case, t in texts.items() if t.similarity is not None}
    )
    by_tissue = competition_ranks(
        {pk: e.words_to_tissue for pk, e in found.items() if e.words_to_tissue is not None}
    )
    # "No evidence of carcinoma" is near in meaning to "carcinoma", and the last to answer it.
    against = {case for case, text in texts.items() if text.contradicts}
    if not by_tissue:
        fused = reciprocal_rank_fusion([(by_words, 1.0), (by_meaning, 1.0)])
        by_case = competition_ranks({c: score - (c in against) for c, score in fused.items()})
        return {pk: by_case[e.case_id] for pk, e in found.items() if e.case_id in by_case}
    parts = [
        {pk: ranks[e.case_id] for pk, e in found.items() if e.case_id in ranks}
        for ranks in (by_words, by_meaning)
    ]
    fused = reciprocal_rank_fusion([(part, 1.0) for part in (*parts, by_tissue)])
    return competition_ranks(
        {pk: score - (found[pk].case_id in against) for pk, score in fused.items()}
    )


def _stored(
    user: Any,
    *,
    part: ImagePart | None,
    words: TextPart | None,
    hits: list[SearchHit],
    started: float,
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
    query.seconds = round(time.perf_counter() - started, 3)
    query.save()
    owners = dict(
        SlideImage.objects.filter(pk__in=[hit.slide_image_id for hit in hits]).values_list(
            "pk", "department_id"
        )
    )
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


def search_refine(user: Any, query: SearchQuery) -> SearchQuery:
    """Ask a question anew, moved by the reader's own marks on its answers; stored as a new one.

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
        refinement=refinement_of(user, query),
    )


__all__ = ["EncoderUnavailable", "Region", "mosaic_share", "search_refine", "search_run"]
