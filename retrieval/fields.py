"""A field of its own: the places of mosaic tokens, packed."""

from typing import Any

import numpy as np
from django.db import models

# Little-endian, 16 bytes a token; the same names that an unpacked place has.
_PLACE = np.dtype([("x_l0", "<i4"), ("y_l0", "<i4"), ("size_l0", "<i4"), ("share", "<f4")])


def places_to_bytes(places: list[dict[str, float]]) -> bytes:
    """Return places in 16 bytes each: level-0 pixels as int32, the share as float32."""
    rows = [tuple(place[name] for name in _PLACE.names) for place in places]
    return np.array(rows, dtype=_PLACE).tobytes()


def places_from_bytes(data: bytes) -> list[dict[str, float]]:
    """Return the places of `places_to_bytes`; shares to six decimals, as they were made."""
    return [
        {
            "x_l0": int(x),
            "y_l0": int(y),
            "size_l0": int(size),
            "share": round(float(share), 6),
        }
        for x, y, size, share in np.frombuffer(bytes(data), dtype=_PLACE)
    ]


def shares_from_bytes(data: bytes) -> np.ndarray:
    """Return only the shares float32 (M,) of `places_to_bytes`."""
    return np.frombuffer(data, dtype=_PLACE)["share"].astype(np.float32)


class PlacesField(models.BinaryField):
    """A list of places (x_l0, y_l0, size_l0, share), kept as packed bytes: a fifth of JSON."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        """Unpack what the database returned."""
        return None if value is None else places_from_bytes(value)

    def to_python(self, value: Any) -> Any:
        """Return a list as it is, bytes unpacked."""
        return places_from_bytes(value) if isinstance(value, (bytes, memoryview)) else value

    def get_prep_value(self, value: Any) -> Any:
        """Pack what goes to the database."""
        if isinstance(value, list):
            value = places_to_bytes(value)
        return super().get_prep_value(value)

    def value_to_string(self, obj: Any) -> str:
        """Return the text of a fixture."""
        value = self.value_from_object(obj)
        return places_to_bytes(value).hex() if value is not None else ""
