"""Colours as a scanner meant them: from the slide's ICC profile to sRGB.

A profile says which colours the scanner's numbers stand for (ICC.1:2022; DICOM PS3.3 C.11.15).
Screens show sRGB, so the numbers are transformed before they are sent. Encoders get the numbers
as scanned.
"""

from __future__ import annotations

import io
from typing import cast

import numpy as np
from PIL import Image, ImageCms

from cases.wsi.values import Rgb

MAX_PROFILE_BYTES = 16 * 2**20

INVISIBLE = 2
"""Of 255: a profile that moves no colour further than this is sRGB in all but name."""


class Correction:
    """The transform of one profile to sRGB, made once. May be used from several threads."""

    def __init__(self, transform: ImageCms.ImageCmsTransform) -> None:
        self._transform = transform

    def apply(self, rgb: Rgb) -> Rgb:
        """Return the picture in sRGB."""
        image = ImageCms.applyTransform(Image.fromarray(rgb), self._transform)
        return np.asarray(image)


def correction(profile: bytes | None) -> Correction | None:
    """Return what brings a slide's pixels to sRGB.

    None where there is nothing to do: no profile, one that cannot be read or is not of RGB, or
    one of sRGB itself.
    """
    if not profile or len(profile) > MAX_PROFILE_BYTES:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != "RGB":
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
            # White on glass stays white on the screen, as pathologists know it.
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    found = Correction(cast(ImageCms.ImageCmsTransform, transform))
    shown = _lattice()
    moved = np.abs(found.apply(shown).astype(int) - shown)
    return found if moved.max() > INVISIBLE else None


def _lattice() -> Rgb:
    """Return colours from all over the cube: (81, 9, 3)."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(81, 9, 3)
