"""kill -9 at any moment, then a second worker: every slide once, nothing lost, nothing left."""

import os
import signal
import subprocess
import sys
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ

from cases.models import Case, Patient, SlideImage, SlideUpload, UploadItem
from cases.services import intake, processing, sweep, uploads, work
from cases.services.store import image_path
from cases.wsi.reader import open_slide
from tests.cases.intake.conftest import stored
from tests.synthetic_slide import write_dicom_slide, write_tiff_slide

ROOT = Path(__file__).resolve().parents[3]

# Where the worker dies: (module, function, before or after its work, at which call).
MOMENTS = {
    "before the examination": ("processing", "_examine", "before", 1),
    "after the examination": ("processing", "_examine", "after", 1),
    "in the middle of linking": ("store", "link_or_copy", "after", 5),
    "files in place, no rows": ("intake", "_write", "before", 1),
    "in the transaction": ("intake", "accept", "after", 1),
    "one slide taken": ("intake", "_write", "after", 1),
    "second slide, no rows": ("intake", "_write", "before", 2),
    "all taken, not finished": ("work", "result_transaction", "before", 1),
    "finished, spool still there": ("store", "remove", "before", -1),
}

WORKER = """
import os, signal, sys
import django
django.setup()
from cases.services import intake, processing, store, work
module, name, when, call = sys.argv[2:6]
place = {"intake": intake, "processing": processing, "store": store, "work": work}[module]
original, calls = getattr(place, name), 0
def deadly(*args, **kwargs):
    global calls
    calls += 1
    last = call == "-1" and str(args[0]).endswith("spool/" + sys.argv[1])
    if when == "before" and (calls == int(call) or last):
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **kwargs)
    if when == "after" and calls == int(call):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(place, name, deadly)
processing.upload_process(sys.argv[1])
"""


def worker_environment(data_dir: Path) -> dict[str, str]:
    """Return the environment of a process that works on the test's database and folder."""
    url = os.environ["DATABASE_URL"]
    name = connection.settings_dict["NAME"]
    base, _slash, rest = url.rpartition("/pathsearch")
    assert base
    return {
        **os.environ,
        "DATABASE_URL": f"{base}/{name}{rest}",
        "PATHSEARCH_TEST_DATA_DIR": str(data_dir),
        "DJANGO_SETTINGS_MODULE": "pathsearch_site.settings.testing",
    }


@pytest.fixture
def upload(department, technician, tmp_path):
    write_dicom_slide(tmp_path / "in" / "dicom")
    write_tiff_slide(tmp_path / "in" / "vendor.tiff", seed=3)
    (tmp_path / "in" / "broken.svs").write_bytes(b"II*\0" + b"\0" * 50)
    return uploads.upload_local_folder(
        user=technician,
        department=department,
        folder=tmp_path / "in",
        accession_number="S26-1",
        mrn="MRN-1",
    )


def queued() -> int:
    """Return how many messages wait for the intake's workers."""
    return OrmQ.objects.filter(key="default").count()


def lose_lease(upload):
    """Let the time pass after which a silent worker counts as lost."""
    past = timezone.now() - timedelta(seconds=1)
    SlideUpload.objects.filter(pk=upload.pk, state="running").update(lease_expires_at=past)


def assert_taken_once(upload, data_dir):
    upload.refresh_from_db()
    assert upload.state == "finished"
    states = sorted(item.state for item in upload.items.all())
    assert states == ["accepted", "accepted", "refused"]
    assert SlideImage.objects.count() == 2
    assert Case.objects.count() == Patient.objects.count() == 1
    for image in SlideImage.objects.all():
        reader = open_slide(image_path(image))
        assert reader.width_l0 == image.width_l0
        reader.close()
    # What the dead worker left behind goes with the next sweep, and nothing else goes.
    sweep.sweep_store()
    ids = {str(pk) for pk in SlideImage.objects.values_list("pk", flat=True)}
    assert stored(data_dir, "slides") == ids
    # Pictures are made last; a missing one is made when somebody asks for it.
    assert stored(data_dir, "thumbnails") <= {f"{pk}.jpeg" for pk in ids}
    for folder in ("spool", "work", "unmatched"):
        assert stored(data_dir, folder) == set(), folder


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_killed_at_any_moment(upload, data_dir, monkeypatch, moment):
    module, name, when, call = MOMENTS[moment]
    worker = subprocess.run(
        [sys.executable, "-c", WORKER, str(upload.pk), module, name, when, str(call)],
        cwd=ROOT,
        env=worker_environment(data_dir),
        capture_output=True,
        text=True,
    )
    assert worker.returncode == -signal.SIGKILL, worker.stderr
    OrmQ.objects.all().delete()  # the message died with the worker
    lose_lease(upload)
    sweep.sweep_uploads()
    if moment != "finished, spool still there":
        assert queued() == 1
        processing.upload_process(upload.pk)
    monkeypatch.setattr(sweep, "ORPHAN_SECONDS", -1)
    assert_taken_once(upload, data_dir)
    # A doubled message finds nothing to do.
    processing.upload_process(upload.pk)
    assert SlideImage.objects.count() == 2


_NAMED = "Doe, Jane"
pytestmark = pytest.mark.django_db


def test_a_worker_that_lost_its_lease_writes_nothing(upload, data_dir, monkeypatch):
    """The examination takes too long, another worker takes over, the first one comes back."""
    original = processing._examine

    def slow(*args):
        delivery = original(*args)
        lose_lease(upload)
        sweep.sweep_uploads()
        monkeypatch.setattr(processing, "_examine", original)
        processing.upload_process(upload.pk)  # the second worker, from end to end
        return delivery

    monkeypatch.setattr(processing, "_examine", slow)
    processing.upload_process(upload.pk)
    upload.refresh_from_db()
    assert (upload.state, upload.attempts) == ("finished", 2)
    assert SlideImage.objects.count() == 2
    assert UploadItem.objects.count() == 3


def test_an_unexpected_error_is_tried_again_then_fails_and_can_be_retried(
    upload, technician, data_dir, monkeypatch, settings
):
    broken = {"vendor.tiff"}
    original = intake.intake_take

    def sometimes(**kwargs):
        if kwargs["found"].name in broken:
            raise RuntimeError(_NAMED)  # a traceback quotes this line
        return original(**kwargs)

    monkeypatch.setattr(intake, "intake_take", sometimes)
    OrmQ.objects.all().delete()
    for attempt in range(1, settings.MAX_ATTEMPTS + 1):
        processing.upload_process(upload.pk)
        upload.refresh_from_db()
        last = attempt == settings.MAX_ATTEMPTS
        assert upload.state == ("failed" if last else "queued")
        assert queued() == min(attempt, settings.MAX_ATTEMPTS - 1)
    # The good slide of the delivery is in; the reason tells no patient's name.
    assert SlideImage.objects.count() == 1
    assert upload.reason_code == "unexpected_error"
    assert "Doe" not in upload.reason
    broken.clear()
    assert stored(data_dir, "spool") == {str(upload.pk)}
    uploads.upload_retry(upload=upload, user=technician)
    processing.upload_process(upload.pk)
    upload.refresh_from_db()
    assert (upload.state, SlideImage.objects.count()) == ("finished", 2)


def test_the_log_names_no_patient(upload, monkeypatch, caplog):
    name = ", ".join(["Doe", "Jane"])  # a traceback quotes the line that raised

    def broken(**kwargs):
        raise RuntimeError(name)

    monkeypatch.setattr(intake, "intake_take", broken)
    processing.upload_process(upload.pk)
    assert "RuntimeError" in caplog.text
    assert name not in caplog.text


def test_no_room_while_processing_is_named_and_tried_again(upload, settings):
    settings.DISK_RESERVE_BYTES = 2**62
    for _attempt in range(settings.MAX_ATTEMPTS):
        processing.upload_process(upload.pk)
    upload.refresh_from_db()
    assert (upload.state, upload.reason_code) == ("failed", "no_disk_space")
    settings.DISK_RESERVE_BYTES = 0
    work.requeue(SlideUpload, upload.pk, from_states=["failed"])
    processing.upload_process(upload.pk)
    assert SlideImage.objects.count() == 2


def test_an_archive_that_the_disk_has_no_room_for_is_kept(
    department, technician, tmp_path, settings, data_dir, monkeypatch
):
    write_tiff_slide(tmp_path / "a.tiff")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.tiff", "a.tiff")
    upload = uploads.upload_local_folder(
        user=technician,
        department=department,
        folder=tmp_path / "a.zip",
        accession_number="1",
        mrn="1",
    )
    with monkeypatch.context() as short:
        short.setattr("cases.services.store.free_bytes", lambda: 1000)
        processing.upload_process(upload.pk)
    upload.refresh_from_db()
    assert (upload.state, upload.reason_code) == ("queued", "no_disk_space")
    assert not upload.items.exists()
    processing.upload_process(upload.pk)
    assert SlideImage.objects.count() == 1


def test_abandoned_uploads_are_cancelled_and_swept(department, technician, data_dir, monkeypatch):
    old = uploads.upload_create(user=technician, department=department, files=[("a", 5)])
    fresh = uploads.upload_create(user=technician, department=department, files=[("b", 5)])
    for upload in (old, fresh):
        (data_dir / "spool" / str(upload.pk)).mkdir(parents=True)
    weeks_ago = timezone.now() - timedelta(days=8)
    SlideUpload.objects.update(updated_at=weeks_ago)
    old.files.update(updated_at=weeks_ago)
    assert sweep.sweep_abandoned() == 1
    old.refresh_from_db()
    assert (old.state, old.reason_code) == ("cancelled", "abandoned")
    sweep.sweep_store()
    assert stored(data_dir, "spool") == {str(old.pk), str(fresh.pk)}  # not an hour old yet
    monkeypatch.setattr(sweep, "ORPHAN_SECONDS", -1)
    (data_dir / "spool" / "not-ours").mkdir()
    sweep.sweep_store()
    assert stored(data_dir, "spool") == {str(fresh.pk), "not-ours"}


def test_a_forgotten_message_is_sent_again(upload):
    OrmQ.objects.all().delete()
    sweep.sweep_uploads()
    assert not queued()  # it may still be on its way
    SlideUpload.objects.update(enqueued_at=timezone.now() - timedelta(minutes=10))
    sweep.sweep_uploads()
    sweep.sweep_uploads()
    assert queued() == 1


def test_a_cluster_that_is_away_is_not_sent_the_same_job_again(upload):
    before = queued()
    assert before
    SlideUpload.objects.update(enqueued_at=timezone.now() - timedelta(minutes=10))
    sweep.sweep_uploads()
    assert queued() == before
