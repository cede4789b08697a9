"""Linear discriminants in closed form: what tells labels apart, against what hospitals vary.

Variation inside a label, which the discriminant divides by, is mostly that of hospitals, stains
and scanners: this is what makes the outcome hold in hospitals that were never seen.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

Floats = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


# Weight of plain variation beside the labels when directions are chosen.
_VARIATION = 0.1


@dataclass(frozen=True)
class Discriminant:
    """A fitted discriminant over inputs of width D and C labels.

    Attributes
    ----------
    centre, scale : float32 (D,)
        Inputs are standardised by these first.
    weight : float32 (D, C), bias : float32 (C,)
        Give the label scores: log densities up to a term that all labels share, without the
        labels' frequencies, which differ between hospitals.
    directions : float32 (D, K)
        The K directions that tell labels apart best, each of unit variance inside a label.
    """

    centre: Float32Array
    scale: Float32Array
    weight: Float32Array
    bias: Float32Array
    directions: Float32Array

    def standardised(self, inputs: Floats) -> Float32Array:
        """Return (n, D) inputs at the training data's centre and scale."""
        return ((inputs.astype(np.float32) - self.centre) / self.scale).astype(np.float32)

    def scores(self, inputs: Floats) -> Float32Array:
        """Return the label scores (n, C) of inputs (n, D)."""
        return self.standardised(inputs) @ self.weight + self.bias

    def project(self, inputs: Floats) -> Float32Array:
        """Return (n, K): inputs along the discriminating directions."""
        # Piece by piece: a large slide needs no second copy of its features.
        out = np.empty((len(inputs), self.directions.shape[1]), np.float32)
        for part in _chunks(len(inputs)):
            out[part] = self.standardised(inputs[part]) @ self.directions
        return out


@dataclass(frozen=True)
class Whitening:
    """Main axes of variation, each of unit variance: `centre` (D,) and `axes` (D, L)."""

    centre: Float32Array
    axes: Float32Array

    def project(self, inputs: Floats) -> Float32Array:
        """Return inputs (n, D) along the axes: (n, L)."""
        return ((inputs - self.centre) @ self.axes).astype(np.float32)


def fit_whitening(inputs: Floats, count: int) -> Whitening:
    """Return the first principal axes of inputs (n, D), at most `count` and what n allows."""
    values = inputs.astype(np.float64)
    centre = values.mean(0)
    _, singular, rows = np.linalg.svd(values - centre, full_matrices=False)
    keep = int(min(count, (singular > singular[0] * 1e-6).sum()))
    axes = rows[:keep].T
    strongest = axes[np.abs(axes).argmax(0), np.arange(keep)]
    scale = np.sqrt(len(values)) / singular[:keep] * np.where(strongest < 0, -1, 1)
    return Whitening(_stored(centre), _stored(axes * scale))


def fit_discriminant(
    inputs: Floats,
    labels: Ints,
    *,
    label_count: int,
    shrinkage: float,
    direction_count: int = 0,
    weights: Doubles | None = None,
) -> Discriminant:
    """Fit a linear discriminant with a shrunk covariance.

    Parameters
    ----------
    inputs : float (n, D)
        May be float16; standardised piece by piece.
    labels : int (n,)
        0 to `label_count` - 1. A label that is never there gets the lowest scores.
    shrinkage : float, 0 to 1
        Part of the within-label covariance replaced by a multiple of the identity. Friedman,
        "Regularized Discriminant Analysis", JASA 1989.
    direction_count : int
        K; at most D.
    weights : float (n,), optional
        Of each input; a slide's patches share one weight.

    Raises
    ------
    ValueError
        Fewer than two labels, or lengths that disagree.
    """
    if len(inputs) != len(labels) or (weights is not None and len(weights) != len(labels)):
        raise ValueError("inputs, labels and weights differ in number")
    if not 0 <= shrinkage <= 1:
        raise ValueError("shrinkage must lie between 0 and 1")
    present = np.unique(labels)
    if len(present) < 2 or present[0] < 0 or present[-1] >= label_count:
        raise ValueError("at least two labels are needed, each a valid number")
    share = np.full(len(labels), 1 / len(labels)) if weights is None else weights / weights.sum()
    width = inputs.shape[1]
    centre, scale = _moments(inputs, share)
    if width > len(labels) and not direction_count:
        return _fit_in_span(inputs, labels, centre, scale, share, label_count, shrinkage)

    mass = np.bincount(labels, share, label_count)
    means = np.zeros((label_count, width))
    second = np.zeros((width, width))
    for part in _chunks(len(labels)):
        rows = (inputs[part].astype(np.float64) - centre) / scale
        weighted = rows * share[part, None]
        np.add.at(means, labels[part], weighted)
        second += rows.T @ weighted
    means /= np.maximum(mass, 1e-300)[:, None]
    scatter = second - (means * mass[:, None]).T @ means
    within = (1 - shrinkage) * scatter + np.eye(width) * (
        shrinkage * np.trace(scatter) / width + 1e-9
    )
    between = (means * mass[:, None]).T @ means
    weight = linalg.solve(within, means.T, assume_a="pos")
    bias = -0.5 * (means * weight.T).sum(1)
    bias[mass == 0] = -1e6
    if direction_count:
        top = (max(0, width - direction_count), width - 1)
        # C labels make C - 1 directions; the rest are those of most variation, which the
        # shrinkage, being even, lets stand out.
        wanted = between + _VARIATION * scatter
        directions = linalg.eigh(wanted, within, subset_by_index=top)[1][:, ::-1]
        # The sign of an eigenvector is arbitrary: fix it, so that a fit can be repeated.
        strongest = directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])]
        directions = directions * np.where(strongest < 0, -1, 1)
    else:
        directions = np.zeros((width, 0))
    return Discriminant(*(_stored(a) for a in (centre, scale, weight, bias, directions)))


def _fit_in_span(
    inputs: Floats,
    labels: Ints,
    centre: Doubles,
    scale: Doubles,
    share: Doubles,
    label_count: int,
    shrinkage: float,
) -> Discriminant:
    """Fit scores where there are fewer inputs than features: memory (n, D), not (D, D).

    The identity in the shrunk covariance leaves the span of the inputs to itself, and all label
    means lie in it: the outcome is that of the plain form.
    """
    rows = (inputs.astype(np.float64) - centre) / scale
    # An orthonormal basis (D, r) of the span, by the small Gram matrix of the inputs.
    values, vectors = linalg.eigh(rows @ rows.T)
    kept = values > values[-1] * 1e-12
    basis = rows.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    inner = rows @ basis
    mass = np.bincount(labels, share, label_count)
    means = np.zeros((label_count, inner.shape[1]))
    np.add.at(means, labels, inner * share[:, None])
    means /= np.maximum(mass, 1e-300)[:, None]
    scatter = inner.T @ (inner * share[:, None]) - (means * mass[:, None]).T @ means
    level = shrinkage * np.trace(scatter) / inputs.shape[1] + 1e-9
    within = (1 - shrinkage) * scatter + level * np.eye(len(scatter))
    weight = linalg.solve(within, means.T, assume_a="pos")
    bias = -0.5 * (means * weight.T).sum(1)
    bias[mass == 0] = -1e6
    nothing = np.zeros((inputs.shape[1], 0))
    return Discriminant(*(_stored(a) for a in (centre, scale, basis @ weight, bias, nothing)))


def soft_labels(scores: Floats, temperature: float) -> Float32Array:
    """Return unit vectors (n, C) whose squares are the softened label probabilities.

    The product of two is the Bhattacharyya coefficient of the two distributions: symmetric,
    0 to 1, and 1 only for the same distribution.
    """
    if temperature <= 0:
        raise ValueError("temperature must be positive")
    shifted = np.asarray(scores, np.float64)
    shifted = (shifted - shifted.max(-1, keepdims=True)) / temperature
    odds = np.exp(shifted)
    return np.sqrt(odds / odds.sum(-1, keepdims=True)).astype(np.float32)


def _stored(array: Doubles) -> Float32Array:
    """Return the array as its file will hold it: another layout would round otherwise."""
    return np.ascontiguousarray(array, np.float32)


def _moments(inputs: Floats, share: Doubles) -> tuple[Doubles, Doubles]:
    centre = np.zeros(inputs.shape[1])
    for part in _chunks(len(share)):
        centre += share[part] @ inputs[part].astype(np.float64)
    variance = np.zeros_like(centre)
    for part in _chunks(len(share)):
        variance += share[part] @ (inputs[part].astype(np.float64) - centre) ** 2
    # A feature that never varies must not divide by zero, nor blow up a later deviation.
    deviation = np.sqrt(variance)
    return centre, np.where(deviation > 1e-6, deviation, 1.0)


def _chunks(count: int, size: int = 8192) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
