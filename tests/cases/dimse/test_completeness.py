"""Series that come in pieces by network: they wait, are joined, are opened again."""

import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from django.test import Client
from django.utils import timezone
from pydicom import dcmread

from cases.models import SlideImage, UploadFile, UploadItem
from cases.permissions import Role
from cases.services import network, sweep
from cases.services.store import image_path
from cases.wsi.reader import open_slide
from retrieval.models import SlideIndex
from tests.cases.dicomweb.conftest import check_server, client_for  # noqa: F401
from tests.cases.dicomweb.storing import store
from tests.cases.dimse.conftest import process_all
from tests.cases.intake.conftest import stored
from tests.dicom_formats import split_concatenation
from tests.factories import make_member
from tests.synthetic_slide import picture, write_dicom_slide

pytestmark = pytest.mark.django_db


@pytest.fixture
def arrive(peer, data_dir, tmp_path, settings):
    """Return a function that takes files in as one batch of the peer; returns its items."""
    settings.DICOM_QUIET_SECONDS = 60

    def _arrive(*files: Path) -> list[UploadItem]:
        for file in files:
            copy = data_dir / "received"
            shutil.copy(file, copy)
            uid = str(dcmread(file, stop_before_pixels=True).SOPInstanceUID)
            network.instance_receive(peer=peer, sop_instance_uid=uid, source=copy)
        network.batches_close(quiet_seconds=0)
        (upload,) = process_all()
        assert upload.state == "finished", upload.reason
        return list(upload.items.all())

    return _arrive


@pytest.fixture
def series(tmp_path):
    folder = write_dicom_slide(tmp_path / "s", levels=3, label=True)
    return [folder / f"level-{n}.dcm" for n in range(3)], folder / "label.dcm"


def test_levels_that_come_one_by_one_make_one_slide_that_settles(arrive, series):
    levels, _label = series
    for number, file in enumerate(reversed(levels), start=1):
        (item,) = arrive(file)
        assert item.state == "accepted"
        image = SlideImage.objects.get()
        assert image.level_count == number
        index = SlideIndex.objects.get(slide_image=image)
        assert (index.state, index.reason_code) == ("queued", "settling")
        assert image.settles_at > timezone.now() + timedelta(seconds=30)
    assert (image.width_l0, image.mpp) == (1024, pytest.approx(0.5))


def test_what_was_quiet_long_enough_before_it_was_looked_at_does_not_wait_again(
    arrive, series, monkeypatch
):
    levels, _label = series
    original = network.batches_close

    def later(**kwargs):
        UploadFile.objects.update(created_at=timezone.now() - timedelta(seconds=61))
        return original(**kwargs)

    monkeypatch.setattr(network, "batches_close", later)
    arrive(*levels)
    assert SlideIndex.objects.get().reason_code == ""


def test_a_label_that_comes_first_waits_for_its_tissue(arrive, series, data_dir, technician):
    levels, label = series
    (item,) = arrive(label)
    assert (item.state, item.reason_code) == ("incomplete", "no_volume_image")
    assert "may follow" in item.reason
    client = Client()
    client.force_login(technician)
    assert "1 waiting for more instances" in client.get("/uploads/").content.decode()
    assert (
        "Waiting for more instances" in client.get(f"/uploads/{item.upload_id}/").content.decode()
    )
    assert not SlideImage.objects.exists()
    sweep.sweep_store()
    assert stored(data_dir, "unmatched") == {str(item.pk)}
    (again,) = arrive(label)
    assert (again.state, again.reason_code) == ("duplicate", "already_waiting")
    (taken,) = arrive(*levels)
    assert taken.state == "accepted"
    image = SlideImage.objects.get()
    assert (image.has_label_image, image.instances.count()) == (True, 4)
    item.refresh_from_db()
    assert (item.state, item.reason_code, item.slide_image) == ("duplicate", "joined", image)


def test_a_label_that_comes_late_joins_the_slide_and_nothing_is_indexed_again(arrive, series):
    levels, label = series
    arrive(*levels)
    image = SlideImage.objects.get()
    SlideIndex.objects.update(state="indexed", reason_code="")
    (item,) = arrive(label)
    assert (item.state, item.slide_image) == ("accepted", image)
    image.refresh_from_db()
    assert (image.has_label_image, image.level_count) == (True, 3)
    assert SlideIndex.objects.get().state == "indexed"
    reader = open_slide(image_path(image))
    assert reader.label_image() is not None
    reader.close()


def test_the_parts_of_a_concatenation_wait_for_each_other(arrive, tmp_path, data_dir):
    rgb = picture(700, 600, seed=4)
    write_dicom_slide(tmp_path / "s", rgb=rgb, levels=1, jpeg=False)
    parts = split_concatenation(tmp_path / "s" / "level-0.dcm", 3)
    (first,) = arrive(parts[2])
    assert (first.state, first.reason_code) == ("incomplete", "missing_files")
    (second,) = arrive(parts[0])
    assert second.state == "incomplete"
    first.refresh_from_db()
    assert first.reason_code == "joined"
    (third,) = arrive(parts[1])
    assert third.state == "accepted"
    image = SlideImage.objects.get()
    reader = open_slide(image_path(image))
    assert np.array_equal(reader._read_level(0, 0, 0, 700, 600), rgb)
    reader.close()
    assert not UploadItem.objects.filter(state="incomplete").exists()


def test_pieces_whose_rest_never_comes_are_refused_after_two_weeks(arrive, series, data_dir):
    _levels, label = series
    (item,) = arrive(label)
    assert sweep.sweep_pieces() == 0
    UploadItem.objects.update(created_at=timezone.now() - timedelta(days=15))
    assert sweep.sweep_pieces() == 1
    item.refresh_from_db()
    assert (item.state, item.reason_code) == ("refused", "no_volume_image")


def test_files_of_an_extension_that_failed_are_swept(arrive, series, data_dir, monkeypatch):
    levels, _label = series
    arrive(levels[0])
    image = SlideImage.objects.get()
    folder = data_dir / "slides" / str(image.pk)
    shutil.copy(levels[1], folder / ("ab" * 20 + ".dcm"))
    (folder / "notes.txt").write_text("not ours")
    sweep.sweep_store()
    assert len(list(folder.iterdir())) == 3  # an hour has not passed
    monkeypatch.setattr(sweep, "ORPHAN_SECONDS", -1)
    assert sweep.sweep_store() == [f"slides/{image.pk}/{'ab' * 20}.dcm"]
    assert len(list(folder.iterdir())) == 2


def test_what_came_by_c_store_and_waits_may_come_by_stow_too(
    peer,
    department,
    data_dir,
    series,
):
    (file, *_others), _label = series
    copy = data_dir / "received"
    shutil.copy(file, copy)
    uid = str(dcmread(file, stop_before_pixels=True).SOPInstanceUID)
    network.instance_receive(peer=peer, sop_instance_uid=uid, source=copy)
    viewer = client_for(make_member(department, Role.TECHNICIAN))
    answer = store(viewer, [file.read_bytes()])
    assert answer.status_code == 200, answer.content
    network.batches_close(quiet_seconds=0)
    process_all()
    assert SlideImage.objects.get().instances.count() == 1
    assert sorted(UploadItem.objects.values_list("state", flat=True)) == ["accepted", "duplicate"]
