"""The similarity of tissue, as searches order by it: mosaics, and the slide vectors' cosine."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np

from retrieval.engine.mosaic import tokens_from_bytes
from retrieval.engine.ranking import TOKEN_SHARE, best_pairs, mosaic_similarity, pad_mosaics
from retrieval.models import EmbeddingModel
from retrieval.querysets import SlideEmbeddingQuerySet
from retrieval.services.query_mosaics import ImagePart

PAIRS = 4
# Share of the mosaic of a region or an image; the slide vector's cosine has the rest.
MOSAIC_SHARE_OF_PART = 0.9


@dataclass(frozen=True)
class Comparison:
    """How alike one slide is, and the places that say so."""

    similarity: float
    pairs: list[dict[str, Any]]


def mosaic_share(model: EmbeddingModel, *, whole_slide: bool) -> float:
    """Return the weight of the mosaic in the image similarity; the vectors have the rest."""
    if not whole_slide:
        return MOSAIC_SHARE_OF_PART
    return TOKEN_SHARE if model.token_share is None else model.token_share


def compare_mosaics(
    embeddings: SlideEmbeddingQuerySet, part: ImagePart, slide_image_ids: Collection[UUID]
) -> dict[UUID, Comparison]:
    """Return the exact similarity of those slides of this queryset that have an embedding."""
    stored = embeddings.mosaics(
        model=part.model, vector=part.mosaic.slide_vector, slide_image_ids=list(slide_image_ids)
    )
    if not stored:
        return {}
    tokens, shares, present = pad_mosaics(
        [mosaic.tokens for mosaic in stored], [_shares(mosaic.places) for mosaic in stored]
    )
    # At the precision that is stored with the question: an explanation then finds the same sum.
    asked = tokens_from_bytes(part.mosaic.token_bytes(), part.mosaic.tokens.shape[1])
    by_mosaic, cosines = mosaic_similarity(
        asked,
        _shares(part.mosaic.places),
        tokens,
        shares,
        present,
        backward=0.5 if part.whole_slide else 0.0,
    )
    of_mosaic = mosaic_share(part.model, whole_slide=part.whole_slide)
    found = {}
    for mosaic, similarity, matrix in zip(stored, by_mosaic.tolist(), cosines, strict=True):
        # Rounded: the last bits depend on how many candidates share the matrix product.
        value = round(of_mosaic * similarity + (1 - of_mosaic) * mosaic.similarity, 5)
        pairs = [
            {
                "query": part.mosaic.places[pair.query_token],
                "candidate": mosaic.places[pair.candidate_token],
                "similarity": round(pair.similarity, 4),
            }
            for pair in best_pairs(matrix, count=PAIRS)
        ]
        found[mosaic.slide_image_id] = Comparison(value, pairs)
    return found


def _shares(places: list[dict[str, float]]) -> np.ndarray:
    return np.array([place["share"] for place in places], dtype=np.float32)
