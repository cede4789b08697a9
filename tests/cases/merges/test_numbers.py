"""A merged number keeps leading to its patient: at intakes, in lists, in the access log."""

import pytest
from django.test import Client
from django.urls import reverse

from cases.models import Case, SlideUpload
from cases.permissions import Role
from cases.row_scope import acting_for_system, acting_for_user
from cases.services import matching, records
from cases.services.patient_merges import patients_merge, patients_unmerge
from tests.factories import CaseFactory, PatientFactory, make_member

pytestmark = pytest.mark.django_db


@pytest.fixture
def merged(site):
    with acting_for_system("a name that was given up"):
        site.b.family_name = "Maidenname"
        site.b.save()
    with acting_for_user(site.admin):
        patients_merge(user=site.admin, survivor=site.a, merged=site.b, reason="married")
    return site


def said(site, **values) -> matching.Statement:
    return matching.Statement(
        mrn="B2",
        mrn_issuer=site.north.mrn_issuer,
        accession_issuer=site.north.accession_issuer,
        mpp=0.5,
        **values,
    )


def test_a_slide_with_the_old_number_finds_the_case_that_moved(merged):
    with acting_for_system("an intake"):
        found = matching.match(
            said(merged, accession_number="S-B", family_name="Maidenname"), merged.north
        )
        assert found.case == merged.case_b and found.problems == ()
        wrong = matching.match(
            said(merged, accession_number="S-B", family_name="Else"), merged.north
        )
        assert [problem.code for problem in wrong.problems] == [matching.PATIENT_MISMATCH]


def test_a_new_case_under_the_old_number_is_the_survivor_s_until_the_merge_is_undone(merged):
    with acting_for_system("an intake"):
        statement = said(merged, accession_number="S-new")
        found = matching.match(statement, merged.north)
        case = records.case_ensure(statement, found, merged.north)
        assert case.patient_id == merged.a.pk
    with acting_for_user(merged.admin):
        assert case.pk in patients_unmerge(user=merged.admin, merged=merged.b).returned
    with acting_for_system("to look"):
        assert Case.objects.get(pk=case.pk).patient_id == merged.b.pk


def test_lists_of_the_api_find_by_either_number(merged):
    for mrn in ("A1", "B2"):
        found = merged.lis.get("/api/v1/cases/", {"mrn": mrn}).json()["results"]
        assert {case["accession_number"] for case in found} == {"S-A", "S-B"}, mrn
    row = merged.lis.get("/api/v1/patients/", {"mrn": "B2"}).json()["results"][0]
    assert row["merged_into"] == str(merged.a.pk)


@pytest.mark.parametrize("near", ["", "1"])
def test_the_work_list_finds_by_number_and_name_that_were_given_up(merged, near):
    client = Client()
    client.force_login(make_member(merged.north, Role.PATHOLOGIST))
    for text in ("B2", "maidenname"):
        page = client.get(reverse("work_list"), {"text": text, "near": near})
        assert {case.accession_number for case in page.context["page_obj"]} == {"S-A", "S-B"}, text


def test_the_case_shows_the_numbers_that_were_given_up(merged):
    client = Client()
    client.force_login(make_member(merged.north, Role.PATHOLOGIST))
    page = client.get(reverse("case", args=[merged.case_b.pk])).content.decode()
    assert "Earlier numbers" in page and "B2" in page
    researcher = Client()
    researcher.force_login(make_member(merged.north, Role.RESEARCHER))
    page = researcher.get(reverse("case", args=[merged.case_b.pk])).content.decode()
    assert "Earlier numbers" not in page and "B2" not in page


def test_who_saw_the_patient_is_answered_for_both_numbers(merged):
    auditor = Client()
    auditor.force_login(make_member(merged.north, Role.AUDITOR))
    reader = make_member(merged.north, Role.PATHOLOGIST)
    browser = Client()
    browser.force_login(reader)
    browser.get(reverse("case", args=[merged.case_b.pk]))
    for mrn in ("A1", "B2"):
        page = auditor.get(reverse("audit"), {"kind": "patient", "text": mrn})
        assert reader.username in page.content.decode(), mrn


def test_an_emergency_by_the_old_number_opens_the_patient(merged):
    doctor = make_member(merged.south, Role.PATHOLOGIST)
    browser = Client()
    browser.force_login(doctor)
    told = {
        "kind": "patient",
        "number": "B2",
        "reason_code": "treatment",
        "reason": "Being treated now",
    }
    browser.post(reverse("emergency"), {**told, "department": merged.north.pk})
    for case in (merged.case_a, merged.case_b):
        assert browser.get(reverse("case", args=[case.pk])).status_code == 200


def test_an_upload_s_form_with_the_old_number_matches(merged):
    form = SlideUpload(department=merged.north, mrn="B2", accession_number="S-B")
    from cases.wsi.delivery import FoundSlide

    found = FoundSlide(
        key="1", name="s", files=("s.tiff",), main_file="s.tiff", source_format="vendor",
        vendor="generic-tiff", content_sha256="0" * 64, size_bytes=1, width_l0=1, height_l0=1,
        level_count=1, mpp=0.5, mpp_source="file",
    )  # fmt: skip
    with acting_for_system("an intake"):
        statement = matching.state(found, form, merged.north)
        assert matching.match(statement, merged.north).problems == ()


def test_other_departments_and_numbers_are_not_touched(merged):
    stranger = PatientFactory(department=merged.south, mrn="Z9")
    case = CaseFactory(department=merged.south, patient=stranger)
    south = Client()
    south.force_login(make_member(merged.south, Role.PATHOLOGIST))
    page = south.get(reverse("work_list"), {"text": "Maidenname"})
    assert list(page.context["page_obj"]) == []
    with acting_for_system("to look"):
        assert Case.objects.get(pk=case.pk).patient_id == stranger.pk
