"""The same bytes twice are one slide; one UID has one content; a series may grow."""

import shutil
from pathlib import Path

import pytest

from cases.models import SlideImage, SlideInstance
from cases.services.store import image_path, thumbnail_file
from cases.signals import slide_image_ready
from cases.wsi.reader import open_slide
from tests.cases.intake.conftest import only_item, stored
from tests.synthetic_slide import write_dicom_slide, write_tiff_slide

pytestmark = pytest.mark.django_db


def part(folder: Path, target: Path, *names: str) -> Path:
    """Copy some files of a series into a folder of their own."""
    target.mkdir()
    for name in names:
        shutil.copy(folder / name, target / name)
    return target


def test_the_same_vendor_file_twice_is_one_slide(deliver, tmp_path, data_dir):
    file = write_tiff_slide(tmp_path / "a.tiff")
    first = only_item(deliver(file, accession_number="1", mrn="1"))
    second = only_item(deliver(file, accession_number="2", mrn="2"))
    assert (second.state, second.reason_code) == ("duplicate", "already_here")
    assert second.slide_image == first.slide_image
    assert stored(data_dir, "slides") == {str(first.slide_image.pk)}


def test_the_same_file_twice_in_one_delivery_is_one_slide(deliver, tmp_path):
    file = write_tiff_slide(tmp_path / "in" / "a.tiff")
    shutil.copy(file, tmp_path / "in" / "b.tiff")
    upload = deliver(tmp_path / "in", accession_number="1", mrn="1")
    assert sorted(item.state for item in upload.items.all()) == ["accepted", "duplicate"]


def test_what_waits_unmatched_is_not_stored_twice(deliver, tmp_path, data_dir):
    file = write_tiff_slide(tmp_path / "a.tiff")
    first = only_item(deliver(file))
    second = only_item(deliver(file))
    assert (first.state, second.state) == ("unmatched", "duplicate")
    assert second.reason_code == "already_waiting"
    assert stored(data_dir, "unmatched") == {str(first.pk)}


def test_the_same_uid_with_other_content_is_refused(deliver, tmp_path, data_dir):
    folder = write_dicom_slide(tmp_path / "a")
    first = only_item(deliver(folder))
    write_dicom_slide(
        tmp_path / "b", change=lambda number, dataset: setattr(dataset, "ImageComments", "changed")
    )
    second = only_item(deliver(tmp_path / "b"))
    assert (second.state, second.reason_code) == ("refused", "sop_instance_conflict")
    assert SlideImage.objects.get() == first.slide_image
    assert stored(data_dir, "slides") == {str(first.slide_image.pk)}
    # Of another department nothing is known, so nothing conflicts there.


def test_a_conflict_in_another_department_is_none_here(deliver, other_technician, tmp_path):
    deliver(write_dicom_slide(tmp_path / "a"))
    write_dicom_slide(
        tmp_path / "b", change=lambda number, dataset: setattr(dataset, "ImageComments", "changed")
    )
    other = other_technician.memberships.get().department
    assert only_item(deliver(tmp_path / "b", user=other_technician, to=other)).state == "accepted"


def test_a_series_grows_by_later_instances(deliver, tmp_path, data_dir):
    whole = write_dicom_slide(tmp_path / "whole", label=True)
    seen = []

    def hear(sender, slide_image, **kwargs):
        seen.append((slide_image.pk, slide_image.width_l0))

    slide_image_ready.connect(hear)
    try:
        first = only_item(deliver(part(whole, tmp_path / "1", "level-1.dcm", "level-2.dcm")))
        image = first.slide_image
        assert (image.width_l0, image.level_count) == (512, 2)
        assert image.mpp == pytest.approx(1.0)
        made = thumbnail_file(image.pk).stat().st_mtime_ns
        later = deliver(part(whole, tmp_path / "2", "level-0.dcm", "level-2.dcm", "label.dcm"))
    finally:
        slide_image_ready.disconnect(hear)
    assert only_item(later).state == "accepted"
    image = SlideImage.objects.get()
    assert image == first.slide_image
    assert (image.width_l0, image.height_l0, image.level_count) == (1024, 768, 3)
    assert image.mpp == pytest.approx(0.5)
    assert image.has_label_image
    assert thumbnail_file(image.pk).stat().st_mtime_ns > made
    assert seen == [(image.pk, 512), (image.pk, 1024)]
    names = stored(data_dir / "slides", str(image.pk))
    assert names == set(SlideInstance.objects.values_list("file_name", flat=True))
    assert len(names) == 4
    reader = open_slide(image_path(image))
    assert (reader.width_l0, reader.level_count) == (1024, 3)
    reader.close()
    # The whole series again, and any part of it, is nothing new.
    for folder in (whole, tmp_path / "1"):
        assert only_item(deliver(folder)).state == "duplicate"
    assert SlideImage.objects.count() == 1


def test_later_instances_of_another_patient_do_not_enter_the_series(deliver, tmp_path):
    write_dicom_slide(tmp_path / "a", series_uid="1.2.3", levels=2)
    first = only_item(deliver(tmp_path / "a"))

    def other_instance(number, dataset):
        dataset.SOPInstanceUID = f"1.2.3.9.{number}"

    write_dicom_slide(
        tmp_path / "b", series_uid="1.2.3", levels=1, patient_id="OTHER", change=other_instance
    )
    second = only_item(deliver(tmp_path / "b"))
    assert (second.state, second.reason_code) == ("unmatched", "patient_mismatch")
    assert first.slide_image.instances.count() == 2
