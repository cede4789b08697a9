"""From patch features to a slide: its vector and its tissue prototypes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

# Rows that are in float32 at one time: 8192 x 1280 are 40 MB.
_CHUNK = 8192
# k-means fits on at most this many patches, evenly over the slide; all are then assigned.
_FIT_MAX = 20000
_ITERATIONS = 30


@dataclass(frozen=True)
class Mosaic:
    """A slide, or a query, in the space of one embedding model.

    Attributes
    ----------
    tokens : float32 (M, D)
        L2-normalised prototypes, the most common tissue first. M is at most the model's
        token count; fewer where there are fewer patches.
    places : list of dict
        Per token ``x_l0``, ``y_l0``, ``size_l0`` of the patch nearest to it, and ``share``:
        the part of the tissue it stands for, 0 to 1.
    slide_vector : float32 (D,)
        L2-normalised centred mean of the features.
    """

    tokens: Float32Array
    places: list[dict[str, float]]
    slide_vector: Float32Array

    def token_bytes(self) -> bytes:
        """Return the tokens as they are stored: float16 (M, D), row-major."""
        return self.tokens.astype("<f2").tobytes()


def tokens_from_bytes(data: bytes, dimension: int) -> Float32Array:
    """Return float32 (M, D) of stored tokens."""
    return np.frombuffer(data, "<f2").reshape(-1, dimension).astype(np.float32)


def normalised(vectors: FloatArray) -> Float32Array:
    """Return the vectors at length one; a zero vector stays zero."""
    vectors = np.asarray(vectors, np.float32)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(length > 0, length, 1)).astype(np.float32, copy=False)


def _unit(features: FloatArray, centre: Float32Array | None) -> Float32Array:
    rows = features.astype(np.float32)
    return normalised(rows if centre is None else rows - centre)


def _chunks(count: int) -> list[slice]:
    return [slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]


def _seeds(points: Float32Array, count: int, generator: np.random.Generator) -> Float32Array:
    """Return k-means++ starts (Arthur and Vassilvitskii 2007); fewer where points repeat."""
    chosen = [int(generator.integers(len(points)))]
    distance = 2 - 2 * points @ points[chosen[0]]
    while len(chosen) < count:
        weight = np.where(distance > 1e-6, distance, 0).astype(np.float64)
        total = weight.sum()
        if total <= 0:
            break
        chosen.append(int(generator.choice(len(points), p=weight / total)))
        distance = np.minimum(distance, 2 - 2 * points @ points[chosen[-1]])
    return points[chosen]


def _spherical_k_means(points: Float32Array, count: int, seed: int) -> Float32Array:
    """Return at most `count` L2-normalised centres (M, D) of unit vectors (N, D)."""
    centres = _seeds(points, count, np.random.default_rng(seed))
    previous = np.full(len(points), -1)
    for _ in range(_ITERATIONS):
        similarity = points @ centres.T
        nearest = similarity.argmax(1)
        if (nearest == previous).all():
            break
        previous = nearest
        members = np.zeros((len(points), len(centres)), np.float32)
        members[np.arange(len(points)), nearest] = 1
        sums = members.T @ points
        empty = members.sum(0) == 0
        # An emptied centre moves to the patch that is worst represented.
        if empty.any():
            worst = np.argsort(similarity.max(1), kind="stable")[: int(empty.sum())]
            sums[empty] = points[worst]
        centres = normalised(sums)
    return centres


def prototypes(
    features: FloatArray,
    coords_l0: IntArray,
    size_l0: int,
    *,
    token_count: int = 16,
    centre: Float32Array | None = None,
    seed: int = 0,
) -> Mosaic:
    """Return the slide vector and at most `token_count` tissue prototypes.

    The prototypes are centres of a spherical k-means over the centred, L2-normalised
    features. The outcome is the same for the same patches in any order.

    Parameters
    ----------
    features : float (N, D)
        One row a patch, N >= 1; float16 is read piece by piece, so that a large slide needs
        no second copy.
    coords_l0 : int64 (N, 2)
        Upper left corners (x, y) in level-0 pixels.
    size_l0 : int
        Side of a patch in level-0 pixels.
    token_count : int
        Most prototypes; N patches give at most N.
    centre : float32 (D,), optional
        Subtracted first. Features after a ReLU are never negative: without it all cosines
        are high and alike.
    seed : int
        Of the k-means starts.

    Raises
    ------
    ValueError
        No patch, lengths that disagree, or features that are not finite.
    """
    if not len(features) or len(features) != len(coords_l0):
        raise ValueError(f"{len(features)} features for {len(coords_l0)} patches")
    # By row, then column: the order in which patches were read must not matter.
    order = np.lexsort((coords_l0[:, 0], coords_l0[:, 1]))
    fit = order
    if len(order) > _FIT_MAX:
        fit = order[np.linspace(0, len(order) - 1, _FIT_MAX).round().astype(np.int64)]
    centres = _spherical_k_means(_unit(features[fit], centre), token_count, seed)

    dimension = features.shape[1]
    total = np.zeros(dimension, np.float64)
    sums = np.zeros((len(centres), dimension), np.float64)
    nearest = np.empty(len(order), np.int64)
    for part in _chunks(len(order)):
        rows = features[order[part]].astype(np.float32)
        total += rows.sum(0, dtype=np.float64)
        points = _unit(rows, centre)
        nearest[part] = (points @ centres.T).argmax(1)
        # Far faster than np.add.at, and without a float64 copy of the rows.
        for cluster in range(len(centres)):
            sums[cluster] += points[nearest[part] == cluster].sum(0, dtype=np.float64)
    if not np.isfinite(total).all():
        raise ValueError("features are not finite")
    counts = np.bincount(nearest, minlength=len(centres))
    used = np.flatnonzero(counts)
    tokens = normalised(sums[used])

    best = np.full(len(used), -np.inf, np.float32)
    best_at = np.zeros(len(used), np.int64)
    for part in _chunks(len(order)):
        similarity = _unit(features[order[part]], centre) @ tokens.T
        similarity[nearest[part][:, None] != used[None, :]] = -np.inf
        found = similarity.argmax(0)
        value = similarity[found, np.arange(len(used))]
        better = value > best
        best[better] = value[better]
        best_at[better] = part.start + found[better]

    mean = (total / len(order)).astype(np.float32)
    vector = normalised(mean if centre is None else mean - centre)
    places = [
        {
            "x_l0": int(coords_l0[order[at], 0]),
            "y_l0": int(coords_l0[order[at], 1]),
            "size_l0": int(size_l0),
            "share": round(float(counts[cluster]) / len(order), 6),
        }
        for at, cluster in zip(best_at, used, strict=True)
    ]
    ranked = sorted(range(len(used)), key=lambda i: (-counts[used[i]], best_at[i]))
    return Mosaic(tokens[ranked], [places[index] for index in ranked], vector)
