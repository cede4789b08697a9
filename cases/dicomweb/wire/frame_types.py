"""In which media type frames and instances are sent (PS3.18 8.7.3, tables 8.7.3-2 to 8.7.3-6).

Nothing is transcoded from one compression to another: frames go out as they came in, or are
decoded to Explicit VR Little Endian, which is the standard's default for octet streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cases.dicomweb.wire.accept import MediaType

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
NATIVE = frozenset(("1.2.840.10008.1.2", EXPLICIT_LITTLE_ENDIAN))
OCTETS = "application/octet-stream"
DICOM = "application/dicom"

_JPEG, _JLS, _JP2, _JPX, _JPHC = "image/jpeg", "image/jls", "image/jp2", "image/jpx", "image/jphc"
MEDIA_TYPES = {
    "1.2.840.10008.1.2.4.50": _JPEG,
    "1.2.840.10008.1.2.4.51": _JPEG,
    "1.2.840.10008.1.2.4.57": _JPEG,
    "1.2.840.10008.1.2.4.70": _JPEG,
    "1.2.840.10008.1.2.4.80": _JLS,
    "1.2.840.10008.1.2.4.81": _JLS,
    "1.2.840.10008.1.2.4.90": _JP2,
    "1.2.840.10008.1.2.4.91": _JP2,
    "1.2.840.10008.1.2.4.92": _JPX,
    "1.2.840.10008.1.2.4.93": _JPX,
    "1.2.840.10008.1.2.4.201": _JPHC,
    "1.2.840.10008.1.2.4.202": _JPHC,
    "1.2.840.10008.1.2.4.203": _JPHC,
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}


@dataclass(frozen=True)
class FrameAnswer:
    """How frames are sent.

    Attributes
    ----------
    media_type
        Of each frame, without parameters.
    transfer_syntax
        In which the frame's bytes are.
    is_multipart
        As multipart/related, else one frame as the whole body.
    is_decoded
        The stored bytes must be decoded to uncompressed pixels.
    """

    media_type: str
    transfer_syntax: str
    is_multipart: bool
    is_decoded: bool = False

    @property
    def part_type(self) -> str:
        """Return the content type of a frame."""
        return f"{self.media_type}; transfer-syntax={self.transfer_syntax}"


def choose_frames(
    accepted: Sequence[MediaType], syntax: str, count: int, *, decodes: bool
) -> FrameAnswer | None:
    """Return how to send frames, None when the client accepts nothing that can be sent.

    Parameters
    ----------
    accepted
        What the client accepts, the most wanted first.
    syntax
        Transfer syntax in which the frames are kept.
    count
        How many frames were asked for: several go as multipart only.
    decodes
        Whether they could be decoded.
    """
    for accept in accepted:
        # With no type said, a multipart is the standard's default.
        is_multipart = accept.name in ("multipart/related", "*/*")
        if not is_multipart and count != 1:
            continue
        answer = _answer(accept, syntax, is_multipart, decodes)
        if answer is not None:
            return answer
    return None


def _answer(
    accept: MediaType, syntax: str, is_multipart: bool, decodes: bool
) -> FrameAnswer | None:
    kind, wanted = accept.root, accept.transfer_syntax
    own = MEDIA_TYPES.get(syntax, OCTETS)
    if syntax in NATIVE:
        # The pixels of both native syntaxes are the same bytes.
        if kind not in ("*/*", "application/*", OCTETS) or wanted not in ("", "*", *NATIVE):
            return None
        named = wanted if wanted in NATIVE else EXPLICIT_LITTLE_ENDIAN
        return FrameAnswer(OCTETS, named, is_multipart)
    if kind in ("*/*", f"{own.partition('/')[0]}/*", own) and wanted in ("", "*", syntax):
        return FrameAnswer(own, syntax, is_multipart)
    if kind in ("*/*", OCTETS, "application/*"):
        if wanted in ("*", syntax):
            return FrameAnswer(OCTETS, syntax, is_multipart)
        if wanted in ("", EXPLICIT_LITTLE_ENDIAN) and decodes:
            return FrameAnswer(OCTETS, EXPLICIT_LITTLE_ENDIAN, is_multipart, is_decoded=True)
    return None


def choose_instances(
    accepted: Sequence[MediaType], syntaxes: frozenset[str], count: int
) -> str | None:
    """Return `multipart/related` or `application/dicom` for whole instances, None for neither.

    Parameters
    ----------
    accepted
        What the client accepts, the most wanted first.
    syntaxes
        Transfer syntaxes of the instances; they are sent in no other.
    count
        How many: a single one may go without multipart.
    """
    for accept in accepted:
        wanted = accept.transfer_syntax
        if wanted not in ("", "*") and syntaxes != {wanted}:
            continue
        if accept.name in ("*/*", "multipart/related", "multipart/*"):
            if accept.root in ("*/*", DICOM, "application/*", "multipart/*"):
                return "multipart/related"
        elif accept.name in (DICOM, "application/*") and count == 1:
            return DICOM
    return None


def frame_numbers(text: str) -> list[int]:
    """Return the numbers of a frame list such as `1,5,7`.

    Raises
    ------
    ValueError
        When it is none.
    """
    numbers = text.split(",")
    if not all(n.isascii() and n.isdecimal() and len(n) < 10 for n in numbers):
        raise ValueError("this is no list of frame numbers")
    return [int(n) for n in numbers]
