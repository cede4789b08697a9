"""Writes access events. Called by services and views; never skipped, never edited."""

import json
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from django.utils import timezone

from cases.models import AccessEvent
from cases.openings import way_in

Action, Channel = AccessEvent.Action, AccessEvent.Channel
Outcome = AccessEvent.Outcome

_OUTCOMES = {Action.DENIED: Outcome.DENIED, Action.LOGIN_FAILED: Outcome.FAILED}

# Door, address and id of the request being served, set by the middleware, so that services
# need not pass them through. Outside a request it is a background task.
_origin: ContextVar[tuple[str, str | None, str]] = ContextVar(
    "audit_origin", default=(Channel.TASK, None, "")
)


def origin_set(*, channel: str, address: str | None = None, request_id: str = "") -> None:
    """Say by which door, from where and in which request the acts of this context come."""
    _origin.set((channel, address, request_id))


def access_event_record(
    *,
    user: Any,
    action: str,
    channel: str = "",
    address: str | None = None,
    department_id: int | None = None,
    patient_id: UUID | None = None,
    target: Any = None,
    reason: str = "",
    detail: dict[str, Any] | None = None,
) -> AccessEvent:
    """Record one act. target: the model instance it was done to."""
    return AccessEvent.objects.create(
        **_who(user, channel, address),
        action=action,
        outcome=_OUTCOMES.get(action, Outcome.DONE),
        reason=reason,
        department_id=department_id,
        patient_id=patient_id,
        object_type=target._meta.model_name if target is not None else "",
        object_id=str(target.pk) if target is not None else "",
        detail=_with_ways(user, detail, patient_id, department_id),
    )


def access_events_listed(
    *,
    user: Any,
    object_type: str,
    subjects: Iterable[tuple[UUID, int]],
    detail: dict[str, Any],
    action: str = Action.VIEW,
    object_id: str = "",
) -> None:
    """Record a look at a list: one event per patient on it. subjects: (patient, department)."""
    who = _who(user)
    alike: dict[str, list[tuple[UUID, int]]] = {}
    for patient_id, department_id in sorted(set(subjects)):
        ways = json.dumps(_with_ways(user, detail, patient_id, department_id))
        alike.setdefault(ways, []).append((patient_id, department_id))
    for ways, shown in alike.items():
        AccessEvent.objects.insert_alike(
            shown,
            at=timezone.now(),
            user_id=getattr(who["user"], "pk", None),
            action=action,
            channel=who["channel"],
            address=who["address"],
            object_type=object_type,
            object_id=object_id,
            outcome=Outcome.DONE,
            reason="",
            request_id=who["request_id"],
            detail=ways,
        )


def _who(user: Any, channel: str = "", address: str | None = None) -> dict[str, Any]:
    known_channel, known_address, request_id = _origin.get()
    return {
        "user": user if getattr(user, "is_authenticated", False) else None,
        "channel": channel or known_channel,
        "address": address or known_address,
        "request_id": request_id,
    }


def _with_ways(
    user: Any, detail: dict[str, Any] | None, patient_id: Any, department_id: Any
) -> dict[str, Any]:
    """Return the detail with the token that acted for the user, and what opened a foreign case."""
    ways = dict(detail or {})
    prefix = getattr(user, "token_prefix", "")
    if prefix:
        ways["token"] = prefix
    opening = way_in(user, patient_id, department_id) if patient_id else None
    if opening is not None:
        ways |= {"opened_by": opening.kind, "opening": str(opening.pk)}
    return ways


def request_origin(request: Any) -> dict[str, Any]:
    """Return who, by which door and from where, of a request: keywords of access_event_record."""
    doors = {"/api/": Channel.API, "/dicomweb/": Channel.DICOM}
    return {
        "user": request.user,
        "channel": next(
            (channel for start, channel in doors.items() if request.path.startswith(start)),
            Channel.PAGE,
        ),
        "address": request.META.get("REMOTE_ADDR") or None,
    }
