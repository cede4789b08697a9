"""Takes the bytes of an upload's files, in pieces, so that a broken line costs one piece.

The offset in the database is the truth: it moves only after the bytes are on disk. A piece
that was cut off by a crash lies behind the offset and is written over.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cases import permissions
from cases.errors import Conflict, DomainError
from cases.models import SlideUpload, UploadFile
from cases.services import store

PIECE_BYTES = 1 << 20
Read = Callable[[int], bytes]


class OffsetMismatch(Conflict):
    """The sender goes on at another place than where the server stopped."""

    code = "offset_mismatch"
    message = _(
        "The server holds another number of bytes; ask for the offset and go on from there."
    )


class UploadClosed(Conflict):
    """The upload was finished or cancelled; trying again is of no use."""

    http_status = HTTPStatus.GONE
    code = "upload_closed"
    message = _("This upload is closed and takes no more data.")


class FileLocked(DomainError):
    """Another request is writing this file at this moment."""

    http_status = HTTPStatus.LOCKED
    code = "file_locked"
    message = _("Another request is sending this file. Try again in a moment.")


class TooManyBytes(DomainError):
    """More came than was announced, or than one piece may hold."""

    http_status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "too_many_bytes"
    message = _("More data came than was announced for this file.")


class SizeMismatch(DomainError):
    """A file sent at once had another size than announced."""

    code = "size_mismatch"
    message = _("The data has another size than was announced for this file.")


@contextmanager
def _locked(upload_file: UploadFile) -> Iterator[int]:
    """Open the spool file for this request alone; yields the file descriptor."""
    path = store.spool_file(upload_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileLocked from error
        yield descriptor
    finally:
        os.close(descriptor)  # also lets go of the lock


def _require_open(upload_file: UploadFile, user: Any) -> None:
    upload = upload_file.upload
    permissions.require(user, "upload", upload.department_id)
    if upload.state != SlideUpload.State.RECEIVING or not upload.is_sent_by_hand:
        raise UploadClosed


def _move_offset(upload_file: UploadFile, offset_bytes: int) -> None:
    """Record how much is safely on disk, if the upload still takes data."""
    with transaction.atomic():
        # Waits for whoever finishes the upload, or makes them see the new offset.
        SlideUpload.objects.select_for_update(no_key=True).get(pk=upload_file.upload_id)
        moved = UploadFile.objects.filter(
            pk=upload_file.pk, upload__state=SlideUpload.State.RECEIVING
        ).update(offset_bytes=offset_bytes, updated_at=timezone.now())
        if not moved:
            raise UploadClosed
    upload_file.offset_bytes = offset_bytes


def file_append(*, upload_file: UploadFile, user: Any, offset: int, read: Read) -> int:
    """Write one piece at `offset` and return the new offset.

    read(n) returns up to n bytes, none at the end. The piece is on disk (fsync) before the
    offset moves. Raises OffsetMismatch, FileLocked, TooManyBytes, UploadClosed,
    InsufficientStorage; the offset is then as before.
    """
    _require_open(upload_file, user)
    with _locked(upload_file) as descriptor:
        # Read again under the lock: another piece may just have been written.
        upload_file.refresh_from_db(fields=["offset_bytes"])
        _forget_lost_bytes(upload_file, descriptor)
        if offset != upload_file.offset_bytes:
            raise OffsetMismatch
        end = _write(descriptor, upload_file, read)
        if end != offset:
            _move_offset(upload_file, end)
        return end


def file_replace(*, upload_file: UploadFile, user: Any, read: Read) -> int:
    """Write a whole file at once, from its beginning; returns its size."""
    _require_open(upload_file, user)
    with _locked(upload_file) as descriptor:
        # Before a byte is touched, whatever this row said when it was read: once the upload
        # is finished, its file may have a second name in the archive.
        _move_offset(upload_file, 0)
        end = _write(descriptor, upload_file, read)
        if end != upload_file.size_bytes:
            raise SizeMismatch
        _move_offset(upload_file, end)
        return end


def _forget_lost_bytes(upload_file: UploadFile, descriptor: int) -> None:
    """Fall back to what is really there, should the spool have lost bytes."""
    there = os.fstat(descriptor).st_size
    if there < upload_file.offset_bytes:
        _move_offset(upload_file, there)


def _write(descriptor: int, upload_file: UploadFile, read: Read) -> int:
    """Write what `read` gives behind the offset, flush it, return where it ends."""
    start = end = upload_file.offset_bytes
    store.require_free_space(0)
    try:
        with store.naming_a_full_disk():
            os.ftruncate(descriptor, start)
            os.lseek(descriptor, start, os.SEEK_SET)
            while piece := read(PIECE_BYTES):
                end += len(piece)
                if end > upload_file.size_bytes or end - start > settings.UPLOAD_CHUNK_MAX_BYTES:
                    raise TooManyBytes
                store.require_free_space(len(piece))
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
    except BaseException:
        os.ftruncate(descriptor, start)
        raise
    return end


def file_current_offset(upload_file: UploadFile) -> int:
    """Return how many bytes of the file are safely here."""
    path = store.spool_file(upload_file)
    there = path.stat().st_size if path.exists() else 0
    return min(upload_file.offset_bytes, there)
