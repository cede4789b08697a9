"""Writes access events. Called by services and views; never skipped, never edited."""

from typing import Any
from uuid import UUID

from cases.models import AccessEvent

Action, Channel = AccessEvent.Action, AccessEvent.Channel


def access_event_record(
    *,
    user: Any,
    action: str,
    channel: str = Channel.PAGE,
    address: str | None = None,
    department_id: int | None = None,
    patient_id: UUID | None = None,
    target: Any = None,
    detail: dict[str, Any] | None = None,
) -> AccessEvent:
    """Record one act. target: the model instance it was done to."""
    return AccessEvent.objects.create(
        user=user if getattr(user, "is_authenticated", False) else None,
        action=action,
        channel=channel,
        address=address,
        department_id=department_id,
        patient_id=patient_id,
        object_type=target._meta.model_name if target is not None else "",
        object_id=str(target.pk) if target is not None else "",
        detail=detail or {},
    )


def request_origin(request: Any) -> dict[str, Any]:
    """Return who, by which door and from where, of a request: keywords of access_event_record."""
    is_api = request.path.startswith("/api/")
    return {
        "user": request.user,
        "channel": Channel.API if is_api else Channel.PAGE,
        "address": request.META.get("REMOTE_ADDR") or None,
    }
