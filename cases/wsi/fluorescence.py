"""Monochrome optical paths as one picture: each in its colour, in light that one can see.

A camera's counts fill a small part of their range, so each channel is stretched between what
is dark and what is bright on the whole slide, once, and the coloured channels are added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cases.wsi.values import Rgb

BLUE, GREEN, RED = (0.1, 0.35, 1.0), (0.1, 1.0, 0.1), (1.0, 0.15, 0.1)
YELLOW, MAGENTA, CYAN, WHITE = (1.0, 0.85, 0.0), (1.0, 0.1, 1.0), (0.0, 0.9, 0.9), (1.0, 1.0, 1.0)
# DICOM says the illuminator's wavelength; the dyes that it excites glow in these colours.
BY_WAVELENGTH = ((440, BLUE), (470, CYAN), (510, GREEN), (565, YELLOW), (620, RED), (800, MAGENTA))
IN_TURN = (BLUE, GREEN, RED, YELLOW, MAGENTA, CYAN)
DARK_PERCENTILE, BRIGHT_PERCENTILE = 50.0, 99.8
MAX_SAMPLES = 4_000_000


@dataclass(frozen=True)
class Channel:
    """One optical path.

    Attributes
    ----------
    colour
        RGB from 0 to 1.
    low, high
        Counts that are shown as black and as the full colour.
    """

    colour: tuple[float, float, float]
    low: float
    high: float


def colours_of(wavelengths: Sequence[float | None]) -> list[tuple[float, float, float]]:
    """Return a colour for each optical path, by its wavelength in nm where it says one.

    One path alone is shown in grey: a colour would add nothing.
    """
    if len(wavelengths) == 1:
        return [WHITE]
    colours = []
    for number, wavelength in enumerate(wavelengths):
        known = [colour for limit, colour in BY_WAVELENGTH if wavelength and wavelength <= limit]
        colour = known[0] if known else IN_TURN[number % len(IN_TURN)]
        if colour in colours:
            colour = next((other for other in IN_TURN if other not in colours), WHITE)
        colours.append(colour)
    return colours


def stretch(counts: npt.NDArray[np.integer], colour: tuple[float, float, float]) -> Channel:
    """Return how a channel is shown, from the counts of a coarse level."""
    sample = counts.reshape(-1)
    sample = sample[:: max(1, len(sample) // MAX_SAMPLES)]
    low, high = np.percentile(sample, (DARK_PERCENTILE, BRIGHT_PERCENTILE))
    # Hardly anything glows: the brightest counts then, not their noise.
    high = max(float(high), float(sample.max()) * 0.5 if high <= low else float(high), low + 1.0)
    return Channel(colour, float(low), high)


def compose(counts: Sequence[npt.NDArray[np.integer]], channels: Sequence[Channel]) -> Rgb:
    """Return uint8 (height, width, 3) of channels' counts, each (height, width)."""
    height, width = counts[0].shape
    total = np.zeros((height, width, 3), np.float32)
    for plane, channel in zip(counts, channels, strict=True):
        light = (plane.astype(np.float32) - channel.low) / (channel.high - channel.low)
        total += light.clip(0, 1)[..., np.newaxis] * np.array(channel.colour, np.float32)
    return np.asarray((total.clip(0, 1) * 255).round(), np.uint8)
