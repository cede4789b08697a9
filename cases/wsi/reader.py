"""Open a slide of any format and read regions of it in one way.

reader = open_slide(Path("slide.svs"))
rgb = reader.read_region_l0(0, 0, 2048, 2048, 256, 256)
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from cases.wsi.colour import Correction
from cases.wsi.errors import (
    CorruptError,
    MissingFilesError,
    NotASlideError,
    TruncatedError,
    UnreadableError,
)
from cases.wsi.openslide_reader import OpenSlideReader
from cases.wsi.values import Rgb
from cases.wsi.wsidicom_reader import WsiDicomReader

SLIDE_EXTENSIONS = frozenset(
    (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".tif", ".tiff", ".svslide", ".czi", ".dcm", ".btf")
)
"""A file named like this whose content is something else is damaged, not just no slide."""

__all__ = ["Rgb", "SlideReader", "is_dicom", "open_slide", "open_vendor_file"]


class SlideReader(Protocol):
    """A slide opened for reading. Methods may be called from several threads at once.

    Attributes
    ----------
    width_l0, height_l0
        Size in level-0 pixels.
    mpp
        Micrometres per level-0 pixel (geometric mean of both axes), None when unknown.
    mpp_source
        `file`, `objective_power`, `entered`, or empty when mpp is None.
    objective_power
        Magnification of the objective, None when unknown.
    vendor
        OpenSlide's name of the format (`aperio` ...), or `dicom`.
    level_downsamples
        Level-0 pixels per pixel of each level, ascending from 1.0.
    level_dimensions
        (width, height) of each level in its own pixels.
    has_label_image
        Whether `label_image` would return one.
    correction
        What brings the pixels to sRGB by the slide's ICC profile; None where nothing needs to.
    """

    width_l0: int
    height_l0: int
    mpp: float | None
    mpp_source: str
    objective_power: float | None
    vendor: str
    level_count: int
    level_downsamples: tuple[float, ...]
    level_dimensions: tuple[tuple[int, int], ...]
    has_label_image: bool

    def read_region_l0(
        self,
        x_l0: float,
        y_l0: float,
        width_l0: float,
        height_l0: float,
        out_width: int,
        out_height: int,
    ) -> Rgb:
        """Return the region resampled to the asked size.

        Parameters
        ----------
        x_l0, y_l0, width_l0, height_l0
            The region in level-0 pixels; it may reach over the borders.
        out_width, out_height
            Size of the answer in pixels.

        Returns
        -------
        uint8 (out_height, out_width, 3)
            Taken from the nearest level that is as fine as or finer than asked. White
            outside the slide and where the scanner left no pixels.

        Raises
        ------
        WsiError
            `corrupt` when the data cannot be decoded.
        """
        ...

    @property
    def correction(self) -> Correction | None: ...

    def thumbnail(self, max_px: int) -> Rgb:
        """Return the whole slide without its label, its longer side at most `max_px`."""
        ...

    def label_image(self) -> Rgb | None:
        """Return the photo of the printed label: patient data, shown only with that right."""
        ...

    def close(self) -> None:
        """Release the files; reading afterwards raises."""
        ...


def open_slide(path: Path, *, mpp: float | None = None) -> SlideReader:
    """Return a reader for a vendor's file, a DICOM file, or the folder of a DICOM series.

    Parameters
    ----------
    path
        Told apart by content. Some vendors' formats also need their extension (.mrxs).
    mpp
        Micrometres per level-0 pixel that overrides what the file says.

    Raises
    ------
    WsiError
        With the named reason when it is no readable slide.
    """
    reader: OpenSlideReader | WsiDicomReader
    try:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file() and is_dicom(file))
            if not files:
                raise UnreadableError
            reader = WsiDicomReader(files)
        elif is_dicom(path):
            reader = WsiDicomReader([path])
        else:
            reader = open_vendor_file(path)
    except OSError as error:
        raise UnreadableError from error
    if mpp is not None:
        reader.mpp, reader.mpp_source = mpp, "entered"
    return reader


def is_dicom(path: Path) -> bool:
    """Return whether the file begins like DICOM (PS3.10: 128 bytes, then DICM)."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def open_vendor_file(path: Path) -> OpenSlideReader:
    """Return OpenSlide's reader of a vendor's file, or raise by name why there is none."""
    if path.stat().st_size == 0:
        raise TruncatedError("The file is empty.")
    extension = path.suffix.lower()
    if extension == ".mrxs" and not (path.with_suffix("") / "Slidedat.ini").is_file():
        raise MissingFilesError(
            "A MIRAX slide is its .mrxs file and the folder of the same name. "
            "Send both in one zip archive."
        )
    try:
        return OpenSlideReader(path)
    except NotASlideError as error:
        if extension not in SLIDE_EXTENSIONS:
            raise
        with path.open("rb") as file:
            begin = file.read(4)
        if begin in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise NotASlideError(
                "This TIFF is no whole slide image: it is not tiled, or of an unknown kind."
            ) from error
        raise CorruptError(
            f"The file is named {extension}, and its content is not of that kind: "
            "it is damaged or misnamed."
        ) from error
