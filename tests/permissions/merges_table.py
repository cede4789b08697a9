"""The permission table's rows of patients who are merged and separated."""

from typing import Any

from tests.permissions.row import Row

# Numbers that no department has: the message is understood, and does nothing.
_MESSAGE = (
    b"MSH|^~\\&|ADT|H|PATHSEARCH|LAB|20260301||ADT^A40|1|P|2.5.1\rPID|1||no-such-1\rMRG|no-such-2\r"
)


def _nothing(_world: Any, _place: str) -> dict[str, Any]:
    return {}


def _other(world: Any, place: str) -> dict[str, Any]:
    """Return the other patient of the department that owns the place."""
    other = {"private": "shared", "shared": "private"}.get(place, place)
    return {"merged": str(world.id("patient", other))}


_DENIED: dict[str, Any] = {"of": "patient", "roles": "D", "partner": "denied"}

MERGES = [
    Row("patient_numbers", **_DENIED),
    Row("patient_numbers", "POST", body=_nothing, form=True, **_DENIED),
    Row("patient_unmerge", "POST", ok=302, body=_nothing, form=True, **_DENIED),
    Row("patients-merge", "POST", ok=201, body=_other, **_DENIED),
    # Nobody of the world is merged: who may is told so.
    Row("patients-unmerge", "POST", ok=409, body=_nothing, **_DENIED),
    Row(
        "hl7-message",
        "POST",
        roles="D",
        nobody=403,
        body=lambda _world, _place: _MESSAGE,
        content_type="application/hl7-v2",
    ),
]
