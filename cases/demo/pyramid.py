"""Cuts an image into the levels and JPEG tiles of a whole-slide pyramid."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

TILE_PX = 256


@dataclass(frozen=True)
class Level:
    """One resolution: its size, and its tiles row by row as JPEG (YCbCr 4:2:2)."""

    width: int
    height: int
    tile_px: int
    tiles: Sequence[bytes]

    @property
    def size_bytes(self) -> int:
        """Return the compressed size."""
        return sum(map(len, self.tiles))


def jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """Return RGB (H, W, 3) uint8 as baseline JPEG, chroma halved horizontally."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:2")
    return buffer.getvalue()


def pyramid(
    pixels: np.ndarray, *, quality: int = 85, tile_px: int = TILE_PX, smallest_px: int = 512
) -> list[Level]:
    """Return levels of RGB (H, W, 3) uint8, each half as large, down to `smallest_px` wide."""
    levels = []
    while True:
        levels.append(_cut(pixels, quality, tile_px))
        if max(pixels.shape[:2]) <= smallest_px:
            return levels
        pixels = np.asarray(Image.fromarray(pixels).reduce(2))


def _cut(pixels: np.ndarray, quality: int, tile_px: int) -> Level:
    height, width = pixels.shape[:2]
    padding = ((0, -height % tile_px), (0, -width % tile_px), (0, 0))
    full = np.pad(pixels, padding, constant_values=255)
    tiles = [
        jpeg(full[top : top + tile_px, left : left + tile_px], quality)
        for top in range(0, full.shape[0], tile_px)
        for left in range(0, full.shape[1], tile_px)
    ]
    return Level(width, height, tile_px, tiles)
