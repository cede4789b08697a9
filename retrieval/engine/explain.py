"""Why a slide is where it is in an answer: shares of the score, matched tokens, attention.

Every explanation is of the very numbers that ranked: the parts add up to the score. NumPy only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrieval.engine.mosaic import Mosaic, normalised
from retrieval.engine.ranking import normalised_shares, pad_mosaics, token_similarities
from retrieval.engine.rivals import barcodes

Floats = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Rows of float32 patches that are compared with the tokens at one time.
_CHUNK = 8192


@dataclass(frozen=True)
class TokenMatch:
    """One pair of tokens that the similarity rests on.

    Attributes
    ----------
    query_token, candidate_token : int
        Positions in the two mosaics; their places are at the same positions.
    cosine : float
    forward : float
        What the pair adds as the query token's best match.
    backward : float
        What it adds as the candidate token's best match.
    """

    query_token: int
    candidate_token: int
    cosine: float
    forward: float
    backward: float

    @property
    def contribution(self) -> float:
        """Return what the pair adds to the similarity."""
        return self.forward + self.backward


@dataclass(frozen=True)
class Explanation:
    """A similarity taken apart.

    Attributes
    ----------
    similarity : float
        The sum of `vector_part` and of the contributions of all matches.
    vector_part : float
        What the cosine of the slide vectors adds.
    matches : list of TokenMatch
        All pairs that add something, most first.
    """

    similarity: float
    vector_part: float
    matches: list[TokenMatch]

    @property
    def token_part(self) -> float:
        """Return what the tokens add."""
        return sum(match.contribution for match in self.matches)


def explain_similarity(
    query: Mosaic,
    candidate: Mosaic,
    *,
    vector_similarity: float,
    token_share: float,
    backward: float = 0.5,
) -> Explanation:
    """Return the parts of the similarity that `ranking.mosaic_similarity` gives with a vector.

    similarity = (1 - token_share) * cosine of the vectors + token_share * late interaction.

    Parameters
    ----------
    query, candidate : Mosaic
        Their places hold the share of the tissue of each token.
    vector_similarity : float
        Cosine of the two slide vectors, as the ranking took it.
    token_share : float, 0 to 1
    backward : float, 0 to 1
        0.5 for slide against slide, 0 for a region or an image.

    Raises
    ------
    ValueError
        A share out of range, or mosaics of different widths.
    """
    if not 0 <= token_share <= 1 or not 0 <= backward <= 1:
        raise ValueError("token_share and backward must lie between 0 and 1")
    if query.tokens.shape[1] != candidate.tokens.shape[1]:
        raise ValueError("query and candidate must be mosaics of the same width")
    # As the ranking does it: shares of the candidate as padding leaves them.
    shares = [np.array([p["share"] for p in m.places], np.float32) for m in (query, candidate)]
    tokens, candidate_shares, _ = pad_mosaics([candidate.tokens], [shares[1]])
    cosines = token_similarities(query.tokens, tokens)[0]
    forward_weights = normalised_shares(shares[0]).astype(np.float64) * (1 - backward)
    backward_weights = candidate_shares[0].astype(np.float64) * backward
    parts: dict[tuple[int, int], list[float]] = {}
    for i, j in enumerate(cosines.argmax(1)):
        parts.setdefault((i, int(j)), [0.0, 0.0])[0] = float(forward_weights[i] * cosines[i, j])
    for j, i in enumerate(cosines.argmax(0)):
        parts.setdefault((int(i), j), [0.0, 0.0])[1] = float(backward_weights[j] * cosines[i, j])
    matches = [
        TokenMatch(i, j, float(cosines[i, j]), token_share * there, token_share * back)
        for (i, j), (there, back) in parts.items()
        if there or back
    ]
    matches.sort(key=lambda m: (-m.contribution, m.query_token, m.candidate_token))
    vector_part = (1 - token_share) * vector_similarity
    return Explanation(
        similarity=vector_part + sum(match.contribution for match in matches),
        vector_part=vector_part,
        matches=matches,
    )


@dataclass(frozen=True)
class DistancePart:
    """One barcode of the query in the reference configuration's distance.

    Attributes
    ----------
    query_token, candidate_token : int
        M stands for the slide embedding, which is the last barcode.
    bits : float
        Hamming distance to the nearest barcode of the candidate.
    contribution : float
        What it adds to the distance: the median's one or two middle barcodes share it, the
        others add nothing.
    """

    query_token: int
    candidate_token: int
    bits: float
    contribution: float


@dataclass(frozen=True)
class DistanceExplanation:
    """The reference configuration's distance: `barcode` parts and the embeddings' own part."""

    distance: float
    vector_part: float
    parts: list[DistancePart]


def explain_reference_distance(
    query_tokens: Floats,
    query_vector: Floats,
    candidate_tokens: Floats,
    candidate_vector: Floats,
    *,
    weight: float = 200.0,
) -> DistanceExplanation:
    """Return the parts of `rivals.reference_distance` for one pair of slides.

    Parameters
    ----------
    query_tokens, candidate_tokens : float (M, D)
    query_vector, candidate_vector : float (D,)
        L2-normalised.
    weight : float
        Of the Euclidean distance, beside bits.
    """
    codes = [
        barcodes(np.concatenate([tokens, vector[None]]))
        for tokens, vector in (
            (query_tokens, query_vector),
            (candidate_tokens, candidate_vector),
        )
    ]
    bits = np.bitwise_count(codes[0][:, None] ^ codes[1][None]).sum(-1, dtype=np.int64)
    nearest = bits.argmin(1)
    least = bits.min(1)
    order = np.argsort(least, kind="stable")
    middle = {int(order[(len(order) - 1) // 2]), int(order[len(order) // 2])}
    parts = [
        DistancePart(
            row,
            int(nearest[row]),
            float(least[row]),
            float(least[row]) / len(middle) if row in middle else 0.0,
        )
        for row in range(len(least))
    ]
    apart = np.linalg.norm(query_vector.astype(np.float32) - candidate_vector.astype(np.float32))
    vector_part = weight * float(apart)
    return DistanceExplanation(sum(p.contribution for p in parts) + vector_part, vector_part, parts)


@dataclass(frozen=True)
class PatchAttention:
    """What each token of a slide was made of.

    Attributes
    ----------
    weights : float32 (M, N)
        Share of each patch in each token; a row sums to 1.
    nearest : int64 (N,)
        The token that a patch belongs to most.
    likeness : float32 (N,)
        Cosine of the patch to that token; for the reference configuration, whose tokens lie in
        another space than its patches, the patch's share as part of the largest of its token.
    """

    weights: Float32Array
    nearest: Ints
    likeness: Float32Array


def assigned_patches(
    features: Floats, tokens: Floats, *, project: Callable[[Floats], Floats] = np.asarray
) -> PatchAttention:
    """Return the patches behind tokens that are centres of clusters.

    A token is the normalised sum of its cluster's patches, each at length one: every patch of
    the cluster has the same share, and the others none. The cluster of a patch is that of the
    nearest token, which is where the clustering ended if it came to rest.

    Parameters
    ----------
    features : float (N, D_in)
    tokens : float (M, D)
    project : callable
        From features (n, D_in) to the centred points (n, D) that were clustered, of any length;
        it is given a large slide piece by piece.

    Raises
    ------
    ValueError
        No patch, no token, or different widths.
    """
    if features.ndim != 2 or tokens.ndim != 2 or not len(features) or not len(tokens):
        raise ValueError("a slide has at least one patch and one token")
    count, unit = len(features), normalised(tokens)
    nearest = np.empty(count, np.int64)
    likeness = np.empty(count, np.float32)
    for start in range(0, count, _CHUNK):
        part = slice(start, min(start + _CHUNK, count))
        points = normalised(project(features[part]))
        if points.shape[1] != tokens.shape[1]:
            raise ValueError(f"tokens have {tokens.shape[1]} values, patches {points.shape[1]}")
        cosines = points @ unit.T
        nearest[part] = cosines.argmax(1)
        likeness[part] = cosines.max(1)
    weights = np.zeros((len(tokens), count), np.float32)
    sizes = np.bincount(nearest, minlength=len(tokens))
    weights[nearest, np.arange(count)] = 1 / sizes[nearest]
    return PatchAttention(weights, nearest, likeness)


def pooled_patches(attention: Floats) -> PatchAttention:
    """Return the patches behind the reference configuration's tokens.

    Parameters
    ----------
    attention : float (M, N)
        As `aggregator.Aggregated` gives it for one slide: a row sums to 1.
    """
    weights = np.asarray(attention, np.float32)
    relative = weights / np.maximum(weights.max(1, keepdims=True), 1e-12)
    nearest = relative.argmax(0).astype(np.int64)
    return PatchAttention(weights, nearest, relative.max(0).astype(np.float32))
