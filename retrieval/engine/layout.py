"""A map of an archive: slide vectors laid out in a plane, like beside like.

UMAP is fitted on a sample, since its cost and memory grow with the slides; every other slide,
also one that comes later, is put where its nearest slides of the sample lie. Sources: McInnes,
Healy, Melville, "UMAP", arXiv:1802.03426; `docs/decisions/0011-a-map-of-the-archive.md`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SAMPLE_MOST = 20_000
COMPONENTS = 50
NEIGHBOURS = 15
PLACED_BY = 5
# Fewer slides have no neighbourhoods to learn: they are laid out by their principal components.
UMAP_LEAST = 50


@dataclass(frozen=True)
class Layout:
    """A fitted map. sample (S, C): projected vectors; places (S, 2): where they lie."""

    mean: np.ndarray
    axes: np.ndarray
    sample: np.ndarray
    places: np.ndarray

    def place(self, vectors: np.ndarray) -> np.ndarray:
        """Return places (N, 2), float32, of vectors (N, D), by their nearest of the sample.

        A vector of the sample itself comes to lie (nearly) where it was laid out.
        """
        projected = _unit((vectors - self.mean) @ self.axes)
        count = min(PLACED_BY, len(self.sample))
        found = np.empty((len(vectors), 2), np.float32)
        for rows in _batches(len(vectors), 1024):
            likeness = projected[rows] @ self.sample.T
            near = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
            distance = 1 - np.take_along_axis(likeness, near, axis=1)
            weight = 1 / np.maximum(distance, 1e-6)
            weight /= weight.sum(axis=1, keepdims=True)
            found[rows] = (self.places[near] * weight[:, :, None]).sum(axis=1)
        return found


def fit_layout(sample: np.ndarray, *, seed: int = 0) -> Layout:
    """Return the map of sample vectors (S, D), L2-normalised; S at least 1.

    Places are scaled so that the middle 98 % of the sample lie within -1 and 1. The same sample
    and seed give the same map.
    """
    sample = np.asarray(sample, np.float32)
    mean = sample.mean(axis=0)
    centred = sample - mean
    # The axes of the covariance: D x D, whatever the number of slides.
    values, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64) / len(sample))
    axes = axes[:, np.argsort(-values)[:COMPONENTS]].astype(np.float32)
    projected = _unit(centred @ axes)
    places = _umap(projected, seed) if len(sample) >= UMAP_LEAST else (centred @ axes)[:, :2]
    if places.shape[1] < 2:
        places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
    low, high = np.percentile(places, 1, axis=0), np.percentile(places, 99, axis=0)
    span = max(float((high - low).max()) / 2, 1e-9)
    places = ((places - (low + high) / 2) / span).astype(np.float32)
    return Layout(mean, axes, projected, np.clip(places, -2, 2))


def _umap(projected: np.ndarray, seed: int) -> np.ndarray:
    # Imported here: numba takes seconds to load and only the worker that lays out needs it.
    import umap

    reducer = umap.UMAP(
        n_neighbors=min(NEIGHBOURS, len(projected) - 1),
        min_dist=0.1,
        metric="cosine",
        random_state=seed,
        n_jobs=1,  # as the seed asks for
    )
    return np.asarray(reducer.fit_transform(projected))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def _batches(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, start + size)
