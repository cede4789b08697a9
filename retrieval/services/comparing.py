"""The similarity of tissue, as searches order by it: mosaics, and the slide vectors' cosine."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np

from retrieval.codecs import codec_of
from retrieval.engine.mosaic import tokens_from_bytes
from retrieval.engine.ranking import TOKEN_SHARE, best_pairs, mosaic_similarity, pad_tokens
from retrieval.models import EmbeddingModel
from retrieval.querysets import SlideEmbeddingQuerySet, StoredMosaic
from retrieval.services.query_mosaics import ImagePart

PAIRS = 4
# Mosaics that are in memory as float32 at one time.
_BATCH = 1000
# Share of the mosaic of a region or an image; the slide vector's cosine has the rest.
MOSAIC_SHARE_OF_PART = 0.9


@dataclass(frozen=True)
class Comparison:
    """How alike one slide is, and the cosines of the tokens that say so."""

    similarity: float
    asked_places: list[dict[str, float]]
    stored: StoredMosaic
    cosines: np.ndarray

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """Return the places of the best pairs: found for an answer, not for each candidate."""
        places = self.stored.places
        return [
            {
                "query": self.asked_places[pair.query_token],
                "candidate": places[pair.candidate_token],
                "similarity": round(pair.similarity, 4),
            }
            for pair in best_pairs(self.cosines, count=PAIRS)
        ]


def mosaic_share(model: EmbeddingModel, *, whole_slide: bool) -> float:
    """Return the weight of the mosaic in the image similarity; the vectors have the rest."""
    if not whole_slide:
        return MOSAIC_SHARE_OF_PART
    return TOKEN_SHARE if model.token_share is None else model.token_share


def compare_mosaics(
    embeddings: SlideEmbeddingQuerySet,
    part: ImagePart,
    slide_image_ids: Collection[UUID],
    known: Mapping[UUID, StoredMosaic] = MappingProxyType({}),
) -> dict[UUID, Comparison]:
    """Return the exact similarity of those slides of this queryset that have an embedding.

    known: mosaics of this queryset that were read already, with the cosine to this part's vector.
    """
    stored = [known[pk] for pk in slide_image_ids if pk in known]
    missing = [pk for pk in slide_image_ids if pk not in known]
    if missing:
        stored += embeddings.mosaics(
            model=part.model, vector=part.mosaic.slide_vector, slide_image_ids=missing
        )
    if not stored:
        return {}
    # At the precision that is stored with the question: an explanation then finds the same sum.
    asked = tokens_from_bytes(part.mosaic.token_bytes(), part.mosaic.tokens.shape[1])
    of_mosaic = mosaic_share(part.model, whole_slide=part.whole_slide)
    found = {}
    # Tokens that one codec wrote are compared as they are, in its few coordinates.
    for codec_id in {mosaic.codec_id for mosaic in stored}:
        alike = [mosaic for mosaic in stored if mosaic.codec_id == codec_id]
        for batch in range(0, len(alike), _BATCH):
            found |= _compare_batch(alike[batch : batch + _BATCH], codec_id, asked, part, of_mosaic)
    return found


def _compare_batch(
    stored: list[StoredMosaic],
    codec_id: int | None,
    asked: np.ndarray,
    part: ImagePart,
    of_mosaic: float,
) -> dict[UUID, Comparison]:
    data = b"".join(mosaic.data for mosaic in stored)
    shares = [mosaic.shares for mosaic in stored]
    if codec_id is None:
        rows = tokens_from_bytes(data, asked.shape[1])
    else:
        codec = codec_of(codec_id)
        asked, rows = codec.project(asked), codec.decode(data)
    counts = np.array([len(share) for share in shares])
    tokens, weights, present = pad_tokens(rows, np.concatenate(shares), counts)
    by_mosaic, cosines = mosaic_similarity(
        asked,
        place_shares(part.mosaic.places),
        tokens,
        weights,
        present,
        backward=0.5 if part.whole_slide else 0.0,
    )
    return {
        # Rounded: the last bits depend on how many candidates share the matrix product.
        mosaic.slide_image_id: Comparison(
            round(of_mosaic * similarity + (1 - of_mosaic) * mosaic.similarity, 5),
            part.mosaic.places,
            mosaic,
            matrix,
        )
        for mosaic, similarity, matrix in zip(stored, by_mosaic.tolist(), cosines, strict=True)
    }


def place_shares(places: list[dict[str, float]]) -> np.ndarray:
    """Return the shares of the tissue float32 (M,) that places hold."""
    return np.array([place["share"] for place in places], dtype=np.float32)
