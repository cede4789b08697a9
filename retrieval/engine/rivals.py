"""Other ways to compare slides, on the same features, for the same tables.

Each is a baseline or a published method that the default model must beat; none is offered to
users. The barcode distance is that of Yottixel (Kalra et al., Medical Image Analysis 2020),
patented in the US as US10628736B2: it is here to be measured only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrieval.engine.aligner.archive import Archive, slide_means
from retrieval.engine.mosaic import normalised, prototypes
from retrieval.engine.ranking import mosaic_similarity, pad_mosaics

Floats = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# (B,) query positions, (G,) gallery positions -> (B, G) similarities.
Similarity = Callable[[Ints, Ints], Float32Array]


@dataclass(frozen=True)
class Rival:
    """A way to compare slides: its name in tables, one line about it, and its scores."""

    name: str
    about: str
    similarity: Similarity


def cosine(vectors: Floats) -> Similarity:
    """Return the cosine between vectors (S, D) of slides."""
    unit = normalised(vectors)
    return lambda queries, gallery: unit[queries] @ unit[gallery].T


def whitened(vectors: Floats, train: Ints, dimension: int) -> Float32Array:
    """Return principal components of unit variance, fitted on the training slides."""
    values = vectors.astype(np.float64)
    centre = values[train].mean(0)
    _, singular, rows = np.linalg.svd(values[train] - centre, full_matrices=False)
    keep = int(min(dimension, (singular > singular[0] * 1e-6).sum()))
    scale = singular[:keep] / np.sqrt(max(1, len(train) - 1))
    return ((values - centre) @ (rows[:keep].T / scale)).astype(np.float32)


def mean_pooling(archive: Archive) -> Rival:
    """Return the naive floor."""
    return Rival("mean", "cosine of mean-pooled features", cosine(slide_means(archive)))


def whitened_mean(archive: Archive, train: Ints, dimension: int = 64) -> Rival:
    """Return the whitened mean."""
    vectors = whitened(slide_means(archive), train, dimension)
    return Rival(
        "whitened mean", f"{vectors.shape[1]} whitened components of the mean", cosine(vectors)
    )


@dataclass(frozen=True)
class RawMosaics:
    """Mosaics over the features as they come.

    Attributes
    ----------
    tokens : float32 (S, M, D), shares : float32 (S, M), present : bool (S, M)
        Centred prototypes as in the first search of this project.
    patches : float32 (S, M, D)
        The features of the real patch nearest to each prototype.
    vectors : float32 (S, D)
        Centred unit means.
    """

    tokens: Float32Array
    shares: Float32Array
    present: npt.NDArray[np.bool_]
    patches: Float32Array
    vectors: Float32Array


def raw_mosaics(archive: Archive, train: Ints, token_count: int = 16) -> RawMosaics:
    """Return the mosaics of all slides; the centre is that of the training slides."""
    centre = slide_means(archive)[train].mean(0)
    mosaics, patches = [], []
    for slide in range(len(archive)):
        features = archive.bag(slide).astype(np.float32)
        places = np.stack([np.zeros(len(features)), np.arange(len(features))], 1).astype(np.int64)
        mosaic = prototypes(features, places, 1, token_count=token_count, centre=centre)
        mosaics.append(mosaic)
        patches.append(features[[int(place["y_l0"]) for place in mosaic.places]])
    shares = [np.array([p["share"] for p in m.places], np.float32) for m in mosaics]
    tokens, weights, present = pad_mosaics([m.tokens for m in mosaics], shares)
    real, _, _ = pad_mosaics(patches, shares)
    return RawMosaics(tokens, weights, present, real, np.stack([m.slide_vector for m in mosaics]))


def prototype_search(mosaics: RawMosaics) -> Rival:
    """Return the first search of this project: prototypes, compared both ways by share."""

    def similarity(queries: Ints, gallery: Ints) -> Float32Array:
        return _late_interaction(mosaics, queries, gallery, symmetric=True)

    return Rival("prototypes", "16 centred prototypes, symmetric late interaction", similarity)


def max_pooled_sets(mosaics: RawMosaics) -> Rival:
    """Return set matching: each query token takes its best match; one way, unweighted."""

    def similarity(queries: Ints, gallery: Ints) -> Float32Array:
        return _late_interaction(mosaics, queries, gallery, symmetric=False)

    return Rival("max-pooled sets", "mean of the best cosine of each query token", similarity)


def _late_interaction(
    mosaics: RawMosaics, queries: Ints, gallery: Ints, *, symmetric: bool
) -> Float32Array:
    out = np.empty((len(queries), len(gallery)), np.float32)
    tokens, shares = mosaics.tokens[gallery], mosaics.shares[gallery]
    present = mosaics.present[gallery]
    for row, query in enumerate(queries):
        own = mosaics.present[query]
        weights = mosaics.shares[query][own] if symmetric else np.ones(own.sum(), np.float32)
        out[row] = mosaic_similarity(
            mosaics.tokens[query][own],
            weights,
            tokens,
            shares,
            present,
            backward=0.5 if symmetric else 0.0,
        )[0]
    return out


def barcodes(features: Floats) -> npt.NDArray[np.uint8]:
    """Return packed signs of the first difference along the features: (..., ceil((D-1)/8))."""
    return np.packbits(np.diff(features.astype(np.float32), axis=-1) > 0, axis=-1)


def barcode_distances(
    query: npt.NDArray[np.uint8],
    candidates: npt.NDArray[np.uint8],
    present: npt.NDArray[np.bool_],
) -> Float32Array:
    """Return the median over the query's barcodes of the least Hamming distance.

    Parameters
    ----------
    query : uint8 (Mq, W)
    candidates : uint8 (C, Mc, W), present : bool (C, Mc)

    Returns
    -------
    float32 (C,)
        In bits.
    """
    least = np.empty((len(query), len(candidates)), np.float32)
    for row, code in enumerate(query):
        apart = np.bitwise_count(candidates ^ code).sum(-1, dtype=np.int64)
        least[row] = np.where(present, apart, np.iinfo(np.int64).max).min(1)
    return np.median(least, axis=0).astype(np.float32)


def mosaic_patches(kinds: Floats, places: Ints, *, clusters: int = 9, share: float = 0.05) -> Ints:
    """Return the patches of a Yottixel mosaic: by colour first, then by place.

    The patches are clustered by their colour; each cluster gives the same share of its patches,
    spread over the slide by a second clustering of their places, one patch nearest to each
    centre. The outcome does not depend on the order of the patches.

    Parameters
    ----------
    kinds : float (N, C)
        Mean colour of each patch, or its features where no colour is known.
    places : int64 (N, 2)
        Corners, in any unit.
    clusters : int
        Of colours; the published number.
    share : float, 0 to 1
        Of each cluster; at least one patch. The published share.

    Returns
    -------
    int64 (P,)
        Positions among the N.
    """
    order = np.lexsort((places[:, 0], places[:, 1]))
    colours, spots = np.asarray(kinds, np.float64)[order], places.astype(np.float64)[order]
    chosen: list[int] = []
    kind_of = _nearest(colours, _k_means(colours, clusters))
    for kind in np.unique(kind_of):
        members = np.flatnonzero(kind_of == kind)
        centres = _k_means(spots[members], max(1, round(share * len(members))))
        apart = ((spots[members][:, None] - centres[None]) ** 2).sum(-1)
        chosen.extend(members[apart.argmin(0)].tolist())
    return order[np.unique(chosen)].astype(np.int64)


def _k_means(points: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Return at most `count` centres; the starts are far apart from each other, not drawn."""
    centres = [points[0]]
    apart = ((points - centres[0]) ** 2).sum(-1)
    while len(centres) < count and apart.max() > 0:
        centres.append(points[int(apart.argmax())])
        apart = np.minimum(apart, ((points - centres[-1]) ** 2).sum(-1))
    made = np.stack(centres)
    for _ in range(20):
        nearest = _nearest(points, made)
        moved = np.stack(
            [
                points[nearest == c].mean(0) if (nearest == c).any() else made[c]
                for c in range(len(made))
            ]
        )
        if (moved == made).all():
            break
        made = moved
    return made


def _nearest(points: npt.NDArray[np.float64], centres: npt.NDArray[np.float64]) -> Ints:
    apart = (centres**2).sum(-1) - 2 * points @ centres.T
    return np.asarray(apart.argmin(1), np.int64)


def bunch_of_barcodes(mosaics: RawMosaics) -> Rival:
    """Return a Yottixel-style mosaic: real patches, barcodes, median of the minimum.

    Yottixel takes patches by colour, then by place: `mosaic_patches`, where a mosaic was made
    of pixels. A plain archive has neither, so that `raw_mosaics` takes the patches nearest to
    the clusters of the features.
    """
    codes = barcodes(mosaics.patches)

    def similarity(queries: Ints, gallery: Ints) -> Float32Array:
        chosen, present = codes[gallery], mosaics.present[gallery]
        rows = [
            barcode_distances(codes[query][mosaics.present[query]], chosen, present)
            for query in queries
        ]
        return -np.stack(rows)

    return Rival("Yottixel-style", "barcodes of 16 patches, median of minimum", similarity)


def reference_distance(tokens: Floats, vectors: Floats, *, weight: float = 200.0) -> Similarity:
    """Return the reference configuration's own comparison, negated.

    Parameters
    ----------
    tokens : float (S, M, D), vectors : float (S, D)
        L2-normalised mosaic tokens and slide embeddings.
    weight : float
        Of the Euclidean distance between the embeddings, beside Hamming distances in bits.
    """
    whole = np.concatenate([tokens, vectors[:, None]], axis=1)
    codes = barcodes(whole)
    present = np.ones(codes.shape[:2], bool)
    unit = vectors.astype(np.float32)

    def similarity(queries: Ints, gallery: Ints) -> Float32Array:
        rows = []
        for query in queries:
            hamming = barcode_distances(codes[query], codes[gallery], present[gallery])
            apart = np.linalg.norm(unit[gallery] - unit[query], axis=1)
            rows.append(-(hamming + weight * apart))
        return np.stack(rows).astype(np.float32)

    return similarity
