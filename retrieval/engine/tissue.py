"""Where on a slide the tissue is: a mask at low resolution."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TissueSettings:
    """Bounds of the tissue mask. Saturation and brightness run from 0 to 1.

    Attributes
    ----------
    floor : float
        Saturation under which nothing is tissue, whatever Otsu says: a slide of bare glass
        has two halves too.
    ceiling : float
        Saturation from which everything is: a slide without glass would otherwise lose its
        paler half.
    smallest_object_um2 : float
        Smaller pieces are specks of dust.
    largest_hole_um2 : float
        Smaller holes (lumina, fat vacuoles, cracks) belong to the tissue around them.
    """

    floor: float = 0.05
    ceiling: float = 0.12
    smallest_object_um2: float = 4000.0
    largest_hole_um2: float = 60000.0


def otsu(values: npt.NDArray[np.floating], bins: int = 256) -> float:
    """Return Otsu's threshold of values in [0, 1] (N. Otsu, IEEE SMC 9, 1979).

    One value alone, or none, is its own threshold (0 for none).
    """
    counts, edges = np.histogram(values, bins=bins, range=(0.0, 1.0))
    total = counts.sum()
    if not total:
        return 0.0
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = total - below
    weighted = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_below = weighted / below
        mean_above = (weighted[-1] - weighted) / above
        between = below * above * (mean_below - mean_above) ** 2
    if not np.isfinite(between).any() or np.nanmax(between) <= 0:
        return float(values.flat[0])
    return float(edges[int(np.nanargmax(between)) + 1])


def hue_saturation_value(
    rgb: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return hue (degrees, 0 to 360), saturation and value (0 to 1) of uint8 (H, W, 3)."""
    scaled = rgb.astype(np.float32) / 255.0
    red, green, blue = scaled[..., 0], scaled[..., 1], scaled[..., 2]
    value = scaled.max(-1)
    chroma = value - scaled.min(-1)
    safe = np.where(chroma > 0, chroma, 1)
    hue = np.where(
        value == red,
        ((green - blue) / safe) % 6,
        np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    saturation = np.where(value > 0, chroma / np.where(value > 0, value, 1), 0)
    return (
        np.where(chroma > 0, hue * 60, 0).astype(np.float32),
        saturation.astype(np.float32),
        value.astype(np.float32),
    )


def without_tint(rgb: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return the picture with its glass made grey, where the brightest tenth looks like glass.

    Lamp and camera tint the glass, which then has saturation of its own. Pale tissue that
    fills the picture is more colourful than any glass and is left as it is.
    """
    darkest = rgb.min(-1)
    glass = np.median(rgb[darkest >= np.quantile(darkest, 0.9)], axis=0)
    if glass.min() < 170 or glass.max() - glass.min() > 22:
        return rgb
    return np.minimum(rgb * (glass.max() / glass), 255)


def pen_marks(
    hue: npt.NDArray[np.float32],
    saturation: npt.NDArray[np.float32],
    value: npt.NDArray[np.float32],
) -> BoolArray:
    """Return where marker ink lies: green, cyan, blue and black.

    Haematoxylin is violet to blue (about 225 to 290 degrees) and rarely beyond half
    saturation at low resolution; ink is purer. Red ink has the hues of eosin and is kept:
    leaving eosin-rich tissue out would be worse.
    """
    green = (hue >= 75) & (hue < 170) & (saturation > 0.18) & (value < 0.95)
    cyan = (hue >= 170) & (hue < 205) & (saturation > 0.30)
    blue = (hue >= 205) & (hue < 246) & (saturation > 0.50)
    black = (value < 0.28) & (value * saturation < 0.12)
    ink = green | cyan | blue | black
    # Single pixels of these colours are carbon, pigment or noise; strokes survive an opening.
    ink = ndimage.binary_opening(ink, iterations=1)
    # The rim of a stroke fades through tissue-like hues.
    return ndimage.binary_dilation(ink, iterations=3) if ink.any() else ink


def tissue_mask(
    rgb: npt.NDArray[np.uint8], mpp: float, settings: TissueSettings | None = None
) -> BoolArray:
    """Return where a low-resolution picture of a slide shows tissue.

    Otsu's threshold on the saturation, held between an absolute floor and ceiling, without
    marker ink; small holes filled, specks removed.

    Parameters
    ----------
    rgb : uint8 (H, W, 3)
        The slide at low resolution; 4 to 16 um per pixel serve well.
    mpp : float
        Its um per pixel.
    settings : TissueSettings, optional

    Returns
    -------
    bool (H, W)
    """
    settings = settings or TissueSettings()
    # JPEG noise on glass has saturation of its own; a small blur takes it out.
    smooth = ndimage.gaussian_filter(rgb.astype(np.float32), sigma=(1, 1, 0))
    grey_glass = np.clip(without_tint(smooth) + 0.5, 0, 255).astype(np.uint8)
    hue, saturation, value = hue_saturation_value(grey_glass)
    ink = pen_marks(hue, saturation, value)
    threshold = float(np.clip(otsu(saturation[~ink]), settings.floor, settings.ceiling))
    mask = (saturation > threshold) & ~ink
    mask = ndimage.binary_closing(np.pad(mask, 2, mode="edge"), iterations=2)[2:-2, 2:-2] & ~ink
    mask = _keep_large(mask, settings.smallest_object_um2 / mpp**2)
    return (mask | _small_holes(mask, settings.largest_hole_um2 / mpp**2)) & ~ink


def _small_holes(mask: BoolArray, largest_px: float) -> BoolArray:
    """Return the enclosed gaps of at most this many pixels; what touches the edge is no hole."""
    labels, count = ndimage.label(~mask)
    if not count:
        return np.zeros_like(mask)
    small = np.bincount(labels.ravel()) <= largest_px
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    small[edge] = False
    small[0] = False
    return small[labels]


def _keep_large(mask: BoolArray, smallest_px: float) -> BoolArray:
    """Return the connected pieces of at least this many pixels."""
    labels, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(labels.ravel())
    large = sizes >= smallest_px
    large[0] = False
    return large[labels]


def is_dark_field(rgb: npt.NDArray[np.uint8]) -> bool:
    """Return whether the picture has a dark background, as fluorescence has."""
    return bool(np.median(rgb.max(-1)) < 40)
