"""Outlines on a slide: what is taken, and how long and large they are.

Points are level-0 pixels, (x, y) from the upper left corner. Lengths are micrometres, areas square
micrometres, from the micrometres per pixel of the scan (DICOM PS3.3 C.7.6.16.2.1, Pixel Spacing).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

POINTS_MOST = 2000

RECTANGLE, POLYGON, FREEHAND, LINE = "rectangle", "polygon", "freehand", "line"
# Fewest and most points of each kind. A rectangle has its four corners, in order.
_COUNTS = {
    RECTANGLE: (4, 4),
    POLYGON: (3, 200),
    FREEHAND: (3, POINTS_MOST),
    LINE: (2, 2),
}

Points = npt.NDArray[np.float64]
"""float64 (points, 2)."""


class BadOutline(ValueError):
    """The points are no outline of this kind on this slide; the message says why."""


def outline(kind: str, points: Any, width: int, height: int) -> list[list[int]]:
    """Return the points as whole pixels, or raise BadOutline.

    width, height: of the slide. A line and a ring have no length of zero; a ring is closed by
    itself: its last point is not its first.
    """
    if kind not in _COUNTS:
        raise BadOutline(f"There is no kind {kind!r}.")
    fewest, most = _COUNTS[kind]
    if not isinstance(points, list) or not fewest <= len(points) <= most:
        raise BadOutline(f"A {kind} has {fewest} to {most} points.")
    found = [_point(point, width, height) for point in points]
    if kind == LINE:
        if found[0] == found[1]:
            raise BadOutline("A line needs two different points.")
        return found
    if area(found) == 0:
        raise BadOutline("The outline has no area.")
    return found


def _point(point: Any, width: int, height: int) -> list[int]:
    if not isinstance(point, list) or len(point) != 2:
        raise BadOutline("Each point is a pair [x, y].")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in point):
        raise BadOutline("Each point is a pair of numbers.")
    x, y = point
    # Also refuses NaN, which is in no interval.
    if not (0 <= x <= width and 0 <= y <= height):
        raise BadOutline("A point lies outside of the slide.")
    return [round(x), round(y)]


def length(points: Sequence[Sequence[float]], mpp: float, *, is_closed: bool) -> float:
    """Return the length of the way through the points, back to the first if closed, in µm."""
    ring = _array(points)
    steps = (np.roll(ring, -1, axis=0) if is_closed else ring[1:]) - (
        ring if is_closed else ring[:-1]
    )
    return float(np.hypot(steps[:, 0], steps[:, 1]).sum() * mpp)


def area(points: Sequence[Sequence[float]], mpp: float = 1.0) -> float:
    """Return the area of the ring by the shoelace formula, in µm² (in pixels without an mpp)."""
    ring = _array(points)
    following = np.roll(ring, -1, axis=0)
    doubled = ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]
    return float(abs(doubled.sum()) / 2 * mpp**2)


def crosses_itself(points: Sequence[Sequence[float]]) -> bool:
    """Return whether two sides of the ring cross, so that it has no one area.

    Two sides cross where the ends of each lie on different sides of the other. Sides that only
    touch do not count.
    """
    ring = _array(points)
    start, end = ring, np.roll(ring, -1, axis=0)
    along = end - start

    def side(of: Points) -> Points:
        """Return, for each side (rows) and point (columns), on which hand the point lies."""
        offset = of[None, :, :] - start[:, None, :]
        return np.sign(along[:, None, 0] * offset[..., 1] - along[:, None, 1] * offset[..., 0])

    apart = side(start) * side(end) < 0
    return bool((apart & apart.T).any())


def _array(points: Sequence[Sequence[float]]) -> Points:
    return np.asarray(points, dtype=np.float64).reshape(-1, 2)
