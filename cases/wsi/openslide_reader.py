"""Vendors' files through OpenSlide."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide
from PIL import Image, ImageCms

from cases.wsi.errors import CorruptError, NotASlideError
from cases.wsi.regions import RegionReader
from cases.wsi.values import Rgb

MAX_PLAUSIBLE_MPP = 100.0
"""Micrometres per pixel; no objective scans coarser."""

MAX_PLAUSIBLE_TAG_MPP = 10.0
"""The same for plain TIFF, whose resolution tags mostly speak of paper: 300 dpi is 85 um."""

MIN_PLAUSIBLE_MPP = 0.01
MAX_OBJECTIVE_POWER = 200.0


class OpenSlideReader(RegionReader):
    """A vendor's file.

    OpenSlide's handles may be used from several threads. After a failed read a handle stays
    failed: open the file again.

    Parameters
    ----------
    path
        The file, with the extension that its vendor uses.

    Raises
    ------
    NotASlideError, CorruptError
        When no vendor's format is recognised, or it is and cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise NotASlideError from error
        except openslide.OpenSlideError as error:
            raise CorruptError(f"The file cannot be opened: {_reason(error)}.") from error
        self.properties: Mapping[str, str] = dict(self._slide.properties)
        self.vendor = self.properties.get(openslide.PROPERTY_NAME_VENDOR, "")
        self._set_levels(list(self._slide.level_dimensions), list(self._slide.level_downsamples))
        self.objective_power = objective_power(self.properties)
        self.mpp, self.mpp_source = resolution(self.properties, self.objective_power)
        self.has_label_image = "label" in self._slide.associated_images

    def _read_level(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        downsample = self.level_downsamples[level]
        # OpenSlide places by level-0 pixels and divides by its own factor, which differs
        # from the whole one where it took the odd last row into account.
        own = self._slide.level_downsamples[level]
        place = (_place(x, downsample, own), _place(y, downsample, own))
        try:
            image = self._slide.read_region(place, level, (width, height))
        except openslide.OpenSlideError as error:
            raise CorruptError(
                f"Image data of the file cannot be decoded: {_reason(error)}."
            ) from error
        return _on_white(image)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """Return whole pixels of one level; the rectangle lies inside it, in its own pixels."""
        return self._read_level(level, x, y, width, height)

    def icc_profile(self) -> bytes | None:
        """Return the file's ICC profile; None also where it cannot be read."""
        with contextlib.suppress(openslide.OpenSlideError, ImageCms.PyCMSError, OSError):
            profile = self._slide.color_profile
            return profile.tobytes() if profile is not None else None
        return None

    def label_image(self) -> Rgb | None:
        """Return the photo of the label (see SlideReader)."""
        if not self.has_label_image:
            return None
        try:
            return _on_white(self._slide.associated_images["label"])
        except openslide.OpenSlideError as error:
            raise CorruptError("The label image cannot be decoded.") from error

    def close(self) -> None:
        """Release the file."""
        self._slide.close()


def detect_vendor(path: Path) -> str:
    """Return OpenSlide's name for the format of the file, empty when it knows none."""
    try:
        return openslide.OpenSlide.detect_format(path) or ""
    except openslide.OpenSlideError:
        return ""


def objective_power(properties: Mapping[str, str]) -> float | None:
    """Return the magnification that OpenSlide found, None when absent or absurd."""
    power = _number(properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER))
    return power if power and power <= MAX_OBJECTIVE_POWER else None


def resolution(properties: Mapping[str, str], power: float | None) -> tuple[float | None, str]:
    """Return micrometres per level-0 pixel and where that comes from.

    The file's own value is preferred, then its resolution tags, then 10 / objective power
    (a 20x objective gives about 0.5 um). Nothing else is tried: (None, "") is an answer.
    """
    x = _number(properties.get(openslide.PROPERTY_NAME_MPP_X))
    y = _number(properties.get(openslide.PROPERTY_NAME_MPP_Y))
    is_plain_tiff = properties.get(openslide.PROPERTY_NAME_VENDOR) == "generic-tiff"
    most = MAX_PLAUSIBLE_TAG_MPP if is_plain_tiff else MAX_PLAUSIBLE_MPP
    if x is None or y is None:
        x, y, most = *_from_tags(properties), MAX_PLAUSIBLE_TAG_MPP
    if x and y:
        mpp = math.sqrt(x * y)
        if MIN_PLAUSIBLE_MPP <= mpp <= most:
            return mpp, "file"
    if power:
        return 10.0 / power, "objective_power"
    return None, ""


def _from_tags(properties: Mapping[str, str]) -> tuple[float | None, float | None]:
    """Return micrometres per pixel of both axes by the TIFF resolution tags."""
    unit = {"inch": 25_400.0, "centimeter": 10_000.0}.get(properties.get("tiff.ResolutionUnit", ""))
    x = _number(properties.get("tiff.XResolution"))
    y = _number(properties.get("tiff.YResolution"))
    if unit is None or not x or not y:
        return None, None
    return unit / x, unit / y


def _number(text: str | None) -> float | None:
    try:
        value = float((text or "").replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _place(position: int, downsample: float, own: float) -> int:
    """Return the level-0 pixel for which OpenSlide reads from `position` of its level."""
    if downsample == own:
        return math.ceil(position * downsample - 1e-6)
    return round(position * own)


def _on_white(image: Image.Image) -> Rgb:
    """Return the pixels without alpha, white where the scanner left none."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        canvas = Image.new("RGB", image.size, (255, 255, 255))
        canvas.paste(image, mask=image.getchannel("A"))
        return np.array(canvas)
    return np.array(image.convert("RGB"))


def _reason(error: Exception) -> str:
    """Return OpenSlide's reason in one line without paths of this machine."""
    text = str(error).splitlines()[0] if str(error) else "no reason given"
    return " ".join(word for word in text.split() if "/" not in word)[:200].rstrip(".")
