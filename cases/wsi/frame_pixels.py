"""One frame of a DICOM instance as pixels: to send uncompressed, or as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import UID
from wsidicom.codec import Decoder
from wsidicom.geometry import Size

from cases.wsi.errors import CorruptError, UnsupportedTransferSyntaxError
from cases.wsi.values import Rgb
from cases.wsi.wsidicom_reader import can_decode

NATIVE = frozenset(("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"))


@dataclass(frozen=True)
class FrameFormat:
    """How the frames of an instance are coded (PS3.3 C.7.6.3)."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    photometric: str
    is_planar: bool

    @classmethod
    def of_json(cls, metadata: Mapping[str, Any], transfer_syntax_uid: str) -> FrameFormat:
        """Return the format by the DICOM JSON model. Raises KeyError where there are no pixels."""

        def number(tag: str, default: int | None = None) -> int:
            values = metadata.get(tag, {}).get("Value")
            if not values:
                if default is None:
                    raise KeyError(tag)
                return default
            return int(values[0])

        samples = number("00280002", 1)
        return cls(
            transfer_syntax_uid=transfer_syntax_uid,
            rows=number("00280010"),
            columns=number("00280011"),
            samples=samples,
            bits_allocated=number("00280100"),
            # Maps of floats say only what is allocated.
            bits_stored=number("00280101", number("00280100")),
            photometric=str(metadata["00280004"]["Value"][0]),
            is_planar=samples > 1 and number("00280006", 0) == 1,
        )

    @property
    def decodes(self) -> bool:
        """Return whether the installed decoders read such frames."""
        return can_decode(
            self.transfer_syntax_uid, self.samples, self.bits_stored, self.photometric
        )


def decode(frame: bytes, form: FrameFormat) -> npt.NDArray[Any]:
    """Return (rows, columns) or (rows, columns, 3) unsigned pixels; colour is RGB.

    Raises
    ------
    WsiError
        `unsupported_transfer_syntax` or `corrupt`.
    """
    if form.transfer_syntax_uid in NATIVE:
        return _native(frame, form)
    if not form.decodes:
        raise UnsupportedTransferSyntaxError
    try:
        decoder = Decoder.create(
            UID(form.transfer_syntax_uid),
            form.samples,
            form.bits_stored,
            Size(form.columns, form.rows),
            form.photometric,
        )
        pixels = np.asarray(decoder.decode(frame))
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like
        raise CorruptError("Image data of the DICOM instance cannot be decoded.") from error
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def _native(frame: bytes, form: FrameFormat) -> npt.NDArray[Any]:
    if form.bits_allocated not in (8, 16) or form.photometric == "YBR_FULL_422":
        raise UnsupportedTransferSyntaxError("Uncompressed pixels of this kind are not shown.")
    pixels = np.frombuffer(frame, "<u2" if form.bits_allocated == 16 else "u1")
    shape = (form.rows, form.columns, form.samples)
    if form.is_planar:
        return pixels.reshape(form.samples, form.rows, form.columns).transpose(1, 2, 0)
    return pixels.reshape(shape if form.samples > 1 else shape[:2])


def native_bytes(frame: bytes, form: FrameFormat) -> bytes:
    """Return the frame as Explicit VR Little Endian pixel data: by row, colour by pixel, RGB."""
    pixels = decode(frame, form)
    kind = "<u2" if form.bits_allocated == 16 else "u1"
    return np.ascontiguousarray(pixels).astype(kind, copy=False).tobytes()


def picture(frame: bytes, form: FrameFormat) -> Rgb:
    """Return the frame as 8-bit RGB, dark as stored; MONOCHROME1 is turned round."""
    pixels = decode(frame, form)
    if pixels.dtype != np.uint8:
        pixels = (pixels >> max(0, form.bits_stored - 8)).clip(0, 255).astype(np.uint8)
    if form.photometric == "MONOCHROME1":
        pixels = 255 - pixels
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., np.newaxis], 3, axis=2)
    return np.asarray(pixels, np.uint8)
