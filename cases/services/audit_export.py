"""Access events for other systems: JSON lines, and FHIR R4B AuditEvent (one resource a line).

Codes: DICOM PS3.16 CID 400 and 401 as FHIR's AuditEvent value sets name them; FHIR's own
restful-interaction and audit-event-action, outcome and entity codes.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from cases.models import AccessEvent

DCM = "http://dicom.nema.org/resources/ontology/DCM"
EVENT_TYPES = "http://terminology.hl7.org/CodeSystem/audit-event-type"
ENTITY_TYPES = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
ENTITY_ROLES = "http://terminology.hl7.org/CodeSystem/object-role"
PATHSEARCH = "urn:pathsearch:audit"

_BREAK_GLASS = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
            "code": "BTG",
            "display": "break the glass",
        }
    ]
}

_Action = AccessEvent.Action
# The letter of FHIR's audit-event-action: create, read, update, delete, execute.
_LETTER = {
    _Action.CREATE: "C",
    _Action.CHANGE: "U",
    _Action.MERGE: "U",
    _Action.UNMERGE: "U",
    _Action.DELETE: "D",
    _Action.VIEW: "R",
    _Action.SHOWN: "R",
    _Action.EXPORT: "R",
}
_OUTCOME = {
    AccessEvent.Outcome.DONE: "0",  # success
    AccessEvent.Outcome.DENIED: "4",  # minor failure
    AccessEvent.Outcome.FAILED: "4",
}


def events_exported(
    *, form: str, since: datetime | None = None, until: datetime | None = None
) -> Iterator[str]:
    """Yield one line of JSON per event, oldest first; memory stays bounded.

    form: ``jsonl`` (our own fields) or ``fhir``. since is included, until is not.
    """
    events = AccessEvent.objects.select_related("user").order_by("at", "pk")
    if since:
        events = events.filter(at__gte=since)
    if until:
        events = events.filter(at__lt=until)
    shape = {"jsonl": plain, "fhir": fhir}[form]
    for event in events.iterator(chunk_size=2000):
        yield json.dumps(shape(event), ensure_ascii=False, separators=(",", ":"))


def plain(event: AccessEvent) -> dict[str, Any]:
    """Return the event's own fields."""
    return {
        "id": str(event.pk),
        "at": event.at.isoformat(),
        "user": event.user.get_username() if event.user else None,
        "action": event.action,
        "channel": event.channel,
        "address": event.address,
        "department_id": event.department_id,
        "patient_id": str(event.patient_id) if event.patient_id else None,
        "object_type": event.object_type,
        "object_id": event.object_id,
        "outcome": event.outcome,
        "reason": event.reason,
        "request_id": event.request_id,
        "detail": event.detail,
    }


def fhir(event: AccessEvent) -> dict[str, Any]:
    """Return the event as a FHIR R4B AuditEvent. Patients are named by their id here."""
    agent: dict[str, Any] = {
        "who": {"display": event.user.get_username() if event.user else "unknown or system"},
        "requestor": event.user is not None,
    }
    if event.address:
        agent["network"] = {"address": event.address, "type": "2"}  # an IP address
    entities = _entities(event)
    return {
        "resourceType": "AuditEvent",
        "id": str(event.pk),
        "type": _type(event),
        "subtype": [{"system": PATHSEARCH, "code": event.action}],
        "action": _LETTER.get(event.action, "E"),
        "recorded": event.at.isoformat(),
        "outcome": _OUTCOME[event.outcome],
        **({"outcomeDesc": event.reason} if event.reason else {}),
        **({"purposeOfEvent": [_BREAK_GLASS]} if _is_emergency(event) else {}),
        "agent": [agent],
        "source": {
            "observer": {"display": "PathSearch"},
            "site": f"{event.department_id or ''}" or "all",
        },
        **({"entity": entities} if entities else {}),
    }


def _is_emergency(event: AccessEvent) -> bool:
    return event.action == _Action.BREAK_GLASS or event.detail.get("opened_by") == "emergency"


def _type(event: AccessEvent) -> dict[str, str]:
    if event.action in {_Action.LOGIN, _Action.LOGIN_FAILED, _Action.LOGOUT}:
        return {"system": DCM, "code": "110114", "display": "User Authentication"}
    if event.action == _Action.EXPORT:
        return {"system": DCM, "code": "110106", "display": "Export"}
    if event.action in {_Action.SEARCH, _Action.SHOWN}:
        return {"system": DCM, "code": "110112", "display": "Query"}
    if event.action == _Action.BREAK_GLASS:
        return {"system": DCM, "code": "110127", "display": "Emergency Override Started"}
    if event.action == _Action.DENIED:
        return {"system": DCM, "code": "110113", "display": "Security Alert"}
    if event.patient_id:
        return {"system": DCM, "code": "110110", "display": "Patient Record"}
    return {"system": EVENT_TYPES, "code": "object", "display": "Object"}


def _entities(event: AccessEvent) -> list[dict[str, Any]]:
    entities: list[dict[str, Any]] = []
    if event.patient_id:
        entities.append(
            {
                "what": {"identifier": {"system": PATHSEARCH, "value": str(event.patient_id)}},
                "type": {"system": ENTITY_TYPES, "code": "1", "display": "Person"},
                "role": {"system": ENTITY_ROLES, "code": "1", "display": "Patient"},
            }
        )
    details = {**event.detail, "channel": event.channel, "request_id": event.request_id}
    if event.object_id or any(details.values()):
        entities.append(
            {
                "what": {"identifier": {"system": PATHSEARCH, "value": event.object_id or "-"}},
                "type": {"system": ENTITY_TYPES, "code": "2", "display": "System Object"},
                **({"name": event.object_type} if event.object_type else {}),
                "detail": [
                    {"type": name, "valueString": _text(value)}
                    for name, value in sorted(details.items())
                    if _text(value)
                ],
            }
        )
    return entities


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
