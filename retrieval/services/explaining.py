"""Why a slide is in an answer, and which patches a slide's tokens are made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from django.shortcuts import get_object_or_404

from cases.errors import DomainError
from cases.models import SlideImage
from cases.services.audit import Action, access_event_record
from retrieval.codecs import stored_tokens
from retrieval.engine.errors import EngineError
from retrieval.engine.explain import (
    Explanation,
    PatchAttention,
    explain_similarity,
)
from retrieval.engine.mosaic import Mosaic, tokens_from_bytes
from retrieval.models import EmbeddingModel, SearchHit, SearchQuery, SlideEmbedding, SlideIndex
from retrieval.services.aggregation import AggregatorUnavailable, model_aggregator
from retrieval.services.features import StoredFeatures, features_read
from retrieval.services.models import Modality, active_model
from retrieval.services.search import mosaic_share


class NothingToExplain(DomainError):
    """The answer does not rest on tissue, or what it rested on is gone."""

    http_status = 409
    code = "nothing_to_explain"


@dataclass(frozen=True)
class HitExplanation:
    """The image similarity of a hit, taken apart.

    explanation: its parts; they add up to `image_similarity` unless `is_outdated`, that is,
    unless the slide was indexed again after the question.
    """

    query: SearchQuery
    hit: SearchHit
    rank: int
    explanation: Explanation
    mosaic_share: float
    query_places: list[dict[str, float]]
    candidate_places: list[dict[str, float]]

    @property
    def is_outdated(self) -> bool:
        """Return whether the parts do not add up to what ranked."""
        # The ranking rounds to five digits.
        return abs(self.explanation.similarity - self.hit.image_similarity) > 2e-5


def hit_explain(*, user: Any, query: SearchQuery, rank: int) -> HitExplanation:
    """Return why the hit at this rank, as the user sees the ranks, is like the question.

    The caller has checked that the user may see the query. Hidden hits have no rank: Http404.
    """
    hits = SearchHit.objects.visible_to(user).filter(query=query).order_by("rank")
    hit = hits.select_related("slide_image__slide__case")[rank - 1 : rank] if rank > 0 else hits[:0]
    hit = get_object_or_404(SearchHit.objects.visible_to(user), pk__in=[h.pk for h in hit])
    if query.image_model is None or query.vector is None or hit.image_similarity is None:
        raise NothingToExplain("This answer was found by its words: no tissue was compared.")
    model = query.image_model
    vector = np.asarray(query.vector, np.float32)
    stored = SlideEmbedding.objects.visible_to(user).mosaics(
        model=model, vector=vector, slide_image_ids=[hit.slide_image_id]
    )
    if not stored:
        raise NothingToExplain(
            "The slide is no longer indexed by the model that answered. Ask again."
        )
    whole_slide = query.slide_image_id is not None and query.region is None
    share = mosaic_share(model, whole_slide=whole_slide)
    candidate = stored[0]
    tokens = tokens_from_bytes(bytes(query.mosaic), model.token_width)
    found = stored_tokens(candidate.data, candidate.codec_id, model.token_width)
    explanation = explain_similarity(
        Mosaic(tokens, query.places, vector),
        Mosaic(found, candidate.places, vector),
        vector_similarity=candidate.similarity,
        token_share=share,
        backward=0.5 if whole_slide else 0.0,
    )
    case = hit.slide_image.slide.case
    access_event_record(
        user=user,
        action=Action.VIEW,
        department_id=hit.department_id,
        patient_id=case.patient_id,
        target=hit.slide_image,
        detail={"explanation_of": str(query.pk)},
    )
    return HitExplanation(query, hit, rank, explanation, share, query.places, candidate.places)


@dataclass(frozen=True)
class SlideAttention:
    """The patches of a slide, each with the token that it belongs to most."""

    slide_image: SlideImage
    model: EmbeddingModel
    places: list[dict[str, float]]
    coords_l0: np.ndarray
    size_l0: int
    attention: PatchAttention


def slide_attention(*, user: Any, slide_image: SlideImage) -> SlideAttention:
    """Return the patches behind each token of the active model, from the kept features.

    The caller has checked that the user may see the slide image.
    Raises NoActiveModel, NothingToExplain, FeaturesUnreadable.
    """
    model = active_model(Modality.IMAGE)
    embedding = SlideEmbedding.objects.filter(slide_image=slide_image, model=model).first()
    index = SlideIndex.objects.filter(slide_image=slide_image, model=model).first()
    if embedding is None or index is None or not index.features_path:
        raise NothingToExplain("This slide is not indexed by the active model yet.")
    kept = features_read(index.features_path)
    attention = patch_attention(embedding, kept)
    access_event_record(
        user=user,
        action=Action.VIEW,
        department_id=slide_image.department_id,
        patient_id=slide_image.slide.case.patient_id,
        target=slide_image,
        detail={"attention_of": model.name},
    )
    return SlideAttention(
        slide_image, model, embedding.places, kept.coords_l0, kept.size_l0, attention
    )


def patch_attention(embedding: SlideEmbedding, kept: StoredFeatures) -> PatchAttention:
    """Return the patches behind each token of an embedding. Raises AggregatorUnavailable."""
    model = embedding.model
    tokens = embedding.as_mosaic().tokens
    try:
        return model_aggregator(model).attention(kept.features, kept.coords_l0, tokens)
    except EngineError as error:
        raise AggregatorUnavailable(error.message) from error


__all__ = [
    "HitExplanation",
    "NothingToExplain",
    "SlideAttention",
    "hit_explain",
    "patch_attention",
    "slide_attention",
]
