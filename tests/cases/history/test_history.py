"""The history of clinical rows: by whatever way they change, and for whom it is."""

import importlib

import pytest
from django.apps import apps
from django.db import DatabaseError, connection, transaction
from django.urls import reverse

from cases.models import (
    AccessEvent,
    Block,
    Case,
    ClinicalChange,
    Patient,
    Report,
    Slide,
    Specimen,
)
from cases.permissions import Role
from cases.row_scope import acting_as_owner, acting_for_system, acting_for_user
from cases.services.cases import patient_change
from tests.cases.pages.conftest import _closed_readers, cast  # noqa: F401
from tests.factories import ReportFactory, make_member, make_slide_image

pytestmark = pytest.mark.django_db

KEPT = importlib.import_module("cases.migrations.0021_history").KEPT | {
    "patient": importlib.import_module("cases.migrations.0024_patient_merges").KEPT_OF_PATIENT
}
# What is made from other columns, is the row's own id or time, or says nothing of the patient.
LEFT_OUT = {"id", "created_at", "updated_at", "search_vector"}


@pytest.fixture(autouse=True)
def _locked(settings):
    settings.ROW_SECURITY = True


@pytest.fixture
def case(cast) -> Case:  # noqa: F811
    found = make_slide_image(cast.north).slide.case
    ReportFactory(case=found)
    return found


@pytest.fixture
def doctor(cast):  # noqa: F811
    return make_member(cast.north, Role.PATHOLOGIST)


def test_a_service_s_change_is_kept_with_who_made_it(case, doctor):
    before = case.patient.family_name
    with acting_for_user(doctor):
        patient_change(user=doctor, patient=case.patient, data={"family_name": "Corrected"})
    change = ClinicalChange.objects.get()
    assert (change.object_type, change.operation) == ("patient", "change")
    assert change.before == {"family_name": before}
    assert change.after == {"family_name": "Corrected"}
    assert change.user == doctor
    assert (change.patient_id, change.department_id) == (case.patient_id, case.department_id)


def test_who_is_known_also_where_the_site_acts_for_them(case, doctor):
    with acting_for_user(doctor), acting_for_system("a test"), acting_for_system("within"):
        Case.objects.filter(pk=case.pk).update(clinical_history="Bulk")
    assert ClinicalChange.objects.get().user == doctor
    Case.objects.filter(pk=case.pk).update(clinical_history="By a worker")
    assert ClinicalChange.objects.first().user is None


def test_a_repair_by_hand_in_sql_is_kept(case):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cases_report SET diagnosis_line = 'By hand'")
        cursor.execute("UPDATE cases_report SET updated_at = now()")
    change = ClinicalChange.objects.get()
    assert change.after == {"diagnosis_line": "By hand"}
    assert change.case_id == case.pk


def test_what_does_not_change_leaves_nothing(case):
    case.save()
    case.patient.save()
    Case.objects.filter(pk=case.pk).update(clinical_history=case.clinical_history)
    assert not ClinicalChange.objects.exists()


def test_each_kind_of_row_is_kept_when_it_changes_and_when_it_goes(case):
    specimen = case.specimens.first()
    block = Block.objects.create(specimen=specimen, label="B")
    slide = case.slides.first()
    Block.objects.update(label="B2")
    Specimen.objects.update(organ="Liver")
    Slide.objects.update(stain="PAS")
    Report.objects.update(comment="Seen again")
    Case.objects.update(accession_number="S26-other")
    Patient.objects.update(mrn="M-other")
    type(slide.images.first()).objects.update(mpp=0.25)
    changed = ClinicalChange.objects.order_by("id").values_list("object_type", "operation")
    kinds = ["block", "specimen", "slide", "report", "case", "patient", "slideimage"]
    assert list(changed) == [(kind, "change") for kind in kinds]
    # The application deletes none of them; who does is the owner of the tables.
    with acting_as_owner("a repair by hand"):
        block.delete()
        slide.images.get().delete()
        slide.delete()
    gone = ClinicalChange.objects.filter(operation="delete").order_by("id")
    assert [change.object_type for change in gone] == ["block", "slideimage", "slide"]
    assert gone[0].before["label"] == "B2"
    assert gone[2].before["stain"] == "PAS"
    assert {change.case_id for change in gone} == {case.pk}


@pytest.mark.parametrize("statement", ["UPDATE {} SET object_type = 'x'", "DELETE FROM {}"])
@pytest.mark.parametrize("is_locked", [True, False])
def test_nobody_changes_the_history(case, settings, statement, is_locked):
    settings.ROW_SECURITY = is_locked
    Patient.objects.update(mrn="M-other")
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format("cases_clinicalchange"))
    with pytest.raises(TypeError):
        ClinicalChange.objects.all().delete()
    assert ClinicalChange.objects.count() == 1


def test_no_column_of_a_clinical_row_is_forgotten():
    for name, kept in KEPT.items():
        model = apps.get_model("cases", name)
        columns = {field.column for field in model._meta.concrete_fields} - LEFT_OUT
        assert set(kept) <= columns, name
        if name != "slideimage":  # the rest of a scan is about its files
            assert columns == set(kept), name


def test_the_page_shows_fields_before_and_after_and_is_on_record(cast, case, doctor):  # noqa: F811
    with acting_for_user(doctor):
        Patient.objects.filter(pk=case.patient_id).update(family_name="Corrected")
        Report.objects.filter(case=case).update(status="amended")
    client = cast.client(cast.north, Role.TECHNICIAN)
    page = client.get(reverse("case_history", args=[case.pk])).content.decode()
    assert "<ins>Corrected</ins>" in page and f"<del>{case.patient.family_name}</del>" in page
    assert "<ins>Amended</ins>" in page
    assert doctor.get_full_name() in page
    only = client.get(reverse("case_history", args=[case.pk]), {"kind": "report"})
    assert "<ins>Amended</ins>" in only.content.decode()
    assert "Corrected</ins>" not in only.content.decode()
    event = AccessEvent.objects.filter(detail__page="history").first()
    assert event.patient_id == case.patient_id
    told = client.get(f"/api/v1/cases/{case.pk}/history/").json()
    assert told["count"] == 2
    assert told["results"][0]["after"] == {"status": "amended"}
    assert told["results"][0]["user"] == doctor.username


def test_another_case_s_changes_are_not_shown(cast, case):  # noqa: F811
    other = make_slide_image(cast.north).slide.case
    Case.objects.filter(pk=other.pk).update(clinical_history="Other")
    Patient.objects.filter(pk=other.patient_id).update(given_name="Other")
    client = cast.client(cast.north, Role.PATHOLOGIST)
    assert (
        "Nothing was changed"
        in client.get(reverse("case_history", args=[case.pk])).content.decode()
    )


@pytest.mark.parametrize("role", [Role.RESEARCHER, Role.AUDITOR])
def test_who_may_not_know_the_patient_gets_none_of_it(cast, case, role):  # noqa: F811
    Patient.objects.filter(pk=case.patient_id).update(family_name="Corrected")
    answer = cast.client(cast.north, role).get(reverse("case_history", args=[case.pk]))
    assert answer.status_code in {403, 404}
    assert "Corrected" not in answer.content.decode()
