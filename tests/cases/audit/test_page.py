"""The access log's page: each question answered, for one's own departments only."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases.models import AccessEvent
from cases.permissions import Role
from cases.services.audit import Action, access_event_record
from tests.factories import DepartmentFactory, make_member, make_slide_image

pytestmark = pytest.mark.django_db
URL = "/audit/"


@pytest.fixture
def north():
    return DepartmentFactory(code="north")


@pytest.fixture
def south():
    return DepartmentFactory(code="south")


@pytest.fixture
def auditor(north):
    client = Client()
    client.force_login(make_member(north, Role.AUDITOR))
    return client


def looked_at(department, username: str):
    """Return the patient of a new slide that a new member of the department has looked at."""
    user = make_member(department, Role.PATHOLOGIST, username=username)
    patient = make_slide_image(department).slide.case.patient
    access_event_record(
        user=user,
        action=Action.VIEW,
        patient_id=patient.pk,
        department_id=department.pk,
        target=patient,
    )
    return patient


def events(response) -> list[AccessEvent]:
    assert response.status_code == 200
    return list(response.context["page_obj"])


def body(response, asked: str) -> str:
    """Return the page without what differs for every request."""
    return re.sub(r'"[A-Za-z0-9]{64}"', "", response.content.decode()).replace(asked, "")


def test_who_saw_a_patient_by_number_and_by_id(auditor, north):
    patient = looked_at(north, "anna")
    looked_at(north, "ben")
    for text in (patient.mrn, str(patient.pk)):
        response = auditor.get(URL, {"kind": "patient", "text": text})
        assert {event.user.username for event in events(response) if event.object_id} == {"anna"}
        assert "anna" in [person["user__username"] for person in response.context["people"]]
        assert "ben" not in response.content.decode()


def test_what_a_person_saw(auditor, north):
    patient = looked_at(north, "anna")
    looked_at(north, "ben")
    found = events(auditor.get(URL, {"kind": "person", "text": "anna"}))
    assert [event.patient_id for event in found] == [patient.pk]


def test_what_was_refused(auditor, north):
    looked_at(north, "anna")
    member = make_member(north, Role.PATHOLOGIST)
    own = access_event_record(user=member, action=Action.DENIED, department_id=north.pk)
    forged = access_event_record(user=member, action=Action.DENIED)
    assert set(events(auditor.get(URL))) == {own, forged}


def test_other_departments_stay_closed(auditor, south):
    patient = looked_at(south, "stranger")
    member = make_member(south, Role.PATHOLOGIST)
    access_event_record(user=member, action=Action.DENIED, department_id=south.pk)
    access_event_record(user=member, action=Action.DENIED)
    assert events(auditor.get(URL)) == []
    for question in (
        {"kind": "patient", "text": patient.mrn},
        {"kind": "patient", "text": str(patient.pk)},
        {"kind": "person", "text": "stranger"},
    ):
        hidden = auditor.get(URL, question)
        assert events(hidden) == []
        missing = {**question, "text": "nothing-like-it"}
        assert body(hidden, question["text"]) == body(auditor.get(URL, missing), missing["text"])


def test_the_time_can_be_narrowed(auditor, north):
    looked_at(north, "anna")
    today = timezone.localdate()
    yesterday, tomorrow = today - timedelta(days=1), today + timedelta(days=1)
    person = {"kind": "person", "text": "anna"}
    assert len(events(auditor.get(URL, {**person, "since": today, "until": today}))) == 1
    assert events(auditor.get(URL, {**person, "until": yesterday})) == []
    assert events(auditor.get(URL, {**person, "since": tomorrow})) == []
    assert auditor.get(URL, {**person, "since": "soon"}).status_code == 200


def test_a_look_at_the_log_is_an_event(auditor, north):
    patient = looked_at(north, "anna")
    auditor.get(URL, {"kind": "patient", "text": patient.mrn})
    look = AccessEvent.objects.get(detail__page="access log")
    assert (look.patient_id, look.department_id) == (patient.pk, north.pk)


def test_an_auditor_sees_no_clinical_data(auditor, north):
    image = make_slide_image(north)
    assert auditor.get(reverse("case", args=[image.slide.case_id])).status_code == 404
    assert auditor.get(reverse("slide", args=[image.pk])).status_code == 404
    assert image.slide.case.accession_number not in auditor.get("/").content.decode()
    assert auditor.get(reverse("search")).status_code == 403
    assert auditor.get("/api/v1/cases/").json()["count"] == 0


@pytest.mark.parametrize("role", [Role.PATHOLOGIST, Role.TECHNICIAN, Role.RESEARCHER])
def test_nobody_else_is_let_in(north, role):
    client = Client()
    client.force_login(make_member(north, role))
    assert client.get(URL).status_code == 403
    assert "Access log" not in client.get("/").content.decode()
