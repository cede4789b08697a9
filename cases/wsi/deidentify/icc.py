"""ICC profiles without their texts.

A profile (ICC.1:2022) is a header, a table and tagged data. What colours need is curves,
matrices and tables; descriptions, copyright, device names, dates and ids are text that can name
a hospital. The profile is built anew from the numeric tags, with texts of our own.
"""

from __future__ import annotations

import io
import struct
from functools import cache

from PIL import ImageCms

TEXT = "Colour profile"
_HEADER = 128
_MAX_BYTES = 16 * 2**20
_COLOURS = {
    b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"bkpt", b"rTRC", b"gTRC", b"bTRC", b"kTRC",
    b"chad", b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"gamt", b"lumi",
}  # fmt: skip
_TYPES = {b"XYZ ", b"curv", b"para", b"sf32", b"mft1", b"mft2", b"mAB ", b"mBA "}
_CLASSES = {b"scnr", b"mntr", b"prtr", b"spac"}
_SPACES = {b"RGB ", b"GRAY", b"XYZ ", b"Lab "}
# 2000-01-01, for a date must be there.
_MADE = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)


def clean_profile(profile: bytes) -> bytes:
    """Return the profile without texts; sRGB, which viewers assume, where it cannot be read."""
    try:
        return _rebuilt(profile)
    except (ValueError, struct.error):
        return srgb()


@cache
def srgb() -> bytes:
    """Return an sRGB profile."""
    return _rebuilt(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


def is_clean(profile: bytes) -> bool:
    """Return whether a profile is exactly what `clean_profile` makes."""
    try:
        return _rebuilt(profile) == profile
    except (ValueError, struct.error):
        return False


def _rebuilt(profile: bytes) -> bytes:
    if not _HEADER < len(profile) <= _MAX_BYTES or profile[36:40] != b"acsp":
        raise ValueError("no ICC profile")
    major, kind, space, connection = profile[8], profile[12:16], profile[16:20], profile[20:24]
    if major not in (2, 4) or kind not in _CLASSES or not {space, connection} <= _SPACES:
        raise ValueError("an ICC profile of another kind")
    tags = _tags(profile)
    if not tags:
        raise ValueError("an ICC profile without colours")
    tags[b"desc"] = _description(major)
    tags[b"cprt"] = _copyright(major)
    intent = bytes((0, 0, 0, min(profile[67], 3)))
    header = b"".join(
        (
            bytes(4),  # size, below
            bytes(4),  # colour management module
            bytes((major, 0x30 if major == 4 else 0x20, 0, 0)),
            kind + space + connection,
            _MADE,
            b"acsp",
            bytes(4),  # platform
            bytes(4),  # flags
            bytes(16),  # maker, model and attributes of the device
            intent,
            bytes.fromhex("0000f6d6000100000000d32d"),  # D50, the illuminant of all profiles
            bytes(_HEADER - 80),
        )
    )
    return _assembled(header, tags)


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, _HEADER)
    if count > 200:
        raise ValueError("too many tags")
    found = {}
    for number in range(count):
        name, offset, size = struct.unpack_from(">4sII", profile, _HEADER + 4 + 12 * number)
        data = profile[offset : offset + size]
        if len(data) != size or size < 8:
            raise ValueError("a tag outside the profile")
        if name in _COLOURS and data[:4] in _TYPES:
            found[name] = data[:4] + bytes(4) + data[8:]
    return found


def _assembled(header: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = [], io.BytesIO()
    start = _HEADER + 4 + 12 * len(tags)
    placed: dict[bytes, int] = {}
    for name in sorted(tags):
        data = tags[name]
        if data not in placed:  # equal curves share their bytes, as profiles do
            placed[data] = start + body.tell()
            body.write(data + bytes(-len(data) % 4))
        table.append(struct.pack(">4sII", name, placed[data], len(data)))
    whole = header + struct.pack(">I", len(tags)) + b"".join(table) + body.getvalue()
    return struct.pack(">I", len(whole)) + whole[4:]


def _localised(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    record = struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(encoded), 28)
    return b"mluc" + bytes(4) + record + encoded


def _description(major: int) -> bytes:
    if major == 4:
        return _localised(TEXT)
    text = TEXT.encode("ascii") + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)


def _copyright(major: int) -> bytes:
    return _localised(TEXT) if major == 4 else b"text" + bytes(4) + TEXT.encode("ascii") + b"\0"
