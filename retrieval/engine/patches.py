"""Which patches of a slide, a region or a picture an encoder sees."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from cases.wsi.reader import SlideReader
from retrieval.engine.encoders import ImageEncoderSpec
from retrieval.engine.errors import SkipSlide
from retrieval.engine.tissue import is_dark_field, tissue_mask

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]

# Um per pixel of the tissue mask, and the longest side of it in pixels.
MASK_MPP = 8.0
MASK_MAX_PX = 4096
# Least share of tissue in a patch.
MIN_TISSUE_SHARE = 0.25
# Beyond this factor a patch would be blown up pixels, not tissue.
MAX_UPSAMPLING = 2.5


@dataclass(frozen=True)
class Patches:
    """Pixels of patches with their places.

    Attributes
    ----------
    pixels : uint8 (N, P, P, 3)
    coords_l0 : int64 (N, 2)
        Upper left corners (x, y), in level-0 pixels of the slide or pixels of the picture.
    size_l0 : int
        Side of a patch, in the same pixels.
    """

    pixels: UInt8Array
    coords_l0: IntArray
    size_l0: int


def patch_size_l0(mpp: float, patch_px: int, target_mpp: float) -> int:
    """Return the side in level-0 pixels of a patch of `patch_px` pixels at `target_mpp`."""
    return max(1, round(patch_px * target_mpp / mpp))


def patch_grid(
    mask: BoolArray,
    *,
    width_l0: int,
    height_l0: int,
    mpp: float,
    patch_px: int,
    target_mpp: float,
    min_share: float = MIN_TISSUE_SHARE,
) -> tuple[IntArray, int]:
    """Return the places of the patches that hold enough tissue.

    Parameters
    ----------
    mask : bool (h, w)
        Tissue over the whole slide, at any resolution.
    width_l0, height_l0 : int
        The slide in level-0 pixels.
    mpp : float
        Um per level-0 pixel.
    patch_px, target_mpp : int, float
        Side of a patch in the encoder's pixels, and their um per pixel.
    min_share : float
        Least share of tissue in a patch, 0 to 1.

    Returns
    -------
    coords_l0 : int64 (N, 2)
        Upper left corners (x, y), ordered by row, then column.
    size_l0 : int
        Side of a patch in level-0 pixels.

    Raises
    ------
    SkipSlide
        ``no_mpp``; ``too_coarse``: the slide's pixels are far larger than the encoder's;
        ``too_small``: not one patch fits, or no patch has enough tissue;
        ``no_tissue``: the mask is empty.
    """
    check_resolution(mpp, target_mpp)
    size = patch_size_l0(mpp, patch_px, target_mpp)
    columns, rows = width_l0 // size, height_l0 // size
    um = round(size * mpp)
    if not columns or not rows:
        raise SkipSlide("too_small", f"The slide is smaller than one patch of {um} µm.")
    if not mask.any():
        raise SkipSlide("no_tissue", "No tissue was found on the slide.")
    x, y = np.meshgrid(np.arange(columns) * size, np.arange(rows) * size)
    coords = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64)
    share = tissue_share(mask, coords, size, width_l0=width_l0, height_l0=height_l0)
    chosen = coords[share >= min_share]
    if not len(chosen):
        raise SkipSlide(
            "too_small", f"The tissue on the slide fills no patch of {um} µm to a quarter."
        )
    return chosen, size


def check_resolution(mpp: float | None, target_mpp: float) -> None:
    """Raise SkipSlide where the pixel size is unknown, or far too large for the encoder."""
    if not mpp or mpp <= 0:
        raise SkipSlide("no_mpp", "The pixel size of the slide is not known.")
    if mpp > MAX_UPSAMPLING * target_mpp:
        raise SkipSlide(
            "too_coarse",
            f"The slide has {mpp:.2f} µm per pixel; the encoder needs {target_mpp:g}.",
        )


def tissue_share(
    mask: BoolArray, coords_l0: IntArray, size_l0: int, *, width_l0: int, height_l0: int
) -> npt.NDArray[np.float64]:
    """Return the share of tissue in each patch, 0 to 1, through a summed-area table."""
    height, width = mask.shape
    table = np.zeros((height + 1, width + 1), np.int64)
    table[1:, 1:] = mask.cumsum(0, dtype=np.int64).cumsum(1)
    left = np.minimum((coords_l0[:, 0] * width // width_l0), width - 1)
    top = np.minimum((coords_l0[:, 1] * height // height_l0), height - 1)
    right = np.clip(np.ceil((coords_l0[:, 0] + size_l0) * width / width_l0), left + 1, width)
    bottom = np.clip(np.ceil((coords_l0[:, 1] + size_l0) * height / height_l0), top + 1, height)
    right, bottom = right.astype(np.int64), bottom.astype(np.int64)
    inside = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
    return inside / ((right - left) * (bottom - top))


def slide_mask(reader: SlideReader, mpp: float) -> BoolArray:
    """Return the tissue mask of a whole slide.

    Raises
    ------
    SkipSlide
        ``fluorescence``: the background is dark.
    """
    longest = max(reader.width_l0, reader.height_l0)
    thumbnail = reader.thumbnail(int(np.clip(longest * mpp / MASK_MPP, 64, MASK_MAX_PX)))
    if is_dark_field(thumbnail):
        raise SkipSlide("fluorescence", "The slide has a dark background: a fluorescence scan?")
    return tissue_mask(thumbnail, longest * mpp / max(thumbnail.shape[:2]))


def read_patches(
    reader: SlideReader, coords_l0: IntArray, size_l0: int, patch_px: int
) -> UInt8Array:
    """Return uint8 (N, P, P, 3): the patches, resampled from the nearest finer level."""
    pixels = np.empty((len(coords_l0), patch_px, patch_px, 3), np.uint8)
    for index, (x, y) in enumerate(coords_l0.tolist()):
        pixels[index] = reader.read_region_l0(x, y, size_l0, size_l0, patch_px, patch_px)
    return pixels


def _spread(length: int, size: int) -> IntArray:
    """Return the starts of as many whole patches as fit, centred; one where none fits."""
    count = max(1, length // size)
    return (length - count * size) // 2 + np.arange(count, dtype=np.int64) * size


def _thin_out(coords: IntArray, max_patches: int) -> IntArray:
    """Return at most this many of the places, evenly over them."""
    if len(coords) <= max_patches:
        return coords
    return coords[np.linspace(0, len(coords) - 1, max_patches).round().astype(np.int64)]


def region_patches(
    reader: SlideReader,
    region: tuple[int, int, int, int],
    spec: ImageEncoderSpec,
    *,
    mpp: float | None = None,
    max_patches: int = 256,
) -> Patches:
    """Return the patches of a region of a slide, for a query.

    A region smaller than one patch gives the patch around its centre. Patches without tissue
    are left out. Larger regions than `max_patches` are sampled evenly.

    Parameters
    ----------
    region : (x, y, width, height)
        In level-0 pixels.
    mpp : float, optional
        Um per level-0 pixel where the reader does not know it.

    Raises
    ------
    SkipSlide
        ``no_mpp``, ``too_coarse``, ``no_tissue``.
    """
    mpp = mpp or reader.mpp
    check_resolution(mpp, spec.mpp)
    assert mpp is not None
    size = patch_size_l0(mpp, spec.patch_px, spec.mpp)
    x, y, width, height = region
    columns, rows = np.meshgrid(x + _spread(width, size), y + _spread(height, size))
    coords = np.stack([columns.ravel(), rows.ravel()], axis=1)
    coords = _with_tissue(
        coords,
        size,
        lambda x, y, w, h, side: reader.read_region_l0(x, y, w, h, *_fitted(w, h, side)),
        mpp,
    )
    if not len(coords):
        raise SkipSlide("no_tissue", "No tissue was found in the region.")
    coords = _thin_out(coords, max_patches)
    return Patches(read_patches(reader, coords, size, spec.patch_px), coords, size)


def query_patches(
    rgb: UInt8Array, mpp: float, spec: ImageEncoderSpec, *, max_patches: int = 256
) -> Patches:
    """Return the patches of a picture, for a query.

    Parameters
    ----------
    rgb : uint8 (H, W, 3)
        The picture.
    mpp : float
        Its um per pixel.

    Returns
    -------
    Patches
        Places in pixels of the picture.

    Raises
    ------
    SkipSlide
        ``no_mpp``, ``too_coarse``, ``no_tissue``; ``too_small``: under half a patch wide or high.
    """
    check_resolution(mpp, spec.mpp)
    size = patch_size_l0(mpp, spec.patch_px, spec.mpp)
    if min(rgb.shape[:2]) < size / 2:
        raise SkipSlide(
            "too_small",
            f"The picture is too small: at {mpp:g} µm per pixel it needs at least "
            f"{-(-size // 2)} pixels on each side.",
        )
    # A side shorter than a patch is mirrored, which adds no colour and no edge of its own.
    missing = [max(0, size - side) for side in rgb.shape[:2]]
    before = [side // 2 for side in missing]
    padded = np.pad(
        rgb,
        [(before[0], missing[0] - before[0]), (before[1], missing[1] - before[1]), (0, 0)],
        mode="symmetric",
    )
    columns, rows = np.meshgrid(_spread(padded.shape[1], size), _spread(padded.shape[0], size))
    coords = _with_tissue(
        np.stack([columns.ravel(), rows.ravel()], axis=1),
        size,
        lambda x, y, w, h, side: _resized(padded[y : y + h, x : x + w], *_fitted(w, h, side)),
        mpp,
    )
    if not len(coords):
        raise SkipSlide("no_tissue", "No tissue was found in the picture.")
    coords = _thin_out(coords, max_patches)
    pixels = np.stack(
        [
            _resized(padded[y : y + size, x : x + size], spec.patch_px, spec.patch_px)
            for x, y in coords.tolist()
        ]
    )
    return Patches(pixels, coords - np.array(before[::-1]), size)


def _with_tissue(
    coords: IntArray,
    size: int,
    read: Callable[[int, int, int, int, int], UInt8Array],
    mpp: float,
) -> IntArray:
    """Return the places with enough tissue, by a mask over the rectangle around all of them.

    `read(x, y, width, height, longest)` gives that rectangle, its longer side `longest` px.
    """
    x, y = coords.min(0).tolist()
    width, height = (coords.max(0) + size - (x, y)).tolist()
    longest = max(width, height)
    # Fine enough for a small region, and no finer than the pixels there are.
    side = min(longest, int(np.clip(longest * mpp / MASK_MPP, 256, MASK_MAX_PX)))
    mask = tissue_mask(read(x, y, width, height, side), longest * mpp / side)
    share = tissue_share(mask, coords - (x, y), size, width_l0=width, height_l0=height)
    return coords[share >= MIN_TISSUE_SHARE]


def _fitted(width: int, height: int, longest: int) -> tuple[int, int]:
    """Return (width, height) scaled so that the longer side is `longest`."""
    scale = longest / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(rgb: UInt8Array, width: int, height: int) -> UInt8Array:
    if rgb.shape[:2] == (height, width):
        return rgb
    smaller = rgb.shape[0] > height
    how = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).resize((width, height), how))
