"""Names, UIDs and date shifts that follow from a project's secret key alone.

The same original under the same key gives the same pseudonym; without the key nobody can go
from one to the other, nor tell that two projects hold the same person.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from datetime import date, timedelta

# Dates move back by 1 to 10 years: far enough that a known date of a visit is of no use.
_SHIFT_DAYS = (366, 3650)
_LENGTH = 12


class ProjectKey:
    """The secret of one export project.

    Parameters
    ----------
    key
        At least 32 random bytes.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < 32:
            raise ValueError("a project key has at least 32 bytes")
        self._key = key

    def _digest(self, purpose: str, *parts: str) -> bytes:
        # Length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
        text = b"".join(
            len(part).to_bytes(4, "big") + part
            for part in (item.encode("utf-8", "surrogatepass") for item in (purpose, *parts))
        )
        return hmac.new(self._key, text, hashlib.sha256).digest()

    def uid(self, original: str) -> str:
        """Return the new UID of an original one (PS3.5 B.2: a UUID under 2.25)."""
        digest = bytearray(self._digest("uid", original)[:16])
        digest[6] = 0x80 | digest[6] & 0x0F  # version 8: of the maker's own choosing (RFC 9562)
        digest[8] = 0x80 | digest[8] & 0x3F
        return f"2.25.{uuid.UUID(bytes=bytes(digest)).int}"

    def name(self, kind: str, prefix: str, *parts: str) -> str:
        """Return a pseudonym of 12 letters and digits after its prefix; fits the VR SH."""
        text = base64.b32encode(self._digest(kind, *parts)).decode("ascii")
        return prefix + text[:_LENGTH]

    def shift(self, patient: str) -> timedelta:
        """Return by how much all dates of this patient move; whole days, always back."""
        low, high = _SHIFT_DAYS
        number = int.from_bytes(self._digest("dates", patient)[:8], "big")
        return -timedelta(days=low + number % (high - low + 1))

    def check(self) -> str:
        """Return a short value that tells whether two keys are the same, and nothing else."""
        return self._digest("check").hex()[:16]


def shifted(original: date, shift: timedelta) -> date:
    """Return the moved date; one before the calendar begins stays at its first day."""
    try:
        return original + shift
    except OverflowError:
        return date.min
