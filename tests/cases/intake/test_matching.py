"""Whose slide it is: never a guess, never the wrong patient, never another department's."""

from datetime import date

import pytest

from cases.errors import Conflict
from cases.models import Case, Patient, SlideImage, UploadItem
from cases.services.reconcile import item_reconcile
from tests.cases.intake.conftest import only_item, stored
from tests.factories import CaseFactory, PatientFactory, SlideFactory
from tests.synthetic_slide import write_dicom_slide, write_tiff_slide

pytestmark = pytest.mark.django_db

RECORD = {
    "mrn": "MRN-1",
    "mrn_issuer": "hospital",
    "family_name": "Doe",
    "given_name": "Jane",
    "birth_date": date(1950, 1, 2),
    "sex": "F",
}


@pytest.fixture
def case(department):
    patient = PatientFactory(department=department, **RECORD)
    return CaseFactory(
        department=department, patient=patient, accession_number="S26-1", accession_issuer="lis"
    )


@pytest.mark.parametrize(
    ("headers", "differs"),
    [
        ({"patient_id": "MRN-2"}, "MRN"),
        ({"patient_issuer": "elsewhere"}, "MRN issuer"),
        ({"patient_name": "Roe^Jane"}, "family name"),
        ({"birth_date": "19500103"}, "birth date"),
        ({"sex": "M"}, "sex"),
    ],
)
def test_another_patient_than_on_record_is_not_taken(
    deliver, case, tmp_path, data_dir, headers, differs
):
    item = only_item(deliver(write_dicom_slide(tmp_path / "s", **headers)))
    assert (item.state, item.reason_code) == ("unmatched", "patient_mismatch")
    assert differs in item.reason
    assert "Doe" not in item.reason
    assert "MRN-" not in item.reason
    assert not SlideImage.objects.exists()
    assert Patient.objects.count() == 1
    # The bytes wait, safely.
    assert len(stored(data_dir / "unmatched", str(item.pk))) == 3
    assert stored(data_dir, "slides") == stored(data_dir, "spool") == set()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"patient_name": "DOE^J"},
        {"patient_name": "Dóe^Jane"},
        {"patient_id": "", "patient_issuer": "", "patient_name": "", "birth_date": "", "sex": ""},
        {"sex": "O"},
    ],
)
def test_the_same_patient_is_taken(deliver, case, tmp_path, headers):
    item = only_item(deliver(write_dicom_slide(tmp_path / "s", **headers)))
    assert (item.state, item.reason) == ("accepted", "")
    assert item.slide_image.slide.case == case
    case.patient.refresh_from_db()
    assert {name: getattr(case.patient, name) for name in RECORD} == RECORD


def test_a_known_mrn_with_another_name_is_not_taken_into_a_new_case(deliver, case, tmp_path):
    item = only_item(
        deliver(write_dicom_slide(tmp_path / "s", accession_number="S26-9", patient_name="Roe^R"))
    )
    assert (item.state, item.reason_code) == ("unmatched", "patient_mismatch")


NOBODY = {
    "patient_id": "",
    "patient_issuer": "",
    "patient_name": "",
    "birth_date": "",
    "sex": "",
    "accession_number": "",
    "accession_issuer": "",
    "container_id": "",
}


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({}, "accession_missing"),
        ({"mrn": "1"}, "accession_missing"),
        ({"accession_number": "S26-9"}, "mrn_missing"),
    ],
)
def test_without_case_or_patient_it_waits(deliver, tmp_path, form, code):
    item = only_item(deliver(write_dicom_slide(tmp_path / "s", **NOBODY), **form))
    assert (item.state, item.reason_code) == ("unmatched", code)
    assert not Case.objects.exists()


def test_an_accession_on_record_is_enough(deliver, case, tmp_path):
    folder = write_dicom_slide(tmp_path / "s", **NOBODY)
    item = only_item(deliver(folder, accession_number="S26-1"))
    assert item.slide_image.slide.case == case


def test_a_printed_barcode_leads_to_its_glass(deliver, case, tmp_path):
    glass = SlideFactory(case=case, label="A1-1", label_barcode="BC-77")
    folder = write_dicom_slide(tmp_path / "s", **{**NOBODY, "container_id": "BC-77"})
    assert only_item(deliver(folder)).slide_image.slide == glass


def test_a_barcode_on_glasses_of_two_cases_leads_nowhere(deliver, department, case, tmp_path):
    SlideFactory(case=case, label_barcode="BC-77")
    SlideFactory(case=CaseFactory(department=department), label_barcode="BC-77")
    folder = write_dicom_slide(tmp_path / "s", **{**NOBODY, "container_id": "BC-77"})
    assert only_item(deliver(folder)).reason_code == "accession_missing"


@pytest.mark.parametrize(
    "form", [{"mrn": "OTHER"}, {"accession_number": "S26-2"}, {"birth_date": "1999-01-01"}]
)
def test_file_and_form_must_not_contradict(deliver, tmp_path, form):
    item = only_item(deliver(write_dicom_slide(tmp_path / "s"), **form))
    assert (item.state, item.reason_code) == ("unmatched", "form_disagrees")


def test_two_departments_keep_their_own_rows(
    deliver, department, other_technician, tmp_path, data_dir
):
    other = other_technician.memberships.get().department
    first = only_item(deliver(write_dicom_slide(tmp_path / "s")))
    second = only_item(deliver(tmp_path / "s", user=other_technician, to=other))
    # The same bytes: neither a duplicate nor a mismatch betrays the other department.
    assert first.state == second.state == UploadItem.State.ACCEPTED
    assert first.slide_image != second.slide_image
    assert Patient.objects.count() == Case.objects.count() == 2
    assert SlideImage.objects.visible_to(other_technician).get() == second.slide_image
    # And another patient under the same accession number is no conflict either.
    folder = write_dicom_slide(tmp_path / "t", seed=5, accession_number="S26-5", patient_id="X")
    assert only_item(deliver(folder)).state == "accepted"
    folder = write_dicom_slide(tmp_path / "u", seed=6, accession_number="S26-5", patient_id="Y")
    item = only_item(deliver(folder, user=other_technician, to=other))
    assert item.state == "accepted"


def test_mpp_from_the_form_beats_an_objective_but_not_the_file(deliver, tmp_path):
    stated = write_tiff_slide(tmp_path / "a.tiff", mpp=0.25)
    only_power = write_tiff_slide(
        tmp_path / "b.svs", seed=2, mpp=None, description="Aperio Image Library |AppMag = 20"
    )
    same_power = write_tiff_slide(
        tmp_path / "c.svs", seed=3, mpp=None, description="Aperio Image Library |AppMag = 20"
    )
    case = {"accession_number": "S1", "mrn": "1"}
    image = only_item(deliver(stated, mpp="0.4", **case)).slide_image
    assert (image.mpp_source, image.mpp) == ("file", pytest.approx(0.25))
    image = only_item(deliver(only_power, mpp="0.4", **case)).slide_image
    assert (image.mpp_source, image.mpp) == ("entered", pytest.approx(0.4))
    image = only_item(deliver(same_power, **case)).slide_image
    assert (image.mpp_source, image.mpp) == ("objective_power", pytest.approx(0.5, rel=0.1))


def test_two_patients_in_one_study_are_for_a_person(deliver, department, technician, tmp_path):
    study = {"study_uid": "1.2.3.4"}
    one = write_dicom_slide(tmp_path / "1", seed=1, patient_id="M1", accession_number="A1", **study)
    two = write_dicom_slide(tmp_path / "2", seed=2, patient_id="M2", accession_number="A2", **study)
    more = write_dicom_slide(
        tmp_path / "3", seed=3, patient_id="M1", accession_number="A1", **study
    )
    assert only_item(deliver(one)).state == "accepted"
    item = only_item(deliver(two))
    assert (item.state, item.reason_code) == ("unmatched", "mixed_patients")
    assert Patient.objects.count() == 1
    # Another patient who is on record already is no better.
    other = PatientFactory(department=department, mrn="M2", mrn_issuer="hospital")
    CaseFactory(department=department, patient=other, accession_number="A3", accession_issuer="lis")
    for mrn, accession in (("M2", "A2"), ("", "A3")):
        with pytest.raises(Conflict) as caught:
            item_reconcile(
                item=item,
                user=technician,
                confirm_patient=True,
                mrn=mrn,
                accession_number=accession,
            )
        assert caught.value.code == "mixed_patients"
    settled = item_reconcile(
        item=item, user=technician, confirm_patient=True, mrn="M1", accession_number="A1"
    )
    assert settled.state == "accepted"
    # The header's own number stays right for that study, and so does the first one.
    assert only_item(deliver(more)).state == "accepted"
    assert SlideImage.objects.values("slide__case__patient").distinct().count() == 1
