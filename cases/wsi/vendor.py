"""A vendor's file as one slide: is it whole, and what do its properties say?"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cases.wsi.delivery import FoundSlide, Limits
from cases.wsi.errors import (
    AbsurdDimensionsError,
    CorruptError,
    NotASlideError,
    TruncatedError,
    UnsupportedImageError,
)
from cases.wsi.openslide_reader import OpenSlideReader
from cases.wsi.reader import open_vendor_file
from cases.wsi.tiff import inspect, is_tiff
from cases.wsi.values import clean_text, iso_time, sha256_of_file, sha256_of_set

_SCANNER_PROPERTIES = (
    "aperio.ScanScope ID",
    "hamamatsu.Product",
    "leica.device-model",
    "ventana.ScannerModel",
    "mirax.NONHIERLAYER_0_SECTION.SCANNER_HARDWARE_ID",
    "philips.DICOM_MANUFACTURERS_MODEL_NAME",
    "tiff.Model",
)
_DARK = 40
"""Brightest channel of a pixel that no brightfield background has."""


def examine_vendor_file(
    folder: Path, file: str, limits: Limits, *, name: str, key: str, tick: Callable[[], None]
) -> FoundSlide:
    """Return what a vendor's file and what belongs to it say.

    Parameters
    ----------
    folder, file
        The examined folder and the slide's file in it.
    name, key
        How people know it, and what tells it apart.
    tick
        Called now and then during long reads.

    Raises
    ------
    WsiError
        By name, when it is no slide or cannot be trusted to be whole.
    """
    path = folder / file
    if path.suffix.lower() in {".vms", ".vmu"}:
        raise UnsupportedImageError(
            "Hamamatsu VMS and VMU slides of several files are not supported. Send NDPI."
        )
    if is_tiff(path):
        facts = inspect(path)
        _require_plausible(facts.width, facts.height, limits)
        if facts.is_cut:
            raise TruncatedError
    reader = _open(path)
    try:
        width, height = reader.width_l0, reader.height_l0
        _require_plausible(width, height, limits)
        reader.require_decodable()
        files = accompanying_files(folder, file)
        hashes = [sha256_of_file(folder / part, tick) for part in files]
        properties = reader.properties
        return FoundSlide(
            key=key,
            name=name,
            files=files,
            main_file=file,
            source_format="vendor",
            vendor=reader.vendor[:40],
            content_sha256=hashes[0] if len(files) == 1 else sha256_of_set(hashes),
            size_bytes=sum((folder / part).stat().st_size for part in files),
            width_l0=width,
            height_l0=height,
            level_count=reader.level_count,
            mpp=reader.mpp,
            mpp_source=reader.mpp_source,
            objective_power=reader.objective_power,
            scanner=_scanner(properties),
            scanned_at=_scanned_at(properties),
            is_fluorescence=_is_fluorescence(reader),
            has_label_image=reader.has_label_image,
            container_id=_barcode(properties),
        )
    finally:
        reader.close()


def _require_plausible(width: int, height: int, limits: Limits) -> None:
    """Raise for a size that no slide has. A size of 0 is not known."""
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise AbsurdDimensionsError(f"The image claims {width} x {height} pixels.")


def accompanying_files(folder: Path, file: str) -> tuple[str, ...]:
    """Return the file and, for MIRAX, everything in the folder of the same name; sorted."""
    path = folder / file
    if path.suffix.lower() != ".mrxs":
        return (file,)
    parts = (part for part in path.with_suffix("").rglob("*") if part.is_file())
    return tuple(sorted((file, *(part.relative_to(folder).as_posix() for part in parts))))


def _open(path: Path) -> OpenSlideReader:
    """Return the reader; a TIFF of which OpenSlide finds nothing is told apart from garbage."""
    try:
        return open_vendor_file(path)
    except (NotASlideError, CorruptError):
        if path.suffix.lower() == ".mrxs":
            raise CorruptError("The MIRAX slide's folder is damaged or incomplete.") from None
        raise


def _scanner(properties: Mapping[str, str]) -> str:
    """Return the scanner's name with the maker's where the name alone says little."""
    for name in _SCANNER_PROPERTIES:
        if text := clean_text(properties.get(name), 100):
            vendor = name.split(".")[0]
            return text if vendor == "tiff" else f"{vendor.capitalize()} {text}"
    return ""


def _scanned_at(properties: Mapping[str, str]) -> str:
    """Return when the slide was scanned by the scanner's clock, ISO, without zone."""
    aperio = f"{properties.get('aperio.Date', '')} {properties.get('aperio.Time', '')}".strip()
    return (
        iso_time(aperio, "%m/%d/%y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%m/%d/%y", "%m/%d/%Y")
        or iso_time(properties.get("tiff.DateTime", "").strip(), "%Y:%m:%d %H:%M:%S")
        or iso_time(
            properties.get("leica.creation-date", "").strip(),
            "%Y-%m-%dT%H:%M:%S.%fZ",
            "%Y-%m-%dT%H:%M:%SZ",
        )
        or iso_time(
            properties.get("mirax.GENERAL.SLIDE_CREATIONDATETIME", "").strip(),
            "%d/%m/%Y %H:%M:%S",
        )
    )


def _barcode(properties: Mapping[str, str]) -> str:
    """Return what the scanner read from the label, whatever the vendor calls it."""
    for name in sorted(properties):
        if "barcode" not in name.rsplit(".", 1)[-1].casefold():
            continue
        text = properties[name]
        if name.startswith(("leica.", "philips.")):
            text = _base64_text(text)
        if text := clean_text(text, 120):
            return text
    return ""


def _base64_text(text: str) -> str:
    """Return the text behind base64, or the text itself when it is none."""
    try:
        return base64.b64decode(text, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return text


def _is_fluorescence(reader: OpenSlideReader) -> bool:
    """Return whether the file says fluorescence, or the slide is dark where glass would be."""
    for name, value in reader.properties.items():
        field = name.rsplit(".", 1)[-1].casefold()
        says = field in {"illumination-source", "illuminationsource", "slide_type", "scanmode"}
        if says and "fluo" in value.casefold():
            return True
    # A large slide of one level would have to be decoded whole; its header must do.
    smallest = reader.level_dimensions[-1]
    if smallest[0] * smallest[1] > 16_000_000:
        return False
    return bool(np.median(reader.thumbnail(256).max(axis=2)) < _DARK)
