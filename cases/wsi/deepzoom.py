"""Deep Zoom geometry: which part of level 0 a viewer's tile shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class DeepZoom:
    """The pyramid that a Deep Zoom viewer asks for.

    `z_level` 0 is one pixel; each further one doubles, and the last is full resolution.

    Attributes
    ----------
    width_l0, height_l0
        Size of the slide in level-0 pixels.
    tile_size
        Side of a tile in pixels, without overlap.
    overlap
        Pixels that each tile also shows of its neighbours, so that scaling leaves no seams.
    """

    width_l0: int
    height_l0: int
    tile_size: int = 254
    overlap: int = 1

    @cached_property
    def z_level_count(self) -> int:
        """Number of z-levels."""
        return math.ceil(math.log2(max(self.width_l0, self.height_l0))) + 1

    def size(self, z_level: int) -> tuple[int, int]:
        """Return (width, height) of a z-level in its own pixels.

        Raises
        ------
        ValueError
            When there is no such z-level.
        """
        if not 0 <= z_level < self.z_level_count:
            raise ValueError(f"There is no z-level {z_level}")
        scale = 2 ** (self.z_level_count - 1 - z_level)
        return -(-self.width_l0 // scale), -(-self.height_l0 // scale)

    def columns(self, z_level: int) -> int:
        """Return the number of tiles in a row; ValueError when there is no such z-level."""
        return -(-self.size(z_level)[0] // self.tile_size)

    def rows(self, z_level: int) -> int:
        """Return the number of tiles in a column; ValueError when there is no such z-level."""
        return -(-self.size(z_level)[1] // self.tile_size)

    def region(
        self, z_level: int, column: int, row: int
    ) -> tuple[float, float, float, float, int, int]:
        """Return what to read for a tile.

        Returns
        -------
        x_l0, y_l0, width_l0, height_l0, out_width, out_height
            The arguments of `SlideReader.read_region_l0`. The last row and column may reach
            over the slide's border by less than one pixel of the answer.

        Raises
        ------
        ValueError
            When there is no such tile.
        """
        width, height = self.size(z_level)
        if not (0 <= column < self.columns(z_level) and 0 <= row < self.rows(z_level)):
            raise ValueError(f"There is no tile {column}, {row} at z-level {z_level}")
        left, right = self._span(column, width)
        top, bottom = self._span(row, height)
        scale = float(2 ** (self.z_level_count - 1 - z_level))
        return (
            left * scale,
            top * scale,
            (right - left) * scale,
            (bottom - top) * scale,
            right - left,
            bottom - top,
        )

    def _span(self, index: int, size: int) -> tuple[int, int]:
        """Return where a tile begins and ends on one axis, its overlap included."""
        begin = max(0, index * self.tile_size - self.overlap)
        return begin, min(size, (index + 1) * self.tile_size + self.overlap)

    def dzi_xml(self, image_format: str = "jpeg") -> str:
        """Return the descriptor that viewers load first."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" '
            f'Format="{image_format}" Overlap="{self.overlap}" TileSize="{self.tile_size}">'
            f'<Size Width="{self.width_l0}" Height="{self.height_l0}"/></Image>'
        )
