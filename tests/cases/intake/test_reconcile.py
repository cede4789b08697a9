"""A person settles what waits."""

import pytest
from django.core.exceptions import PermissionDenied

from cases.errors import Conflict, DomainError
from cases.models import AccessEvent, SlideImage
from cases.permissions import Role
from cases.services import reconcile
from cases.services.store import image_path
from cases.tasks import make_thumbnail_task
from cases.wsi.reader import open_slide
from tests.cases.intake.conftest import only_item, stored
from tests.factories import CaseFactory, PatientFactory, make_member
from tests.synthetic_slide import write_dicom_slide, write_tiff_slide

pytestmark = pytest.mark.django_db


@pytest.fixture
def case(department):
    patient = PatientFactory(
        department=department, mrn="MRN-1", mrn_issuer="hospital", family_name="Doe"
    )
    return CaseFactory(
        department=department, patient=patient, accession_number="S26-1", accession_issuer="lis"
    )


@pytest.fixture
def settle(technician, django_capture_on_commit_callbacks):
    def _settle(item, **values):
        with django_capture_on_commit_callbacks(execute=True):
            return reconcile.item_reconcile(
                item=item, user=values.pop("user", technician), **values
            )

    return _settle


def test_what_was_missing_can_be_given(deliver, settle, technician, tmp_path, data_dir):
    item = only_item(deliver(write_tiff_slide(tmp_path / "a.tiff", mpp=None)))
    assert item.reason_code == "accession_missing"
    with pytest.raises(Conflict) as caught:
        settle(item, accession_number="S1", mrn="1")
    assert caught.value.code == "mpp_missing"
    assert stored(data_dir, "slides") == set()
    settled = settle(item, accession_number="S1", mrn="1", mpp="0.46", organ="Skin")
    assert (settled.state, settled.resolved_by) == ("accepted", technician)
    image = settled.slide_image
    assert (image.mpp, image.mpp_source) == (0.46, "entered")
    assert image.slide.case.patient.mrn == "1"
    assert image.slide.specimen.organ == "Skin"
    assert stored(data_dir, "unmatched") == set()
    assert open_slide(image_path(image)).width_l0 == 1024
    make_thumbnail_task(str(image.pk))
    assert stored(data_dir, "thumbnails") == {f"{image.pk}.jpeg"}
    assert AccessEvent.objects.filter(object_id=str(item.pk), action="change").exists()


def test_another_patient_needs_a_confirmation(deliver, settle, case, tmp_path):
    item = only_item(deliver(write_dicom_slide(tmp_path / "a", patient_id="WRONG")))
    with pytest.raises(reconcile.MustConfirm) as caught:
        settle(item, accession_number="S26-1")
    assert "MRN differs" in caught.value.message
    assert not SlideImage.objects.exists()
    settled = settle(item, accession_number="S26-1", confirm_patient=True)
    assert settled.slide_image.slide.case == case
    case.patient.refresh_from_db()
    assert (case.patient.mrn, case.patient.given_name) == ("MRN-1", "Given")


def test_a_typed_mrn_must_be_the_one_of_the_case(deliver, settle, case, tmp_path):
    item = only_item(deliver(write_dicom_slide(tmp_path / "a", patient_id="WRONG")))
    with pytest.raises(Conflict) as caught:
        settle(item, accession_number="S26-1", mrn="WRONG", confirm_patient=True)
    assert caught.value.code == "patient_mismatch"


def test_a_wrong_accession_number_can_be_corrected(deliver, settle, department, case, tmp_path):
    right = CaseFactory(
        department=department,
        patient=PatientFactory(department=department, mrn="MRN-2", mrn_issuer="hospital"),
        accession_issuer="lis",
    )
    folder = write_dicom_slide(tmp_path / "a", patient_id="MRN-2", patient_name="")
    item = only_item(deliver(folder))
    assert item.reason_code == "patient_mismatch"
    settled = settle(item, accession_number=right.accession_number)
    assert settled.slide_image.slide.case == right


def test_it_is_settled_once(deliver, settle, tmp_path):
    item = only_item(deliver(write_tiff_slide(tmp_path / "a.tiff")))
    settle(item, accession_number="S1", mrn="1")
    with pytest.raises(reconcile.NotWaiting):
        settle(item, accession_number="S2", mrn="2")
    assert SlideImage.objects.count() == 1


def test_discarding_needs_a_reason_and_removes_the_files(deliver, technician, tmp_path, data_dir):
    item = only_item(deliver(write_tiff_slide(tmp_path / "a.tiff")))
    with pytest.raises(DomainError):
        reconcile.item_discard(item=item, user=technician, reason=" ")
    assert stored(data_dir, "unmatched") == {str(item.pk)}


def test_discarding(deliver, technician, tmp_path, data_dir, django_capture_on_commit_callbacks):
    item = only_item(deliver(write_tiff_slide(tmp_path / "a.tiff")))
    with django_capture_on_commit_callbacks(execute=True):
        settled = reconcile.item_discard(item=item, user=technician, reason="Test scan")
    assert (settled.state, settled.reason) == ("discarded", "Test scan")
    assert stored(data_dir, "unmatched") == set()


def test_a_researcher_may_not(deliver, settle, department, tmp_path):
    item = only_item(deliver(write_tiff_slide(tmp_path / "a.tiff")))
    researcher = make_member(department, Role.RESEARCHER)
    with pytest.raises(PermissionDenied):
        settle(item, user=researcher, accession_number="S1", mrn="1")


def test_a_failure_leaves_nothing_and_the_item_waits_on(
    deliver, settle, tmp_path, data_dir, monkeypatch
):
    item = only_item(deliver(write_tiff_slide(tmp_path / "a.tiff")))

    def broken(*args, **kwargs):
        raise RuntimeError("broken")

    monkeypatch.setattr("cases.services.records.image_create", broken)
    with pytest.raises(RuntimeError):
        settle(item, accession_number="S1", mrn="1")
    item.refresh_from_db()
    assert item.state == "unmatched"
    assert stored(data_dir, "slides") == set()
    assert stored(data_dir, "unmatched") == {str(item.pk)}
