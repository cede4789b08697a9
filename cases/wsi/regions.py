"""Regions in level-0 pixels out of a pyramid: pick the level, read, resample, fill borders.

Both backends share this; they only say how to read whole pixels of one level.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from PIL import Image

from cases.wsi.colour import Correction, correction
from cases.wsi.values import Rgb

MAX_SOURCE_PIXELS = 16_000_000
"""Pixels decoded at once; larger regions are read in pieces, so memory stays bounded."""

LEVEL_TOLERANCE = 1.02
"""A level this much coarser than asked still counts as fine enough (2.0005 for 2)."""

SMALLEST_LEVEL_PX = 64
"""Levels whose longer side is shorter are skipped: their rounding moves what they show."""


def level_downsample(
    size_l0: tuple[int, int], size: tuple[int, int], declared: float | None = None
) -> float:
    """Return level-0 pixels per pixel of a level.

    Levels are made by dropping or adding the odd last row, so 2967 rows over 1483 is 2, not
    2.0007: whole factors are recognised, which keeps positions exact at the far end.

    Parameters
    ----------
    size_l0, size
        (width, height) of level 0 and of the level, in their own pixels.
    declared
        What the file says, used when no whole factor fits.
    """
    ratio_x, ratio_y = size_l0[0] / size[0], size_l0[1] / size[1]
    mean = declared or math.sqrt(ratio_x * ratio_y)
    for factor in (2 ** round(math.log2(mean)), round(mean)):
        if factor >= 1 and all(
            own in (whole // factor, -(-whole // factor))
            for whole, own in zip(size_l0, size, strict=True)
        ):
            return float(factor)
    return mean


class RegionReader:
    """Base of the backends: everything that depends on the pyramid's geometry only."""

    width_l0: int
    height_l0: int
    mpp: float | None
    mpp_source: str
    objective_power: float | None
    vendor: str
    has_label_image: bool
    level_count: int
    level_downsamples: tuple[float, ...]
    level_dimensions: tuple[tuple[int, int], ...]

    def _set_levels(
        self, dimensions: list[tuple[int, int]], declared: list[float | None] | None = None
    ) -> None:
        """Keep the sizes of the levels, finest first."""
        self.width_l0, self.height_l0 = dimensions[0]
        self.level_count = len(dimensions)
        self.level_dimensions = tuple(dimensions)
        hints = declared or [None] * len(dimensions)
        self.level_downsamples = tuple(
            level_downsample(dimensions[0], size, hint)
            for size, hint in zip(dimensions, hints, strict=True)
        )

    def icc_profile(self) -> bytes | None:
        """Return the profile that says which colours the pixels stand for, None without one."""
        return None

    @cached_property
    def correction(self) -> Correction | None:
        """Return what brings the pixels to sRGB, None where nothing does (see SlideReader)."""
        return correction(self.icc_profile())

    def _read_level(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Return pixels of one level; the rectangle lies inside the level."""
        raise TypeError(f"{type(self).__name__} reads no levels")

    def _level_for(self, scale: float) -> int:
        """Return the coarsest level that is as fine as `scale` level-0 pixels per pixel."""
        best = 0
        for level, downsample in enumerate(self.level_downsamples):
            large_enough = max(self.level_dimensions[level]) >= SMALLEST_LEVEL_PX
            if large_enough and self.level_downsamples[best] < downsample <= (
                scale * LEVEL_TOLERANCE
            ):
                best = level
        return best

    def read_region_l0(
        self,
        x_l0: float,
        y_l0: float,
        width_l0: float,
        height_l0: float,
        out_width: int,
        out_height: int,
    ) -> Rgb:
        """Return the region resampled to the asked size (see SlideReader)."""
        if width_l0 <= 0 or height_l0 <= 0 or out_width <= 0 or out_height <= 0:
            raise ValueError("A region and its output have at least one pixel")
        level = self._level_for(min(width_l0 / out_width, height_l0 / out_height))
        downsample = self.level_downsamples[level]
        columns = _inside(x_l0, width_l0, out_width, self.width_l0)
        rows = _inside(y_l0, height_l0, out_height, self.height_l0)
        out = np.full((out_height, out_width, 3), 255, np.uint8)
        if columns is None or rows is None:
            return out
        (first_column, last_column, left, right) = columns
        (first_row, last_row, top, bottom) = rows
        box = (left / downsample, top / downsample, right / downsample, bottom / downsample)
        if (last_row - first_row, last_column - first_column) == (out_height, out_width):
            return self._resample(level, box, out_width, out_height)
        out[first_row:last_row, first_column:last_column] = self._resample(
            level, box, last_column - first_column, last_row - first_row
        )
        return out

    def thumbnail(self, max_px: int) -> Rgb:
        """Return the whole slide, its longer side at most `max_px` pixels (see SlideReader)."""
        scale = max(1.0, max(self.width_l0, self.height_l0) / max_px)
        return self.read_region_l0(
            0,
            0,
            self.width_l0,
            self.height_l0,
            max(1, round(self.width_l0 / scale)),
            max(1, round(self.height_l0 / scale)),
        )

    def require_decodable(self) -> None:
        """Decode a pixel at both ends and in the middle of every level.

        Raises
        ------
        WsiError
            `corrupt` when one cannot be decoded.
        """
        for level, (width, height) in enumerate(self.level_dimensions):
            for x, y in ((0, 0), (width // 2, height // 2), (width - 1, height - 1)):
                self._read_level(level, x, y, 1, 1)

    def _resample(
        self, level: int, box: tuple[float, float, float, float], out_width: int, out_height: int
    ) -> Rgb:
        """Return the box of a level (x0, y0, x1, y1) at the asked size.

        The box may reach over the border by part of an output pixel: rounded level sizes and
        odd slides do that. The border's pixels are repeated there, so positions stay exact.
        """
        x0, y0, x1, y1 = box
        level_width, level_height = self.level_dimensions[level]
        whole = tuple(round(edge) for edge in box)
        if (
            whole[0] >= 0
            and whole[1] >= 0
            and whole[2] <= level_width
            and whole[3] <= level_height
            and whole[2] - whole[0] == out_width
            and whole[3] - whole[1] == out_height
            and max(abs(a - b) for a, b in zip(whole, box, strict=True)) < 0.01
            and out_width * out_height <= MAX_SOURCE_PIXELS
        ):
            return self._read_level(level, whole[0], whole[1], out_width, out_height)
        if (x1 - x0) * (y1 - y0) > MAX_SOURCE_PIXELS:
            return self._resample_in_pieces(level, box, out_width, out_height)
        scale_x, scale_y = (x1 - x0) / out_width, (y1 - y0) / out_height
        shrinks = max(scale_x, scale_y) > 1.0
        # The filter looks past the box; with these pixels at hand neighbouring tiles agree.
        margin_x, margin_y = math.ceil(max(scale_x, 2.0)) + 1, math.ceil(max(scale_y, 2.0)) + 1
        left = min(max(0, math.floor(x0) - margin_x), level_width - 1)
        top = min(max(0, math.floor(y0) - margin_y), level_height - 1)
        right = min(level_width, math.ceil(x1) + margin_x)
        bottom = min(level_height, math.ceil(y1) + margin_y)
        source = self._read_level(level, left, top, right - left, bottom - top)
        over = (left - math.floor(x0), top - math.floor(y0), math.ceil(x1) - right)
        over_left, over_top, over_right = (max(0, pixels) for pixels in over)
        over_bottom = max(0, math.ceil(y1) - bottom)
        if over_left or over_top or over_right or over_bottom:
            beyond = ((over_top, over_bottom), (over_left, over_right), (0, 0))
            source = np.pad(source, beyond, mode="edge")
            left, top = left - over_left, top - over_top
        resized = Image.fromarray(source).resize(
            (out_width, out_height),
            Image.Resampling.HAMMING if shrinks else Image.Resampling.BICUBIC,
            box=(x0 - left, y0 - top, x1 - left, y1 - top),
            reducing_gap=3.0 if min(scale_x, scale_y) > 8 else None,
        )
        return np.array(resized)

    def _resample_in_pieces(
        self, level: int, box: tuple[float, float, float, float], out_width: int, out_height: int
    ) -> Rgb:
        """Return the same as `_resample` with half of the longer side at a time."""
        x0, y0, x1, y1 = box
        if out_width == out_height == 1:
            pixels = self._resample_in_pieces(level, box, 8, 8)
            return pixels.mean(axis=(0, 1), keepdims=True).round().astype(np.uint8)
        if out_width >= out_height:
            half = out_width // 2
            middle = x0 + (x1 - x0) * half / out_width
            pieces = (
                self._resample(level, (x0, y0, middle, y1), half, out_height),
                self._resample(level, (middle, y0, x1, y1), out_width - half, out_height),
            )
            return np.concatenate(pieces, axis=1)
        half = out_height // 2
        middle = y0 + (y1 - y0) * half / out_height
        pieces = (
            self._resample(level, (x0, y0, x1, middle), out_width, half),
            self._resample(level, (x0, middle, x1, y1), out_width, out_height - half),
        )
        return np.concatenate(pieces, axis=0)


def _inside(
    start: float, length: float, out: int, size: int
) -> tuple[int, int, float, float] | None:
    """Return which output pixels touch the slide, and their level-0 span.

    The span may reach over the border by less than one output pixel.
    """
    scale = length / out
    first = max(0, math.floor(-start / scale + 1e-6))
    last = min(out, math.ceil((size - start) / scale - 1e-6))
    if first >= last:
        return None
    return first, last, start + first * scale, start + last * scale
