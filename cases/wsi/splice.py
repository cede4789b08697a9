"""Gzip bodies put together from parts that were compressed once (RFC 1951, RFC 1952).

Each part is a run of deflate blocks that refers to nothing before it and ends on a byte, so
parts can follow each other in any order; text that is known only later (the site's address)
goes between them uncompressed. One member, because many clients read only the first.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

_GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_LAST_BLOCK = b"\x01\0\0\xff\xff"
_PART = struct.Struct("<III")
_POLYNOMIAL = 0xEDB88320


@dataclass(frozen=True)
class Part:
    """Compressed text: deflate blocks, and CRC-32 and length of what they hold."""

    deflated: bytes
    crc: int
    length: int

    def text(self) -> bytes:
        """Return what the part holds."""
        return zlib.decompressobj(-15).decompress(self.deflated)


def compressed(text: bytes) -> Part:
    """Return the text as a part."""
    engine = zlib.compressobj(6, zlib.DEFLATED, -15)
    deflated = engine.compress(text) + engine.flush(zlib.Z_FULL_FLUSH)
    return Part(deflated, zlib.crc32(text), len(text))


def stored(text: bytes) -> Part:
    """Return a short text (below 64 KiB) as a part that is not compressed."""
    size = len(text)
    head = struct.pack("<BHH", 0, size, size ^ 0xFFFF)
    return Part(head + text if text else b"", zlib.crc32(text), size)


def gzip_of(parts: Iterable[Part]) -> bytes:
    """Return one gzip member that holds the parts' texts one after the other."""
    crc, length, pieces = 0, 0, [_GZIP_HEAD]
    for part in parts:
        pieces.append(part.deflated)
        crc = _multiplied(_shift(part.length), crc) ^ part.crc
        length += part.length
    pieces += [_LAST_BLOCK, struct.pack("<II", crc, length & 0xFFFFFFFF)]
    return b"".join(pieces)


def pack(parts: Sequence[Part]) -> bytes:
    """Return the parts as bytes for keeping."""
    return b"".join(
        _PART.pack(len(part.deflated), part.crc, part.length) + part.deflated for part in parts
    )


def unpack(data: bytes) -> list[Part]:
    """Return the parts that `pack` wrote."""
    parts, place = [], 0
    while place < len(data):
        size, crc, length = _PART.unpack_from(data, place)
        place += _PART.size
        parts.append(Part(data[place : place + size], crc, length))
        place += size
    return parts


def _multiplied(a: int, b: int) -> int:
    """Return a * b modulo the CRC's polynomial, both bit-reflected."""
    product, bit = 0, 1 << 31
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


@lru_cache(maxsize=4096)
def _shift(length: int) -> int:
    """Return x^(8 * length) modulo the polynomial: what so many more bytes do to a CRC."""
    result, power = 1 << 31, 1 << 23  # x^0 and x^8
    while length:
        if length & 1:
            result = _multiplied(power, result)
        power = _multiplied(power, power)
        length >>= 1
    return result
