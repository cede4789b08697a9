"""Mutated DICOM instances, from a seed: bytes flipped, cut, lengths that lie, tags moved, depth."""

import random
import struct
from collections.abc import Callable, Iterator

_VRS = (b"OB", b"OW", b"SQ", b"UI", b"LO", b"PN", b"US", b"UL", b"IS", b"DS", b"UN", b"ZZ", b"\0\0")
_LONG = frozenset((b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"OL", b"UC", b"UR"))
_UNDEFINED = b"\xff\xff\xff\xff"
Mutation = Callable[[random.Random, bytearray, list[tuple[int, int, bool]]], bytearray]


def elements_of(data: bytes) -> list[tuple[int, int, bool]]:
    """Return (position, position of the length, whether it has 4 bytes) of top-level elements.

    Walks explicit VR little endian as far as it goes; sequences are entered.
    """
    found, position = [], 132
    while position + 16 < len(data):
        group, _element = struct.unpack_from("<HH", data, position)
        if group == 0xFFFE:
            position += 8
            continue
        is_long = data[position + 4 : position + 6] in _LONG
        at = position + (8 if is_long else 6)
        (length,) = struct.unpack_from("<I" if is_long else "<H", data, at)
        found.append((position, at, is_long))
        begin = at + (4 if is_long else 2)
        is_nest = data[position + 4 : position + 6] == b"SQ" or length == 0xFFFFFFFF
        position = begin if is_nest else begin + length
    return found


def _flip(random_: random.Random, data: bytearray, _elements: list) -> bytearray:
    """Change some bytes, mostly in the header."""
    for _ in range(random_.choice((1, 1, 2, 4, 16, 64))):
        end = len(data) if random_.random() < 0.2 else min(len(data), 4000)
        data[random_.randrange(end)] = random_.randrange(256)
    return data


def _cut(random_: random.Random, data: bytearray, _elements: list) -> bytearray:
    """End anywhere."""
    end = len(data) if random_.random() < 0.3 else min(len(data), 4000)
    return data[: random_.randrange(end)]


def _lie(random_: random.Random, data: bytearray, elements: list) -> bytearray:
    """Give elements lengths that are not theirs."""
    for _ in range(random_.choice((1, 1, 2, 3))):
        _position, at, is_long = random_.choice(elements)
        size = 4 if is_long else 2
        lies = [0, 1, 2, 7, 0xFFFE, 0xFFFF, 2**31 - 1, 2**31, 0xFFFFFFFE, 0xFFFFFFFF]
        value = random_.choice([*lies, random_.randrange(2**32)]) & (2 ** (8 * size) - 1)
        data[at : at + size] = value.to_bytes(size, "little")
    return data


def _shuffle(random_: random.Random, data: bytearray, elements: list) -> bytearray:
    """Move, double, drop or rename elements; give them other VRs."""
    begin, number = elements[0][0], random_.randrange(len(elements))
    ends = [position for position, _at, _long in elements[1:]] + [len(data)]
    pieces = [bytes(data[e[0] : end]) for e, end in zip(elements, ends, strict=True)]
    kind = random_.randrange(5)
    if kind == 0:
        other = random_.randrange(len(pieces))
        pieces[number], pieces[other] = pieces[other], pieces[number]
    elif kind == 1:
        pieces.insert(number, pieces[random_.randrange(len(pieces))])
    elif kind == 2:
        del pieces[number]
    elif kind == 3:
        tag = struct.pack("<HH", random_.choice((2, 8, 0x10, 0x28, 0x48, 0x7FE0, 0xFFFE)), number)
        pieces[number] = tag + pieces[number][4:]
    else:
        pieces[number] = pieces[number][:4] + random_.choice(_VRS) + pieces[number][6:]
    return data[:begin] + b"".join(pieces)


def _nest(random_: random.Random, data: bytearray, elements: list) -> bytearray:
    """Put sequences in sequences, of lengths undefined or huge, perhaps never closed."""
    depth = random_.choice((2, 10, 100, 900, 5000))
    length = random_.choice((_UNDEFINED, b"\xff\xff\xff\x7f", b"\0\0\0\0"))
    tag = random_.choice((b"\x40\x00\x55\x05", b"\x09\x00\x01\x10", b"\x40\x00\x60\x05"))
    nest = (tag + b"SQ\0\0" + length + b"\xfe\xff\x00\xe0" + length) * depth
    if random_.random() < 0.3:
        nest += (b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0") * depth
    position = random_.choice(elements)[0]
    return data[:position] + nest + data[position:]


def _splice(random_: random.Random, data: bytearray, elements: list) -> bytearray:
    """Put noise, zeros or a piece of itself anywhere."""
    position = random_.choice(elements)[0] + random_.randrange(12)
    size = random_.choice((1, 3, 64, 5000))
    start = random_.randrange(len(data))
    piece = random_.choice(
        (random_.randbytes(size), bytes(size), bytes(data[start : start + size]))
    )
    return data[:position] + piece + data[position + random_.choice((0, size)) :]


def _giant(random_: random.Random, data: bytearray, elements: list) -> bytearray:
    """Claim giant numbers in the tags that sizes are made of."""
    wanted = {
        (0x28, 0x10),
        (0x28, 0x11),
        (0x28, 0x2),
        (0x48, 6),
        (0x48, 7),
        (0x28, 8),
        (0x28, 0x100),
    }
    places = [e for e in elements if struct.unpack_from("<HH", data, e[0]) in wanted]
    for position, at, is_long in places:
        if random_.random() < 0.5:
            begin = at + (4 if is_long else 2)
            size = struct.unpack_from("<H", data, position + 6)[0]
            digit = b"9" if data[position + 4 : position + 6] == b"IS" else b"\xff"
            data[begin : begin + size] = digit * size
    return data


MUTATIONS: tuple[Mutation, ...] = (_flip, _cut, _lie, _shuffle, _nest, _splice, _giant)


def mutants(originals: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield so many mutated instances, one or two mutations each; a seed gives the same ones."""
    random_ = random.Random(seed)
    elements = [elements_of(original) for original in originals]
    for number in range(count):
        which = random_.randrange(len(originals))
        data = bytearray(originals[which])
        data = MUTATIONS[number % len(MUTATIONS)](random_, data, elements[which])
        if random_.random() < 0.25 and len(data) > 600:
            again = elements_of(bytes(data))
            if again:
                data = random_.choice((_flip, _lie, _cut))(random_, data, again)
        yield bytes(data)
