"""How far a slide can be trusted as evidence: is it in focus, has somebody written on it.

NumPy and SciPy only. docs/search.md says what the bounds were found on.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from retrieval.engine.tissue import hue_saturation_value

Rgb = npt.NDArray[np.uint8]

# Focus is judged at one resolution, or a coarse scan would look sharper than a fine one.
FOCUS_MPP = 0.5
FOCUS_PX = 256
BLURRED_FROM = 0.6
PEN_FROM = 0.001

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_REBLUR_PX = 11
_FLAT = 8.0  # standard deviation of grey values under which there is nothing to be sharp
_STROKE_PX = 40  # smaller specks of a picture of 1,024 pixels are no writing


def blur_measure(rgb: Rgb) -> float | None:
    """Return how blurred a picture is: 0 sharp, 1 without any edge; None where it is flat.

    A picture is blurred once more: a sharp one loses most of its variation between neighbours, a
    blurred one little (F. Crété, T. Dolmiere, P. Ladret, M. Nicolas, "The blur effect: perception
    and estimation with a new no-reference perceptual blur metric", SPIE 6492, 2007).

    Parameters
    ----------
    rgb : uint8 (H, W, 3)
        At FOCUS_MPP µm per pixel; at least 16 pixels on each side.
    """
    grey = rgb.astype(np.float32) @ _LUMINANCE
    if grey.std() < _FLAT:
        return None
    measures = []
    for axis in (0, 1):
        again = ndimage.uniform_filter1d(grey, _REBLUR_PX, axis=axis)
        before = np.abs(np.diff(grey, axis=axis))
        lost = np.maximum(0, before - np.abs(np.diff(again, axis=axis)))
        whole = float(before.sum())
        measures.append((whole - float(lost.sum())) / whole if whole else 1.0)
    return max(measures)


def pen_share(rgb: Rgb) -> float:
    """Return the share of a whole slide's picture that is green or blue ink.

    For haematoxylin and eosin, which have no green and no blue as pure as ink. Black and red ink
    are not told from pigment, folds, blood and eosin, and so are not looked for.

    Parameters
    ----------
    rgb : uint8 (H, W, 3)
        The whole slide, its longer side about 1,024 pixels.
    """
    hue, saturation, value = hue_saturation_value(rgb)
    green = (hue > 85) & (hue < 175) & (saturation > 0.3) & (value > 0.15)
    blue = (hue >= 195) & (hue < 242) & (saturation > 0.6) & (value > 0.25)
    labels, count = ndimage.label(green | blue)
    if not count:
        return 0.0
    sizes = np.bincount(labels.ravel())[1:]
    return float(sizes[sizes >= _STROKE_PX].sum() / labels.size)
