"""A slide as a list of numbers that no order of its patches can change."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
# Columns that are sorted at one time: 100,000 patches x 64 columns of float32 are 26 MB.
_COLUMNS = 64


def slide_statistics(features: Floats, quantiles: tuple[float, ...] = QUANTILES) -> Float32Array:
    """Return mean, standard deviation and quantiles of each feature over the patches.

    Parameters
    ----------
    features : float (N, D)
        N >= 1, any order.
    quantiles : tuple of float
        0 to 1, interpolated linearly.

    Returns
    -------
    float32 ((2 + Q) * D,)
        All means, then all standard deviations, then each quantile.

    Raises
    ------
    ValueError
        No patch, or features that are not finite.
    """
    if features.ndim != 2 or not len(features):
        raise ValueError(f"features must be (N, D) with N >= 1, not {features.shape}")
    width = features.shape[1]
    out = np.empty((2 + len(quantiles), width), np.float64)
    for start in range(0, width, _COLUMNS):
        part = features[:, start : start + _COLUMNS].astype(np.float32)
        if not np.isfinite(part).all():
            raise ValueError("features are not finite")
        # Sorted: the sums, too, are then the same for every order.
        part.sort(axis=0)
        columns = slice(start, start + part.shape[1])
        out[0, columns] = part.mean(0, dtype=np.float64)
        out[1, columns] = part.std(0, dtype=np.float64)
        for row, quantile in enumerate(quantiles, start=2):
            position = quantile * (len(part) - 1)
            low = int(position)
            high = min(low + 1, len(part) - 1)
            share = position - low
            out[row, columns] = (1 - share) * part[low] + share * part[high].astype(np.float64)
    return out.ravel().astype(np.float32)


def bag_statistics(
    features: Floats, offsets: npt.NDArray[np.int64], quantiles: tuple[float, ...] = QUANTILES
) -> Float32Array:
    """Return the statistics (S, (2 + Q) * D) of slides that lie one after the other."""
    return np.stack(
        [slide_statistics(features[start:end], quantiles) for start, end in pairwise(offsets)]
    )
