"""The audit leaves as JSON lines and as FHIR AuditEvents that FHIR's own models accept."""

import json
import uuid
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from fhir.resources.R4B.auditevent import AuditEvent

from cases.models import AccessEvent
from cases.services.audit import Action, access_event_record
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


def exported(capsys, *arguments: str) -> list[dict]:
    call_command("audit_export", *arguments)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_event_is_a_line_with_its_fields(capsys):
    user, patient = UserFactory(username="ada"), uuid.uuid4()
    event = access_event_record(
        user=user, action=Action.VIEW, patient_id=patient, department_id=7, detail={"part": "ü"}
    )
    first, export = exported(capsys)
    assert first["id"] == str(event.pk)
    assert (first["user"], first["patient_id"], first["detail"]) == (
        "ada",
        str(patient),
        {"part": "ü"},
    )
    assert (export["action"], export["channel"]) == ("export", "command")


@pytest.mark.parametrize("action", Action.values)
def test_every_kind_of_event_is_a_valid_fhir_resource(capsys, action):
    access_event_record(
        user=UserFactory(),
        action=action,
        address="10.0.0.7",
        patient_id=uuid.uuid4(),
        target=UserFactory(),
        reason="a reason",
        detail={"hits": 3},
    )
    access_event_record(user=None, action=action)
    lines = exported(capsys, "--format", "fhir")
    assert len(lines) == 3
    for line in lines:
        AuditEvent.model_validate(line)


def test_a_refused_act_is_no_success(capsys):
    access_event_record(user=None, action=Action.DENIED, reason="not a member")
    (line, _) = exported(capsys, "--format", "fhir")
    assert (line["outcome"], line["outcomeDesc"]) == ("4", "not a member")


def test_a_time_can_be_chosen(capsys):
    event = access_event_record(user=None, action=Action.LOGIN)
    tomorrow = (event.at + timedelta(days=1)).date().isoformat()
    assert exported(capsys, "--since", tomorrow) == []
    assert exported(capsys, "--until", "2001-01-01") == []
    assert exported(capsys, "--since", event.at.isoformat())[0]["id"] == str(event.pk)
    with pytest.raises(CommandError, match="neither a date"):
        call_command("audit_export", "--since", "yesterday")


def test_an_answer_names_its_request_and_so_do_its_events(client):
    user = UserFactory()
    client.post("/login/", {"username": user.username, "password": "wrong"})
    answer = client.get("/", HTTP_X_REQUEST_ID="forged")
    assert len(answer.headers["X-Request-ID"]) == 32
    event = AccessEvent.objects.get(action=Action.LOGIN_FAILED)
    assert len(event.request_id) == 32
    assert (event.outcome, answer.headers["X-Request-ID"] != event.request_id) == ("failed", True)
