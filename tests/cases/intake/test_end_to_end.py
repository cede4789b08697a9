"""Slides of every kind from the folder to the archive."""

import shutil
import zipfile

import pytest
from django.core.management import CommandError, call_command

from cases.models import AccessEvent, Case, Patient, SlideImage, UploadItem
from cases.permissions import Role
from cases.services.store import image_path, thumbnail_file
from cases.signals import slide_image_ready
from cases.wsi.reader import open_slide
from tests.cases.intake.conftest import only_item, stored
from tests.factories import make_member
from tests.synthetic_slide import write_dicom_slide, write_tiff_slide

pytestmark = pytest.mark.django_db


@pytest.fixture
def announced():
    """Return the slide images that the signal named."""
    seen = []

    def hear(sender, slide_image, **kwargs):
        seen.append(slide_image.pk)

    slide_image_ready.connect(hear)
    yield seen
    slide_image_ready.disconnect(hear)


def test_a_dicom_series_brings_patient_case_glass_and_instances(
    deliver, department, technician, tmp_path, data_dir, announced
):
    folder = write_dicom_slide(tmp_path / "slide", label=True)
    upload = deliver(folder)
    assert (upload.state, upload.reason_code) == ("finished", "")
    item = only_item(upload)
    assert (item.state, item.reason_code) == (UploadItem.State.ACCEPTED, "")
    image = item.slide_image
    case = image.slide.case
    assert (case.accession_number, case.accession_issuer) == ("S26-1", "lis")
    patient = case.patient
    assert (patient.mrn, patient.mrn_issuer) == ("MRN-1", "hospital")
    assert (patient.family_name, patient.given_name, patient.sex) == ("Doe", "Jane", "F")
    assert patient.birth_date.isoformat() == "1950-01-02"
    assert image.slide.label == image.slide.label_barcode == "SLIDE-1"
    assert (image.slide.stain, image.slide.specimen.organ) == ("H&E", "Lung")
    assert (image.width_l0, image.height_l0, image.level_count) == (1024, 768, 3)
    assert image.mpp == pytest.approx(0.5)
    assert image.mpp_source == "file"
    assert image.has_label_image
    assert image.instances.count() == 4
    assert announced == [image.pk]
    # The files are there, whole, and nothing is left of the way in.
    names = stored(data_dir / "slides", str(image.pk))
    assert names == {instance.file_name for instance in image.instances.all()}
    assert image_path(image) == data_dir / "slides" / str(image.pk)
    reader = open_slide(image_path(image))
    assert (reader.width_l0, reader.height_l0) == (1024, 768)
    reader.close()
    assert stored(data_dir, "spool") == stored(data_dir, "work") == set()
    assert thumbnail_file(image.pk).stat().st_size > 500
    event = AccessEvent.objects.get(object_id=str(image.pk))
    assert (event.user, event.action, event.patient_id) == (technician, "create", patient.pk)


def test_a_vendor_file_takes_patient_and_case_from_the_form(deliver, tmp_path, data_dir):
    file = write_tiff_slide(tmp_path / "Böse Name;$(rm).tiff", seed=2)
    upload = deliver(
        file,
        accession_number="S26-7",
        mrn="77",
        family_name="Roe",
        birth_date="1961-02-03",
        organ="Skin",
        stain="PAS",
        slide_label="A1-1",
    )
    image = only_item(upload).slide_image
    assert image.path == f"slides/{image.pk}/slide.tiff"
    assert (data_dir / image.path).read_bytes() == file.read_bytes()
    assert image.slide.label == "A1-1"
    assert (image.slide.stain, image.slide.specimen.organ) == ("PAS", "Skin")
    patient = image.slide.case.patient
    assert (patient.mrn, patient.family_name) == ("77", "Roe")


def test_one_zip_of_several_slides_with_one_bad_file(deliver, tmp_path):
    write_dicom_slide(tmp_path / "in" / "dicom")
    write_tiff_slide(tmp_path / "in" / "vendor.tiff", seed=3)
    (tmp_path / "in" / "notes.txt").write_text("no slide")
    archive = tmp_path / "delivery.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for file in sorted((tmp_path / "in").rglob("*")):
            out.write(file, file.relative_to(tmp_path / "in"))
    upload = deliver(archive, accession_number="S26-1", mrn="MRN-1")
    found = sorted((item.state, item.reason_code) for item in upload.items.all())
    assert found == [("accepted", ""), ("accepted", ""), ("refused", "not_a_slide")]
    assert Case.objects.count() == Patient.objects.count() == 1
    labels = sorted(image.slide.label for image in SlideImage.objects.all())
    assert labels == ["SLIDE-1", "vendor"]


def test_several_slides_get_numbered_labels_from_the_form(deliver, tmp_path):
    for seed in (1, 2):
        write_tiff_slide(tmp_path / "in" / f"{seed}.tiff", seed=seed)
    deliver(tmp_path / "in", accession_number="S26-1", mrn="1", slide_label="B")
    labels = {image.slide.label for image in SlideImage.objects.all()}
    assert labels == {"B-1", "B-2"}


def test_two_files_of_one_name_are_two_glasses(deliver, tmp_path):
    for seed in (1, 2):
        file = write_tiff_slide(tmp_path / str(seed) / "slide.tiff", seed=seed)
        deliver(file, accession_number="S26-1", mrn="1")
    assert {image.slide.label for image in SlideImage.objects.all()} == {"slide", "slide-2"}


def test_a_second_scan_of_one_container_is_the_same_glass(deliver, tmp_path):
    deliver(write_dicom_slide(tmp_path / "a", seed=1))
    deliver(write_dicom_slide(tmp_path / "b", seed=2))
    first, second = SlideImage.objects.all()
    assert first.slide == second.slide


@pytest.mark.shared_data
def test_the_real_svs_and_its_dicom_series(deliver, shared_data, tmp_path):
    svs = deliver(
        shared_data / "slides/svs/cmu-1-small-region.svs", accession_number="R-1", mrn="1"
    )
    image = only_item(svs).slide_image
    assert (image.vendor, image.width_l0, image.height_l0) == ("aperio", 2220, 2967)
    assert image.mpp == pytest.approx(0.499)
    assert image.path.endswith("/slide.svs")
    assert thumbnail_file(image.pk).exists()
    for name in ("cmu-1-small-region", "cmu-1-small-region-with-label", "camelyon-jpeg"):
        upload = deliver(
            shared_data / "slides/dicom" / name, accession_number="R-1", mrn="1", mpp="0.5"
        )
        item = only_item(upload)
        assert (item.state, item.reason) == ("accepted", ""), name
        reader = open_slide(image_path(item.slide_image))
        assert reader.thumbnail(64).shape[2] == 3
        reader.close()


@pytest.mark.shared_data
def test_the_real_slide_without_mpp_asks_for_it(deliver, shared_data):
    file = shared_data / "slides/svs/tcga-cr-7395-01a-01-ts1.svs"
    item = only_item(deliver(file, accession_number="R-2", mrn="2"))
    assert (item.state, item.reason_code) == ("unmatched", "mpp_missing")
    # Sent again with it, the slide is taken, and the waiting one is settled.
    again = only_item(deliver(file, accession_number="R-2", mrn="2", mpp="0.5"))
    assert (again.state, again.slide_image.mpp_source) == ("accepted", "entered")
    item.refresh_from_db()
    assert (item.state, item.slide_image) == ("duplicate", again.slide_image)


def test_the_command_takes_a_folder(department, technician, tmp_path, capsys):
    write_dicom_slide(tmp_path / "slide")
    arguments = ["upload_folder", str(tmp_path / "slide"), "--department", "lung"]
    call_command(*arguments, "--user", technician.username, "--process")
    assert "accepted" in capsys.readouterr().out
    assert SlideImage.objects.count() == 1
    researcher = make_member(department, Role.RESEARCHER)
    with pytest.raises(CommandError, match="may not upload"):
        call_command(*arguments, "--user", researcher.username)


def test_a_copying_file_system_works_as_well(deliver, tmp_path, monkeypatch):
    def no_links(self, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("pathlib.Path.hardlink_to", no_links)
    upload = deliver(write_dicom_slide(tmp_path / "slide"))
    assert only_item(upload).state == "accepted"
    shutil.rmtree(tmp_path / "slide")
    assert open_slide(image_path(only_item(upload).slide_image)).width_l0 == 1024
