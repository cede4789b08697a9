"""What an instance says of itself, read from the first bytes of its dataset.

The network process parses no headers; the intake does, in a child that may die. These few
elements at the very beginning are compared with the command that announced them.
"""

from __future__ import annotations

import struct

SOP_CLASS_UID, SOP_INSTANCE_UID = (0x0008, 0x0016), (0x0008, 0x0018)
HEAD_BYTES = 4096
# PS3.5 7.1.2: these have a length of four bytes.
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_UNDEFINED = 0xFFFFFFFF


def read_sop_uids(head: bytes, *, is_implicit: bool) -> tuple[str, str]:
    """Return SOP class and instance UID of a little endian dataset, empty where not found.

    Parameters
    ----------
    head
        The first bytes of the dataset (PS3.5 7.1: elements by ascending tag).
    is_implicit
        Whether its transfer syntax is Implicit VR.
    """
    found: dict[tuple[int, int], str] = {}
    position = 0
    while position + 8 <= len(head):
        tag = struct.unpack_from("<HH", head, position)
        if tag > SOP_INSTANCE_UID:
            break
        length, begin = _length(head, position, is_implicit)
        if length == _UNDEFINED or begin + length > len(head):
            break
        if tag in (SOP_CLASS_UID, SOP_INSTANCE_UID):
            value = head[begin : begin + length].rstrip(b"\0 ")
            found[tag] = value.decode("ascii", "replace")
        position = begin + length
    return found.get(SOP_CLASS_UID, ""), found.get(SOP_INSTANCE_UID, "")


def _length(head: bytes, position: int, is_implicit: bool) -> tuple[int, int]:
    """Return the element's length and where its value begins."""
    if is_implicit:
        return struct.unpack_from("<I", head, position + 4)[0], position + 8
    vr = head[position + 4 : position + 6]
    if vr in _LONG:
        if position + 12 > len(head):
            return _UNDEFINED, position
        return struct.unpack_from("<I", head, position + 8)[0], position + 12
    return struct.unpack_from("<H", head, position + 6)[0], position + 8
