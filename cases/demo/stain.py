"""From optical densities to the colours that a scanner sees: stain, optics, camera."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from cases.demo.nuclei import OD_UNITS

# Absorbance of red, green and blue per unit of stain (base e), after Macenko et al. 2009.
HAEMATOXYLIN = (0.5626, 0.7201, 0.4062)
EOSIN = (0.2159, 0.8012, 0.5581)


@dataclass(frozen=True)
class Scanner:
    """A scanner and the stainer before it: what one department's slides have in common."""

    name: str
    mpp: float
    haematoxylin: tuple[float, float, float] = HAEMATOXYLIN
    eosin: tuple[float, float, float] = EOSIN
    strength: tuple[float, float] = (1.0, 1.0)
    """Of haematoxylin and eosin."""
    white: tuple[int, int, int] = (243, 243, 243)
    blur_px: float = 0.6
    noise: float = 2.0
    jpeg_quality: int = 85


SCANNERS = {
    scanner.name: scanner
    for scanner in (
        Scanner("Aurora 40", 0.499, strength=(1.0, 1.0), white=(245, 243, 244)),
        Scanner(
            "Aurora 20",
            0.5032,
            haematoxylin=(0.60, 0.70, 0.37),
            strength=(0.9, 1.1),
            white=(241, 240, 243),
            blur_px=0.9,
            noise=2.6,
        ),
        Scanner(
            "Meridian S",
            0.4961,
            haematoxylin=(0.53, 0.74, 0.44),
            eosin=(0.17, 0.80, 0.50),
            strength=(1.08, 0.9),
            white=(238, 241, 239),
            blur_px=0.5,
            noise=1.6,
        ),
        Scanner(
            "Meridian X",
            0.4654,
            eosin=(0.24, 0.79, 0.60),
            strength=(0.94, 1.06),
            white=(247, 244, 240),
            blur_px=0.75,
            jpeg_quality=80,
        ),
    )
}


def developed(
    rng: np.random.Generator, haematoxylin: np.ndarray, eosin: np.ndarray, scanner: Scanner
) -> np.ndarray:
    """Return RGB (H, W, 3) uint8 of two density layers (H, W) uint8 in `OD_UNITS`.

    Beer-Lambert per channel, with the small differences that two runs of the same stainer
    have, then the scanner's optics and noise.
    """
    matrix = np.array([scanner.haematoxylin, scanner.eosin]) * rng.normal(1, 0.025, (2, 3))
    run = np.array(scanner.strength) * rng.normal(1, 0.07, 2)
    # Every pair of densities once, instead of three exponentials per pixel.
    steps = np.arange(256, dtype=np.float32) / OD_UNITS
    absorbed = steps[:, None, None] * (matrix[0] * run[0]) + steps[None, :, None] * (
        matrix[1] * run[1]
    )
    white = np.array(scanner.white) + rng.normal(0, 1.2, 3)
    table = np.clip(white * np.exp(-absorbed), 0, 255).astype(np.uint8).reshape(-1, 3)
    pair = haematoxylin.astype(np.uint16)
    pair <<= 8
    pair |= eosin
    rgb = np.take(table, pair, axis=0)
    blur = scanner.blur_px * float(rng.uniform(0.85, 1.2))
    rgb = np.array(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(blur)))
    return _with_noise(rng, rgb, scanner.noise)


def _with_noise(rng: np.random.Generator, rgb: np.ndarray, deviation: float) -> np.ndarray:
    """Add camera noise in place, strip by strip: no second copy of a large slide."""
    strip = 256
    noise = rng.normal(0, deviation, (strip + 64, rgb.shape[1], 3)).astype(np.int16)
    for top in range(0, len(rgb), strip):
        part = rgb[top : top + strip]
        start = int(rng.integers(0, 64))
        noisy = part + noise[start : start + len(part)]
        np.clip(noisy, 0, 255, out=noisy)
        part[:] = noisy
    return rgb
