"""Bytes in pieces: the offset moves only after the bytes are on disk, one writer at a time."""

import errno
import fcntl
import io
import os

import pytest
from django.core.exceptions import PermissionDenied

from cases.errors import InsufficientStorage
from cases.models import UploadFile
from cases.permissions import Role
from cases.services import receive, store, uploads
from tests.factories import make_member

pytestmark = pytest.mark.django_db


@pytest.fixture
def upload_file(department, technician):
    upload = uploads.upload_create(user=technician, department=department, files=[("a.svs", 10)])
    return upload.files.get()


def append(upload_file, user, offset, data):
    return receive.file_append(
        upload_file=upload_file, user=user, offset=offset, read=io.BytesIO(data).read
    )


def content(upload_file) -> bytes:
    return store.spool_file(upload_file).read_bytes()


def test_pieces_make_the_file(upload_file, technician):
    assert append(upload_file, technician, 0, b"01234") == 5
    assert append(upload_file, technician, 5, b"56789") == 10
    assert content(upload_file) == b"0123456789"
    upload_file.refresh_from_db()
    assert upload_file.is_complete


@pytest.mark.parametrize("offset", [0, 4, 6, 10])
def test_a_piece_at_another_place_is_a_conflict(upload_file, technician, offset):
    append(upload_file, technician, 0, b"01234")
    with pytest.raises(receive.OffsetMismatch):
        append(upload_file, technician, offset, b"x")
    assert content(upload_file) == b"01234"


def test_more_than_announced_is_refused_and_changes_nothing(upload_file, technician):
    append(upload_file, technician, 0, b"01234")
    with pytest.raises(receive.TooManyBytes):
        append(upload_file, technician, 5, b"567890")
    assert content(upload_file) == b"01234"
    assert receive.file_current_offset(upload_file) == 5


def test_a_piece_over_the_limit_is_refused(upload_file, technician, settings):
    settings.UPLOAD_CHUNK_MAX_BYTES = 4
    with pytest.raises(receive.TooManyBytes):
        append(upload_file, technician, 0, b"01234")


def test_what_a_crash_left_behind_the_offset_is_written_over(upload_file, technician):
    append(upload_file, technician, 0, b"01234")
    with store.spool_file(upload_file).open("ab") as file:
        file.write(b"garbage")
    assert receive.file_current_offset(upload_file) == 5
    append(upload_file, technician, 5, b"56789")
    assert content(upload_file) == b"0123456789"


def test_bytes_that_the_disk_lost_are_asked_for_again(upload_file, technician):
    append(upload_file, technician, 0, b"01234")
    os.truncate(store.spool_file(upload_file), 2)
    assert receive.file_current_offset(upload_file) == 2
    with pytest.raises(receive.OffsetMismatch):
        append(upload_file, technician, 5, b"56789")
    append(upload_file, technician, 2, b"23456789")
    assert content(upload_file) == b"0123456789"


def test_two_writers_cannot_mix(upload_file, technician):
    append(upload_file, technician, 0, b"01234")
    with store.spool_file(upload_file).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(receive.FileLocked):
            append(upload_file, technician, 5, b"xxxxx")
    assert content(upload_file) == b"01234"


def test_a_full_disk_is_named_and_the_offset_stays(upload_file, technician, settings, monkeypatch):
    append(upload_file, technician, 0, b"01234")

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(receive.os, "write", full)
    with pytest.raises(InsufficientStorage):
        append(upload_file, technician, 5, b"56789")
    monkeypatch.undo()
    settings.DISK_RESERVE_BYTES = 2**62
    with pytest.raises(InsufficientStorage):
        append(upload_file, technician, 5, b"56789")
    upload_file.refresh_from_db()
    assert upload_file.offset_bytes == 5
    assert content(upload_file) == b"01234"


def test_a_broken_read_keeps_the_offset(upload_file, technician):
    pieces = iter([b"012"])

    def read(size):
        try:
            return next(pieces)
        except StopIteration:
            raise ConnectionResetError from None

    with pytest.raises(ConnectionResetError):
        receive.file_append(upload_file=upload_file, user=technician, offset=0, read=read)
    upload_file.refresh_from_db()
    assert upload_file.offset_bytes == 0
    assert content(upload_file) == b""


def test_a_whole_file_at_once_must_have_its_size(upload_file, technician):
    append(upload_file, technician, 0, b"xxx")
    with pytest.raises(receive.SizeMismatch):
        receive.file_replace(
            upload_file=upload_file, user=technician, read=io.BytesIO(b"0123").read
        )
    receive.file_replace(
        upload_file=upload_file, user=technician, read=io.BytesIO(b"0123456789").read
    )
    upload_file.refresh_from_db()
    assert upload_file.is_complete
    assert content(upload_file) == b"0123456789"


def test_a_closed_upload_takes_nothing(upload_file, technician):
    append(upload_file, technician, 0, b"0123456789")
    uploads.upload_finish(upload=upload_file.upload, user=technician)
    upload_file.upload.refresh_from_db()
    with pytest.raises(receive.UploadClosed):
        append(upload_file, technician, 10, b"")


def test_a_late_whole_file_cannot_touch_a_finished_upload(upload_file, technician):
    late = UploadFile.objects.select_related("upload").get(pk=upload_file.pk)
    append(upload_file, technician, 0, b"0123456789")
    uploads.upload_finish(upload=upload_file.upload, user=technician)
    with pytest.raises(receive.UploadClosed):
        receive.file_replace(upload_file=late, user=technician, read=io.BytesIO(b"xxxxxxxxxx").read)
    assert content(upload_file) == b"0123456789"


def test_only_who_may_upload_can_send(upload_file, department):
    researcher = make_member(department, Role.RESEARCHER)
    with pytest.raises(PermissionDenied):
        append(upload_file, researcher, 0, b"0")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("slide.svs", "slide.svs"),
        ("../../etc/passwd", "etc/passwd"),
        ("/abs/olute.svs", "abs/olute.svs"),
        ("C:\\scans\\a.mrxs", "C_/scans/a.mrxs"),
        ("a/./b/../c.svs", "a/b/c.svs"),
        ("..", "unnamed"),
        ("a\x00b\n.svs", "a_b_.svs"),
        ("Gewebe Ä1 (2).svs", "Gewebe Ä1 (2).svs"),
        ("$(rm -rf ~);`x`.svs", "_(rm -rf _)__x_.svs"),
    ],
)
def test_names_are_made_safe_and_keep_their_structure(name, expected):
    assert store.safe_relative_name(name, set()) == expected


def test_long_and_equal_names_stay_apart():
    taken: set[str] = set()
    long = store.safe_relative_name("x" * 390 + ".svs", taken)
    assert len(long.encode()) <= 200
    assert long.endswith(".svs")
    assert store.safe_relative_name("A.svs", taken) == "A.svs"
    assert store.safe_relative_name("a.svs", taken) == "again-2/a.svs"
    assert store.safe_relative_name("a.svs", taken) == "again-3/a.svs"


@pytest.mark.parametrize("fill", [store.place, store.add])
def test_a_slides_bytes_are_flushed_before_it_has_its_place(tmp_path, monkeypatch, fill):
    source, target = tmp_path / "unpacked", tmp_path / "slides" / "one"
    source.mkdir()
    (source / "a.dcm").write_bytes(b"a")
    (source / "b.dcm").write_bytes(b"b")
    if fill is store.add:
        target.mkdir(parents=True)
    flushed = set()
    real = os.fsync

    def fsync(handle):
        flushed.add(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(store.os, "fsync", fsync)
    fill(source, target, {"a.dcm": "1.dcm", "b.dcm": "2.dcm"})
    assert {file.stat().st_ino for file in target.iterdir()} <= flushed
