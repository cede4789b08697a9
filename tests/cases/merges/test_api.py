"""Merging by the API: who may, what is answered."""

import pytest

from cases.models import PatientMerge
from cases.permissions import Role
from cases.row_scope import acting_for_system
from tests.cases.api.conftest import client_with_token
from tests.factories import make_member

pytestmark = pytest.mark.django_db


def address(patient, act: str = "merge") -> str:
    return f"/api/v1/patients/{patient.pk}/{act}/"


def test_merge_and_unmerge(site):
    told = {"merged": str(site.b.pk), "reason": "one person"}
    made = site.adt.post(address(site.a), told, format="json")
    assert made.status_code == 201
    body = made.json()
    assert (body["survivor"], body["merged"]) == (str(site.a.pk), str(site.b.pk))
    assert [case["accession_number"] for case in body["cases"]] == ["S-B"]
    again = site.adt.post(address(site.a), told, format="json")
    assert (again.status_code, again.json()["id"]) == (200, body["id"])
    undone = site.adt.post(address(site.b, "unmerge"), {"reason": "two"}, format="json")
    assert undone.status_code == 200
    assert undone.json()["undone_by"] == site.admin.username
    assert (
        site.adt.post(address(site.b, "unmerge"), {}, format="json").json()["code"] == "not_merged"
    )


def test_a_patient_of_another_department_is_not_there(site):
    hidden = site.adt.post(address(site.a), {"merged": str(site.foreign.pk)}, format="json")
    assert hidden.status_code == 404
    assert (
        site.adt.post(address(site.foreign), {"merged": str(site.a.pk)}, format="json").status_code
        == 404
    )
    both = make_member(site.south, Role.DEPARTMENT_ADMINISTRATOR)
    both.memberships.create(department=site.north, role=Role.DEPARTMENT_ADMINISTRATOR)
    client = client_with_token(both, scopes=["patients:merge"])
    refused = client.post(address(site.a), {"merged": str(site.foreign.pk)}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (409, "cannot_merge")
    with acting_for_system("to look"):
        assert not PatientMerge.objects.exists()


def test_it_takes_the_role_and_the_scope(site):
    told = {"merged": str(site.b.pk)}
    other_scopes = client_with_token(site.admin, scopes=["cases:read", "cases:write"])
    assert other_scopes.post(address(site.a), told, format="json").status_code == 403
    assert site.adt.get("/api/v1/patients/").status_code == 403  # the scope opens nothing else
    technician = client_with_token(make_member(site.north, Role.TECHNICIAN))
    assert technician.post(address(site.a), told, format="json").status_code == 403
    assert technician.post(address(site.a, "unmerge"), {}, format="json").status_code == 403


@pytest.mark.parametrize("body", [{}, {"merged": "no id"}, {"merged": None}, []])
def test_a_body_that_is_none_is_refused(site, body):
    assert site.adt.post(address(site.a), body, format="json").status_code == 400
