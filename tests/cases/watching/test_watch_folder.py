"""A watched folder: what is complete goes in, and then to done or rejected with its reason."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from cases.models import SlideImage, SlideUpload
from cases.services import processing
from cases.watching.candidates import Stability, find_deliveries, is_temporary
from cases.watching.watcher import AlreadyWatched, Watch, Watcher
from cases.wsi.values import sha256_of_file
from tests.cases.intake.conftest import (  # noqa: F401
    data_dir,
    department,
    stored,
    technician,
)
from tests.cases.intake.test_crash import ROOT, worker_environment
from tests.synthetic_slide import write_dicom_slide, write_tiff_slide

pytestmark = pytest.mark.django_db


@pytest.fixture
def share(tmp_path) -> Path:
    folder = tmp_path / "share"
    folder.mkdir()
    return folder


@pytest.fixture
def watch(department, share):  # noqa: F811
    """Return a function that makes a watcher, as a new process would."""

    def _watch(**options) -> Watcher:
        return Watcher(Watch(share, department, **({"quiet_seconds": 0} | options)))

    yield _watch
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


def process() -> None:
    for upload in SlideUpload.objects.filter(state="queued"):
        processing.upload_process(upload.pk)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def at_rest(share: Path) -> set[str]:
    """Return what lies in the folder itself."""
    return {path.name for path in share.iterdir()} - {"done", "rejected", ".pathsearch"}


def test_slides_go_in_and_then_to_done(watch, share, department, data_dir):  # noqa: F811
    write_dicom_slide(share / "series", label=True)
    write_tiff_slide(share / "scan.tiff", seed=5)
    for number, file in enumerate(sorted(write_dicom_slide(share / "x", seed=6).iterdir())):
        file.rename(share / f"loose-{number}.dcm")
    (share / "x").rmdir()
    watcher = watch()
    watcher.look()
    assert len(at_rest(share)) == 5  # they stay until their upload is finished
    assert {upload.source for upload in SlideUpload.objects.all()} == {"folder"}
    assert SlideUpload.objects.count() == 3
    process()
    watcher.look()
    assert at_rest(share) == set()
    assert {path.split("/")[0] for path in names(share / "done")} == {
        "series", "scan.tiff", "loose-0.dcm", "loose-1.dcm", "loose-2.dcm",
    }  # fmt: skip
    assert SlideImage.objects.filter(department=department).count() == 2
    # The TIFF names no patient: it waits to be matched, and its bytes are kept.
    assert stored(data_dir, "unmatched")
    assert names(share / "rejected") == set()


def test_what_is_refused_goes_to_rejected_with_the_reason_beside_it(watch, share):
    (share / "notes.txt").write_text("hello")
    write_dicom_slide(share / "mixed" / "good")
    (share / "mixed" / "broken.svs").write_bytes(b"II*\0" + b"\0" * 60)
    watcher = watch()
    watcher.look()
    process()
    watcher.look()
    assert at_rest(share) == set()
    assert "not_a_slide" in (share / "rejected" / "notes.txt.reason.txt").read_text()
    assert (share / "rejected" / "notes.txt").read_text() == "hello"
    # Of a delivery that holds good and bad, only the bad part is rejected.
    assert (share / "rejected" / "mixed" / "broken.svs").exists()
    reason = (share / "rejected" / "mixed" / "broken.svs.reason.txt").read_text()
    assert "corrupt" in reason or "not_a_slide" in reason
    assert (share / "done" / "mixed" / "good" / "level-0.dcm").exists()
    assert SlideImage.objects.count() == 1


def test_it_waits_until_nothing_changes_any_more(share, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("cases.watching.candidates.time.monotonic", lambda: now[0])
    stability = Stability(30)

    def ready() -> list[str]:
        found = stability.complete(find_deliveries(share), needs_marker=False)
        return [delivery.name for delivery in found]

    (share / "a.svs").write_bytes(b"12")
    (share / "f").mkdir()
    assert ready() == []
    now[0] += 29
    (share / "a.svs").write_bytes(b"123")
    assert ready() == []
    now[0] += 29
    (share / "f" / "1.dcm").write_bytes(b"1")
    assert ready() == []
    now[0] += 2
    assert ready() == ["a.svs"]
    (share / "f" / "2.dcm.tmp").write_bytes(b"")
    now[0] += 60
    assert ready() == ["a.svs"]
    (share / "f" / "2.dcm.tmp").rename(share / "f" / "2.dcm")
    assert ready() == ["a.svs"]
    now[0] += 31
    assert ready() == ["a.svs", "f"]
    os.utime(share / "a.svs", ns=(1, 1))
    assert ready() == ["f"]


def test_names_that_programs_give_to_unfinished_files():
    assert all(map(is_temporary, [".a.svs", "~$a.svs", "a.svs.part", "a.TMP", "a.svs~"]))
    assert not any(map(is_temporary, ["a.svs", "part.svs", "a.partial.svs"]))


def test_mirax_is_its_file_and_its_folder(watch, share):
    (share / "m").mkdir()
    (share / "m" / "Slidedat.ini").write_text("[GENERAL]\n")
    assert [d.name for d in find_deliveries(share)] == ["m"]
    (share / "m.mrxs").write_bytes(b"")
    (delivery,) = find_deliveries(share)
    assert (delivery.name, delivery.entries) == ("m.mrxs", ("m", "m.mrxs"))
    watcher = watch()
    watcher.look()
    process()
    watcher.look()
    assert names(share / "rejected") == {"m.mrxs", "m.mrxs.reason.txt", "m/Slidedat.ini"}


def test_a_marker_says_that_it_is_complete_and_a_checksum_is_checked(watch, share):
    write_dicom_slide(share / "a")
    file = write_tiff_slide(share / "b.tiff", seed=2)
    (share / "b.tiff.sha256").write_text("0" * 64 + "  b.tiff\n")
    watcher = watch(quiet_seconds=3600, needs_marker=True)
    watcher.look()
    assert not SlideUpload.objects.exists()
    (share / "a.done").touch()
    (share / "b.tiff.done").touch()
    watcher.look()
    process()
    watcher.look()
    assert {"a.done"} < names(share / "done")
    assert "checksum_mismatch" in (share / "rejected" / "b.tiff.reason.txt").read_text()
    # With the right sum it is taken.
    (share / "rejected" / "b.tiff").rename(file)
    (share / "b.tiff.sha256").write_text(sha256_of_file(file))
    (share / "b.tiff.done").touch()
    watcher.look()
    process()
    watcher.look()
    assert "b.tiff.sha256" in {name.split("-", 1)[-1] for name in names(share / "done")}


def test_links_are_refused_and_nothing_outside_is_read(watch, share, tmp_path):
    secret = tmp_path / "secret.svs"
    secret.write_bytes(b"secret")
    (share / "link.svs").symlink_to(secret)
    (share / "folder").mkdir()
    (share / "folder" / "inner.dcm").symlink_to(secret)
    (share / "loop").mkdir()
    (share / "loop" / "self").symlink_to(share)
    os.mkfifo(share / "pipe.svs")
    watch().look()
    assert not SlideUpload.objects.exists()
    assert at_rest(share) == set()
    for name in ("link.svs", "folder", "loop", "pipe.svs"):
        reason = (share / "rejected" / f"{name}.reason.txt").read_text()
        assert "link" in reason or "plain file" in reason
    assert secret.read_bytes() == b"secret"


def test_names_of_old_shares_and_names_that_look_alike(watch, share):
    old = os.fsdecode(b"caf\xe9")
    (share / f"{old}-link.svs").symlink_to(share / "elsewhere")
    write_dicom_slide(share / "one", seed=1, levels=1)
    (share / "one" / "level-0.dcm").rename(share / f"{old}  1.dcm")
    write_dicom_slide(share / "two", seed=2, levels=1)
    (share / "two" / "level-0.dcm").rename(share / f"{old} 1.dcm")
    for folder in ("one", "two"):
        shutil.rmtree(share / folder)
    watcher = watch()
    watcher.look()
    assert len(set(SlideUpload.objects.get().files.values_list("name", flat=True))) == 2
    process()
    watcher.look()
    assert SlideImage.objects.count() == 2
    assert at_rest(share) == set()
    assert "is a link" in (share / "rejected" / f"{old}-link.svs.reason.txt").read_text()


def test_bytes_that_were_handed_over_are_not_taken_back(watch, share, data_dir, monkeypatch):  # noqa: F811
    write_dicom_slide(share / "a")
    hand_over = Watcher._hand_over

    def interrupted(self, upload, key):
        hand_over(self, upload, key)
        raise KeyboardInterrupt

    monkeypatch.setattr(Watcher, "_hand_over", interrupted)
    with pytest.raises(KeyboardInterrupt):
        watch().look()
    upload = SlideUpload.objects.get()
    assert len(stored(data_dir / "spool", str(upload.pk))) == 3
    process()
    assert SlideImage.objects.get().level_count == 3


def test_the_same_content_again_makes_no_second_upload(watch, share):
    write_dicom_slide(share / "a")
    watcher = watch()
    watcher.look()
    process()
    watcher.look()
    shutil.copytree(share / "done" / "a", share / "a")
    watcher.look()
    watcher.look()
    assert SlideUpload.objects.exclude(state="cancelled").count() == 1
    assert SlideImage.objects.count() == 1
    # Nothing in done is written over.
    assert {path.name for path in (share / "done").iterdir()} == {"a", "2-a"}


def test_one_folder_is_watched_by_one_process(watch, department, share, monkeypatch):  # noqa: F811
    watch()
    other = connection.copy()
    try:
        monkeypatch.setattr("cases.watching.watcher.connection", other)
        monkeypatch.setattr("cases.watching.watcher.LOCK_SECONDS", 0)
        with pytest.raises(AlreadyWatched):
            Watcher(Watch(share, department))
    finally:
        other.close()


def test_the_command_and_its_configuration(share, department, tmp_path, capsys):  # noqa: F811
    write_dicom_slide(share / "a")
    more = tmp_path / "more"
    more.mkdir()
    configuration = tmp_path / "folders.json"
    configuration.write_text(
        f'[{{"path": "{share}", "department": "lung", "quiet_seconds": 0}},'
        f' {{"path": "{more}", "department": "lung"}}]'
    )
    call_command("watch_folder", configuration=configuration, once=True)
    assert "watching 2 folders" in capsys.readouterr().out
    assert SlideUpload.objects.get().state == "queued"
    with pytest.raises(CommandError, match="no department"):
        call_command("watch_folder", str(share), department="nowhere", once=True)
    with pytest.raises(CommandError):
        call_command("watch_folder", str(share / "missing"), department="lung", once=True)


KILLED = """
import os, signal, sys
import django
django.setup()
from cases.watching import moves, watcher
from cases.watching.watcher import Watch, Watcher
from cases.models import Department
from cases.services import processing
from cases.models import SlideUpload
from pathlib import Path
module, name, when, call = sys.argv[2:6]
place = {"watcher": watcher, "moves": moves}[module]
original, calls = getattr(place, name), 0
def deadly(*args, **kwargs):
    global calls
    calls += 1
    if when == "before" and calls == int(call):
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **kwargs)
    if when == "after" and calls == int(call):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
w = Watcher(Watch(Path(sys.argv[1]), Department.objects.get(), quiet_seconds=0))
setattr(place, name, deadly)
w.look()
for upload in SlideUpload.objects.filter(state="queued"):
    processing.upload_process(upload.pk)
w.look()
"""

MOMENTS = {
    "in the middle of copying": ("watcher", "_copy_file", "after", "2"),
    "copied, not handed over": ("watcher", "_same_content", "before", "1"),
    "handed over": ("watcher", "upload_queue", "after", "1"),
    "before the move is written down": ("moves", "fsync", "before", "1"),
    "in the middle of the move": ("moves", "_rename", "after", "1"),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment(department, share, data_dir, moment):  # noqa: F811
    write_dicom_slide(share / "a", levels=2)
    (share / "a.done").touch()
    worker = subprocess.run(
        [sys.executable, "-c", KILLED, str(share), *MOMENTS[moment]],
        cwd=ROOT,
        env=worker_environment(data_dir),
        capture_output=True,
        text=True,
    )
    assert worker.returncode == -signal.SIGKILL, worker.stderr
    watcher = Watcher(Watch(share, department, quiet_seconds=0))
    try:
        watcher.look()
        process()
        watcher.look()
        watcher.look()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock_all()")
    assert SlideImage.objects.count() == 1
    assert SlideUpload.objects.exclude(state="cancelled").count() == 1
    assert at_rest(share) == set()
    assert names(share / "done") == {"a/level-0.dcm", "a/level-1.dcm", "a.done"}
    assert stored(data_dir, "spool") == set()
