"""Upsert by accession number: idempotent, all or nothing, one case for two at once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connections

from cases.errors import DomainError
from cases.models import AccessEvent, Block, Case, Patient, Slide, Specimen
from cases.permissions import Role
from cases.services.cases import case_upsert
from tests.cases.api.conftest import client_with_token
from tests.factories import DepartmentFactory, make_member

URL = "/api/v1/cases/by-accession/S26-00001/?department=north"
MESSAGE = {
    "received_on": "2026-03-01",
    "clinical_history": "Cough for three months",
    "patient": {
        "mrn": "4711",
        "family_name": "Doe",
        "given_name": "Jane",
        "birth_date": "1960-05-01",
        "sex": "F",
    },
    "specimens": [
        {
            "label": "A",
            "organ": "Lung",
            "procedure": "Biopsy",
            "blocks": [{"label": "A1"}, {"label": "A2"}],
        }
    ],
    "slides": [
        {"label": "A1-1", "stain": "H&E", "specimen": "A", "block": "A1"},
        {"label": "A1-2", "stain": "TTF-1", "specimen": "A", "block": "A1"},
    ],
}


def rows():
    return tuple(m.objects.count() for m in (Patient, Case, Specimen, Block, Slide))


def put(client, message=MESSAGE, url=URL):
    return client.put(url, message, format="json")


def test_a_case_comes_with_its_patient_and_parts(site):
    answer = put(site.lis)
    assert answer.status_code == 201
    assert rows() == (1, 1, 1, 2, 2)
    body = answer.json()
    assert body["accession_number"] == "S26-00001"
    assert body["accession_issuer"] == "north-lis"
    assert body["patient"]["mrn_issuer"] == "north-mrn"
    specimen = body["specimens"][0]
    slide = next(row for row in body["slides"] if row["label"] == "A1-2")
    assert slide["stain"] == "TTF-1"
    assert slide["specimen"] == specimen["id"]
    assert slide["block"] == next(b["id"] for b in specimen["blocks"] if b["label"] == "A1")


def test_a_slide_that_moves_to_another_specimen_leaves_its_block(site):
    put(site.lis)
    move = {"label": "A1-1", "specimen": "B"}
    message = {"patient": {"mrn": "4711"}, "specimens": [{"label": "B"}], "slides": [move]}
    slide = next(row for row in put(site.lis, message).json()["slides"] if row["label"] == "A1-1")
    assert slide["specimen"] == str(Specimen.objects.get(label="B").pk)
    assert slide["block"] is None
    put(site.lis)
    stay = {"label": "A1-1", "specimen": "A"}
    message = {"patient": {"mrn": "4711"}, "slides": [stay]}
    slide = next(row for row in put(site.lis, message).json()["slides"] if row["label"] == "A1-1")
    assert slide["block"] == str(Block.objects.get(label="A1").pk)


def test_the_same_message_twice_changes_nothing(site):
    first = put(site.lis)
    second = put(site.lis)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json()
    assert rows() == (1, 1, 1, 2, 2)
    assert not AccessEvent.objects.filter(action="change", object_type="case").exists()


def test_post_is_the_same_upsert(site):
    message = {**MESSAGE, "department": "north", "accession_number": "S26-00001"}
    made = site.lis.post("/api/v1/cases/", message, format="json")
    again = put(site.lis)
    assert (made.status_code, again.status_code) == (201, 200)
    assert made.json() == again.json()


def test_absent_fields_and_parts_stay(site):
    put(site.lis)
    message = {
        "patient": {"mrn": "4711"},
        "specimens": [{"label": "A", "procedure": "Resection"}],
        "slides": [{"label": "B1-1", "stain": "H&E"}],
    }
    body = put(site.lis, message).json()
    assert rows() == (1, 1, 1, 2, 3)
    assert body["clinical_history"] == "Cough for three months"
    assert body["patient"]["family_name"] == "Doe"
    assert body["specimens"][0]["organ"] == "Lung"
    assert body["specimens"][0]["procedure"] == "Resection"
    event = AccessEvent.objects.get(action="change", object_type="case")
    assert event.detail["changed"] == ["specimen.A.procedure", "slide.B1-1"]
    assert event.detail["token"]
    assert event.channel == "api"


def test_another_patient_is_a_conflict_and_nothing_is_kept(site):
    put(site.lis)
    before = rows()
    answer = put(site.lis, {**MESSAGE, "patient": {"mrn": "0815"}, "clinical_history": "Other"})
    assert answer.status_code == 409
    assert answer.json()["code"] == "patient_mismatch"
    assert answer["Content-Type"] == "application/problem+json"
    assert rows() == before
    assert Case.objects.get().clinical_history == "Cough for three months"


def test_name_and_birth_date_both_different_are_another_patient(site):
    put(site.lis)
    renamed = {**MESSAGE["patient"], "family_name": "Roe"}
    reborn = {**MESSAGE["patient"], "family_name": "Poe", "birth_date": "1999-01-01"}
    assert put(site.lis, {"patient": renamed}).status_code == 200
    answer = put(site.lis, {"patient": reborn})
    assert (answer.status_code, answer.json()["code"]) == (409, "patient_mismatch")
    assert Patient.objects.get().family_name == "Roe"


def test_accession_numbers_may_hold_a_slash_and_have_an_issuer(site):
    url = "/api/v1/cases/by-accession/S26/00123/?department=north&issuer=elsewhere"
    assert put(site.lis, url=url).status_code == 201
    case = Case.objects.get()
    assert (case.accession_number, case.accession_issuer) == ("S26/00123", "elsewhere")
    assert site.lis.get(url).json()["id"] == str(case.pk)
    assert site.lis.get(url.replace("&issuer=elsewhere", "")).status_code == 404


def test_two_departments_keep_a_case_each_of_one_number(site):
    mine = put(site.lis)
    theirs = put(site.other, url=URL.replace("north", "south"))
    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert rows()[:2] == (2, 2)


@pytest.mark.parametrize("code", ["south", "nowhere", ""])
def test_a_foreign_and_an_unknown_department_are_one_answer(site, code):
    answer = put(site.lis, url=f"/api/v1/cases/by-accession/S26-00001/?department={code}")
    assert answer.status_code == 400
    assert answer.json() == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "code": "unknown_department",
        "detail": "You are a member of no department with this code.",
    }
    assert rows() == (0, 0, 0, 0, 0)


def test_a_researcher_may_not_write(site):
    client = client_with_token(make_member(site.north, Role.RESEARCHER))
    assert put(client).status_code == 403
    assert rows() == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({}, "invalid"),
        ([], "invalid"),
        ("text", "invalid"),
        ({"patient": {"mrn": ""}}, "invalid"),
        ({"patient": {"mrn": "1\x002"}}, "invalid"),
        ({"patient": {"mrn": "x" * 65}}, "invalid"),
        ({"patient": {"mrn": "1", "birth_date": "yesterday"}}, "invalid"),
        ({**MESSAGE, "specimens": [{"label": "A"}, {"label": "A"}]}, "invalid"),
        ({**MESSAGE, "slides": [{"label": "1"}, {"label": "1"}]}, "invalid"),
        ({**MESSAGE, "slides": [{"label": "1", "specimen": "Z"}]}, "unknown_part"),
        ({**MESSAGE, "slides": [{"label": "1", "block": "A1"}]}, "unknown_part"),
        ({**MESSAGE, "slides": [{"label": "1", "specimen": "A", "block": "Z"}]}, "unknown_part"),
    ],
)
def test_messages_that_cannot_be_right_leave_nothing(site, message, code):
    answer = put(site.lis, message)
    assert answer.status_code == 400
    assert answer.json()["code"] == code
    assert rows() == (0, 0, 0, 0, 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("mrns", [("1", "1"), ("1", "2")], ids=["same", "other patient"])
def test_two_at_once_make_one_case(mrns):
    department = DepartmentFactory(code="north")
    user = make_member(department, Role.TECHNICIAN)
    start = Barrier(len(mrns))

    def upsert(mrn):
        data = {
            "accession_number": "S26-1",
            "patient": {"mrn": mrn},
            "specimens": [{"label": "A", "blocks": [{"label": "1"}]}],
            "slides": [{"label": "A1-1", "specimen": "A"}],
        }
        start.wait()
        try:
            return case_upsert(user=user, department=department, data=data)[1]
        except DomainError as error:
            return error.code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(mrns)) as pool:
        outcomes = list(pool.map(upsert, mrns))
    assert outcomes.count(True) == 1
    assert (outcomes.count(False), outcomes.count("patient_mismatch")) == (
        (1, 0) if mrns[0] == mrns[1] else (0, 1)
    )
    assert rows() == (1, 1, 1, 1, 1)
