"""What a similarity is worth: how often a neighbour at it had the same diagnosis. NumPy only.

Isotonic regression by the pool-adjacent-violators algorithm (Ayer, Brunk, Ewing, Reid and
Silverman, Ann Math Stat 1955; for calibration: Zadrozny and Elkan, KDD 2002): the nearer, the more
agreement, and no other assumption.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A step that fewer neighbours stand behind is joined with the next one.
STEP_MIN = 15


@dataclass(frozen=True)
class Calibration:
    """Agreement by similarity: knots, both ascending, and how many neighbours they rest on."""

    similarities: tuple[float, ...]
    agreements: tuple[float, ...]
    pairs: int

    def agreement(self, similarity: float) -> float:
        """Return the expected share of neighbours with the same diagnosis, 0 to 1.

        Between knots linearly; beyond the last ones as at them, so that a similarity that was
        never seen promises no more than the farthest that was.
        """
        return float(np.interp(similarity, self.similarities, self.agreements))


def pool_adjacent_violators(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the ascending sequence nearest to `values` in weighted least squares, (N,)."""
    means: list[float] = []
    sizes: list[float] = []
    counts: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        means.append(value)
        sizes.append(weight)
        counts.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            total = sizes[-2] + sizes[-1]
            means[-2:] = [(means[-2] * sizes[-2] + means[-1] * sizes[-1]) / total]
            sizes[-2:] = [total]
            counts[-2:] = [counts[-2] + counts[-1]]
    return np.repeat(np.array(means, dtype=np.float64), counts)


def calibrate(
    similarities: Sequence[float], agrees: Sequence[bool], *, step_min: int = STEP_MIN
) -> Calibration:
    """Fit the agreement that was observed.

    Parameters
    ----------
    similarities : sequence of float, (P,)
        Of pairs of slides of different patients, as a search compares them.
    agrees : sequence of bool, (P,)
        Whether the two have the same diagnosis.
    step_min : int
        Pairs behind each knot, at least.

    Returns
    -------
    Calibration
        One knot per step of the isotonic fit, at the mean similarity of the pairs in it; the
        share is (agreeing + 1) / (pairs + 2), so that few pairs promise neither 0 nor 1.

    Raises
    ------
    ValueError
        When there are fewer pairs than step_min, or the lengths differ.
    """
    if len(similarities) != len(agrees):
        raise ValueError("each pair has one similarity and one outcome")
    if len(similarities) < step_min:
        raise ValueError(f"a calibration needs {step_min} pairs")
    order = np.argsort(np.asarray(similarities, dtype=np.float64), kind="stable")
    near = np.asarray(similarities, dtype=np.float64)[order]
    same = np.asarray(agrees, dtype=np.float64)[order]
    fitted = pool_adjacent_violators(same, np.ones_like(same))
    starts = [0, *(np.flatnonzero(np.diff(fitted) > 0) + 1).tolist()]
    steps: list[tuple[int, int]] = []
    for start, stop in zip(starts, [*starts[1:], len(fitted)], strict=True):
        if steps and steps[-1][1] - steps[-1][0] < step_min:
            steps[-1] = (steps[-1][0], stop)
        else:
            steps.append((start, stop))
    if len(steps) > 1 and steps[-1][1] - steps[-1][0] < step_min:
        steps[-2:] = [(steps[-2][0], steps[-1][1])]
    shares = np.array([(same[a:b].sum() + 1) / (b - a + 2) for a, b in steps])
    sizes = np.array([float(b - a) for a, b in steps])
    shares = pool_adjacent_violators(shares, sizes)
    return Calibration(
        tuple(round(float(near[a:b].mean()), 5) for a, b in steps),
        tuple(round(float(share), 5) for share in shares),
        len(near),
    )


def expected_agreement(calibrations: Iterable[Calibration], similarity: float) -> float | None:
    """Return the agreement to expect by several departments' calibrations, weighted by pairs."""
    known = list(calibrations)
    total = sum(one.pairs for one in known)
    if not total:
        return None
    return sum(one.agreement(similarity) * one.pairs for one in known) / total
