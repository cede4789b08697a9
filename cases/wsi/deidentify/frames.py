"""Takes out of a compressed frame what is no picture: comments, EXIF, thumbnails, trailing bytes.

A frame without such parts comes back as it is, byte for byte; the picture is never decoded.
"""

from __future__ import annotations

import re
import struct

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from cases.wsi.errors import CorruptError, UnsupportedTransferSyntaxError

JPEG = frozenset(map(str, (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)))
JPEG_LS = frozenset(map(str, (JPEGLSLossless, JPEGLSNearLossless)))
JPEG_2000 = frozenset(
    map(str, (JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K))
)
ENCAPSULATED = JPEG | JPEG_LS | JPEG_2000 | {str(RLELossless)}

_EOI, _SOS, _COM = 0xD9, 0xDA, 0xFE
_CME, _TLM = 0xFF64, 0xFF55
# In entropy-coded data a marker is FF and anything but a stuffed zero or a restart (T.81
# B.1.1.5); JPEG-LS stuffs one bit instead, so that a marker is FF and a byte from 80 on (T.87).
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_MARKER_LS = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
_DAMAGED = "The frames of the DICOM image are not coded as they should be."


def clean_frame(frame: bytes, transfer_syntax_uid: str) -> bytes:
    """Return the frame without anything that is not needed to decode it.

    Raises
    ------
    WsiError
        `corrupt`, or `unsupported_transfer_syntax` for codecs whose frames are not known here.
    """
    try:
        if transfer_syntax_uid in JPEG:
            return _clean_jpeg(frame, _MARKER)
        if transfer_syntax_uid in JPEG_LS:
            return _clean_jpeg(frame, _MARKER_LS)
        if transfer_syntax_uid in JPEG_2000:
            return _clean_jpeg_2000(frame)
    except (struct.error, IndexError) as error:
        raise CorruptError(_DAMAGED) from error
    if transfer_syntax_uid == RLELossless:
        return frame
    raise UnsupportedTransferSyntaxError


def _clean_jpeg(frame: bytes, markers: re.Pattern[bytes]) -> bytes:
    """Return the JPEG interchange stream (T.81 Annex B) without comments and foreign segments."""
    if frame[:2] != b"\xff\xd8":
        raise CorruptError(_DAMAGED)
    kept, at, changed = [frame[:2]], 2, False
    while True:
        if frame[at] != 0xFF:
            raise CorruptError(_DAMAGED)
        begin = at
        while frame[at] == 0xFF:  # fill bytes
            at += 1
        marker, at = frame[at], at + 1
        changed |= at - begin > 2
        if marker == _EOI:
            kept.append(b"\xff\xd9")
            rest = frame[at:]
            return frame if not changed and rest in (b"", b"\0") else b"".join(kept)
        (length,) = struct.unpack_from(">H", frame, at)
        segment = frame[at : at + length]
        if length < 2 or len(segment) < length:
            raise CorruptError(_DAMAGED)
        wanted = _segment(marker, segment)
        changed |= wanted != segment
        if wanted:
            kept.append(bytes((0xFF, marker)) + wanted)
        at += length
        if marker == _SOS:
            found = markers.search(frame, at)
            end = found.start() if found else len(frame)
            kept.append(frame[at:end])
            if found is None:
                raise CorruptError(_DAMAGED)
            at = end


def _segment(marker: int, segment: bytes) -> bytes:
    """Return what stays of a segment (length and content), empty for nothing."""
    if marker == 0xE0:  # JFIF decides how colours are read; its thumbnail does not
        is_jfif = segment[2:7] == b"JFIF\0" and len(segment) >= 16
        return b"\x00\x10" + segment[2:14] + b"\0\0" if is_jfif else b""
    if marker == 0xEE:  # so does Adobe's
        is_adobe = segment[2:7] == b"Adobe" and len(segment) >= 14
        return b"\x00\x0e" + segment[2:14] if is_adobe else b""
    if marker == _COM or 0xE0 <= marker <= 0xEF:
        return b""
    return segment


def _clean_jpeg_2000(frame: bytes) -> bytes:
    """Return the codestream (T.800 Annex A) without comment segments."""
    if frame[:4] != b"\xff\x4f\xff\x51":
        raise CorruptError(_DAMAGED)
    main, at, less_in_main = _without_comments(frame, 2, 0xFF90)
    parts, changed = [], 0
    while frame[at : at + 2] == b"\xff\x90":
        (length,) = struct.unpack_from(">I", frame, at + 6)
        end = at + length if length else _end_of_codestream(frame, at)
        header, data_at, less = _without_comments(frame, at + 12, 0xFF93)
        if not at + 12 <= data_at <= end <= len(frame):
            raise CorruptError(_DAMAGED)
        start = frame[at : at + 12]
        if less and length:
            start = start[:6] + struct.pack(">I", length - less) + start[10:]
        changed += less
        parts.append(start + header + frame[data_at:end])
        at = end
    if frame[at : at + 2] != b"\xff\xd9" or not parts:
        raise CorruptError(_DAMAGED)
    if not changed and not less_in_main and frame[at + 2 :] in (b"", b"\0"):
        return frame
    if changed:  # the main header's optional table of lengths is wrong now
        main, _at, _less = _without_comments(frame, 2, 0xFF90, (_CME, _TLM))
    return b"".join((frame[:2], main, *parts, b"\xff\xd9"))


def _without_comments(
    frame: bytes, at: int, until: int, unwanted: tuple[int, ...] = (_CME,)
) -> tuple[bytes, int, int]:
    """Return the marker segments up to one marker, where that stands, and the bytes left out."""
    kept: list[bytes] = []
    less = 0
    while True:
        (marker,) = struct.unpack_from(">H", frame, at)
        if marker == until:
            return b"".join(kept), at, less
        (length,) = struct.unpack_from(">H", frame, at + 2)
        if length < 2 or marker < 0xFF00:
            raise CorruptError(_DAMAGED)
        if marker in unwanted:
            less += 2 + length
        else:
            kept.append(frame[at : at + 2 + length])
        at += 2 + length


def _end_of_codestream(frame: bytes, at: int) -> int:
    end = frame.rfind(b"\xff\xd9", at)
    if end < 0:
        raise CorruptError(_DAMAGED)
    return end
