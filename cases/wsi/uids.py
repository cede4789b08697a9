"""UIDs of what has none of its own: a vendor's slide shown as a DICOM series.

UUID-derived UIDs (PS3.5 B.2, `2.25.<integer>`): the row's random UUID is the UID, so it never
changes, says nothing about anybody, is unique beyond this site, and leads back to its row.
An instance's UUID is that of its slide image with the version nibble 8 (RFC 9562: made by a
rule of one's own) and the instance's number in the last byte.
"""

from __future__ import annotations

import uuid
from uuid import UUID

ROOT = "2.25."
LABEL_NUMBER = 255
"""Number of the LABEL instance; levels are 1, 2, 3 … from the finest."""

_NAMESPACE = UUID("5f0d4f0e-6a8e-4d55-a5ab-3f6c0a1f9b6d")
_VERSION_SHIFT = 76
_VERSION = 0xF << _VERSION_SHIFT


def uid_of(key: UUID) -> str:
    """Return the UID of a row: a case's is its virtual study, a slide image's its series."""
    return f"{ROOT}{key.int}"


def uuid_of(uid: str) -> UUID | None:
    """Return the UUID behind a `2.25.` UID, None for any other UID."""
    digits = uid.removeprefix(ROOT)
    if digits == uid or not digits.isdecimal() or not digits.isascii() or len(digits) > 39:
        return None
    if digits != str(int(digits)) or int(digits) >= 1 << 128:
        return None
    return UUID(int=int(digits))


def instance_uid(slide_image_id: UUID, number: int) -> str:
    """Return the SOP instance UID of a slide image's virtual instance (number 1 to 255)."""
    if not 1 <= number <= 255:
        raise ValueError(f"There is no virtual instance {number}")
    changed = (slide_image_id.int & ~_VERSION) | (8 << _VERSION_SHIFT)
    return f"{ROOT}{changed ^ number}"


def slide_images_of_instance(uid: str) -> list[UUID]:
    """Return the ids of the slide images that may have this instance; mostly none has."""
    key = uuid_of(uid)
    if key is None or key.version != 8:
        return []
    base = (key.int & ~_VERSION) | (4 << _VERSION_SHIFT)
    return [UUID(int=base ^ number) for number in range(1, 256)]


def related_uid(key: UUID, what: str) -> str:
    """Return a UID of something that belongs to a row, such as its frame of reference."""
    return f"{ROOT}{uuid.uuid5(_NAMESPACE, f'{key}/{what}').int}"
