"""Watches one folder: complete deliveries become uploads, their outcome decides where they go.

Killed at any moment it loses and doubles nothing: a delivery stays where it is until its upload
is finished, and the hash of its content finds that upload again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cases.errors import Conflict, DomainError
from cases.models import Department, SlideUpload, UploadFile, UploadItem
from cases.services import store
from cases.services.audit import Channel, origin_set
from cases.services.locks import department_lock
from cases.services.uploads import upload_create_unattended, upload_queue
from cases.watching.candidates import CHECKSUM, LOOSE_DICOM, Delivery, Stability, find_deliveries
from cases.watching.moves import Mover
from cases.wsi.values import clean_text

log = logging.getLogger(__name__)

State = SlideUpload.State
# The session of a killed process takes a moment to end.
LOCK_SECONDS = 15.0
UNFINISHED = [State.QUEUED, State.RUNNING]
# A delivery that was refused and is put here again later is tried again.
SAME_MOMENT = timedelta(minutes=10)


class AlreadyWatched(Conflict):
    """Another process watches the folder."""

    code = "already_watched"
    message = _("Another process watches this folder.")


class Changed(Exception):
    """A file changed while it was read: the delivery was not complete."""


@dataclass(frozen=True)
class Watch:
    """What to watch and for whom."""

    path: Path
    department: Department
    quiet_seconds: float = 60.0
    needs_marker: bool = False


class Watcher:
    """One watched folder. Call `look` every few seconds."""

    def __init__(self, watch: Watch) -> None:
        if watch.path.is_symlink() or not watch.path.is_dir():
            raise NotADirectoryError(f"{watch.path} is no folder")
        self._watch = watch
        self._folder = watch.path.resolve()
        self._mark = hashlib.sha256(str(self._folder).encode()).hexdigest()[:50]
        self._stability = Stability(watch.quiet_seconds)
        self._taken: dict[str, tuple[Delivery, Any]] = {}
        self._lock()
        self._mover = Mover(self._folder)
        self._mover.finish_interrupted()
        self._cancel_interrupted()

    def _lock(self) -> None:
        """Keep a second process out for as long as this one's database session lives."""
        number = int.from_bytes(bytes.fromhex(self._mark[:16]), "big", signed=True)
        deadline = time.monotonic() + LOCK_SECONDS
        with connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
                if cursor.fetchone()[0]:
                    return
                if time.monotonic() > deadline:
                    raise AlreadyWatched
                time.sleep(0.2)

    def _cancel_interrupted(self) -> None:
        """Give up uploads that a killed predecessor had not copied to their end."""
        for upload in SlideUpload.objects.filter(
            source=SlideUpload.Source.FOLDER,
            state=State.RECEIVING,
            delivery_key=f"receiving:{self._mark}",
        ):
            _cancel(upload)

    def look(self) -> None:
        """Take what is complete, and move away what is finished."""
        origin_set(channel=Channel.FOLDER)
        deliveries = find_deliveries(self._folder)
        for delivery in self._stability.complete(deliveries, needs_marker=self._watch.needs_marker):
            known = self._taken.get(delivery.name)
            if known is not None and known[0].files == delivery.files:
                self._settle(delivery, known[1])
            elif delivery.problem:
                self._reject(delivery, delivery.problem)
            else:
                self._take(delivery)
        present = {delivery.name for delivery in deliveries}
        self._taken = {name: taken for name, taken in self._taken.items() if name in present}

    def _take(self, delivery: Delivery) -> None:
        try:
            upload = self._upload(delivery)
        except (Changed, FileNotFoundError):
            log.info("a delivery changed while it was read; it is looked at again")
            return
        except DomainError as error:
            if error.code == store.InsufficientStorage.code:
                log.warning("no free disk space for a delivery; it waits")
                return
            self._reject(delivery, f"{error.message} ({error.code})")
            return
        self._taken[delivery.name] = (delivery, upload.pk)

    def _upload(self, delivery: Delivery) -> SlideUpload:
        """Copy the delivery into the spool of a new upload, or find the one that has it."""
        checksums = self._checksums(delivery)
        names = _shown_names(delivery)
        upload = upload_create_unattended(
            department=self._watch.department,
            files=[(names[file], size) for file, (size, _time) in delivery.files.items()],
            source=SlideUpload.Source.FOLDER,
            delivery_key=f"receiving:{self._mark}",
        )
        try:
            hashes = self._copy(delivery, upload, names, checksums)
            return self._hand_over(upload, delivery_key(names, hashes, checksums))
        except BaseException:
            _cancel(upload)
            raise

    def _copy(
        self,
        delivery: Delivery,
        upload: SlideUpload,
        names: Mapping[str, str],
        checksums: Mapping[str, str],
    ) -> dict[str, str]:
        """Copy every file; returns their sha256 by path."""
        rows = {row.name: row for row in upload.files.all()}
        store.spool_folder(upload.pk).mkdir(parents=True, exist_ok=True)
        hashes = {}
        for file, stamp in delivery.files.items():
            row = rows[names[file]]
            hashes[file] = _copy_file(self._folder / file, store.spool_file(row), stamp)
            UploadFile.objects.filter(pk=row.pk).update(
                offset_bytes=stamp[0], sha256=checksums.get(file, ""), updated_at=timezone.now()
            )
        store.fsync(store.spool_folder(upload.pk))
        return hashes

    def _hand_over(self, upload: SlideUpload, key: str) -> SlideUpload:
        """Queue the upload under its key, unless the same content was taken before."""
        with transaction.atomic():
            department_lock(upload.department_id)
            before = _same_content(upload, key)
            if before is None:
                SlideUpload.objects.filter(pk=upload.pk).update(delivery_key=key)
                upload_queue(upload, [State.RECEIVING])
                return upload
        _cancel(upload)
        return before

    def _checksums(self, delivery: Delivery) -> dict[str, str]:
        """Return the SHA-256 that files beside the delivery announce."""
        found = {}
        for marker in delivery.markers:
            if marker.casefold().endswith(CHECKSUM):
                with (self._folder / marker).open(encoding="ascii", errors="replace") as text:
                    word = clean_text(text.read(200), 200).split(" ")[0].lower()
                if len(word) == 64:
                    found[marker[: -len(CHECKSUM)]] = word
        return found

    def _settle(self, delivery: Delivery, upload_pk: Any) -> None:
        """Move the delivery when its upload is at its end."""
        upload = SlideUpload.objects.filter(pk=upload_pk).first()
        if upload is None:
            del self._taken[delivery.name]
            return
        if upload.state in {State.QUEUED, State.RUNNING, State.RECEIVING}:
            return
        if upload.state in {State.FAILED, State.CANCELLED}:
            reason = upload.reason or "The upload was given up."
            self._reject(delivery, f"{reason} ({upload.reason_code or upload.state})")
            return
        refused = upload.items.filter(state=UploadItem.State.REFUSED)
        reasons = {
            _path_of(item, delivery): f"{item.name}: {item.reason} ({item.reason_code})"
            for item in refused
        }
        taken = upload.items.exclude(state=UploadItem.State.REFUSED).exists()
        if not taken:
            self._reject(delivery, "\n".join(reasons.values()))
            return
        self._move(delivery, reasons, is_rejected=False)

    def _reject(self, delivery: Delivery, reason: str) -> None:
        log.info("a delivery is rejected")
        self._move(delivery, {delivery.name: reason}, is_rejected=True)

    def _move(self, delivery: Delivery, reasons: dict[str, str], *, is_rejected: bool) -> None:
        self._mover.move(
            delivery.name,
            (*delivery.entries, *delivery.markers),
            reasons=reasons,
            is_rejected=is_rejected,
        )
        self._taken.pop(delivery.name, None)


def delivery_key(
    names: Mapping[str, str], hashes: Mapping[str, str], checksums: Mapping[str, str]
) -> str:
    """Return the hash of a delivery: names, bytes, and what the sender said of the bytes."""
    lines = sorted(f"{hashes[file]} {checksums.get(file, '')} {names[file]}" for file in hashes)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _shown_names(delivery: Delivery) -> dict[str, str]:
    """Return the name of each file in its upload, no two the same; again it is the same one."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for number, file in enumerate(delivery.files):
        # Names of old shares may be no UTF-8.
        name = clean_text(file.encode(errors="replace").decode(), 400) or f"file-{number}"
        while name in taken:
            name = clean_text(f"{number}-{name}", 400)
        taken.add(name)
        names[file] = name
    return names


def _same_content(upload: SlideUpload, key: str) -> SlideUpload | None:
    """Return an earlier upload of this content whose outcome still counts."""
    same = SlideUpload.objects.filter(department_id=upload.department_id, delivery_key=key)
    for before in same.order_by("-created_at"):
        if before.state in UNFINISHED:
            return before
        if before.state == State.FINISHED:
            is_recent = before.finished_at and before.finished_at > timezone.now() - SAME_MOMENT
            if is_recent or not before.items.filter(state=UploadItem.State.REFUSED).exists():
                return before
    return None


def _copy_file(source: Path, target: Path, stamp: tuple[int, int]) -> str:
    """Copy a plain file, flushed; returns its sha256. Raises Changed when it is another by now."""
    digest = hashlib.sha256()
    # Never through a link that took the file's place meanwhile.
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with (
        store.naming_a_full_disk(),
        os.fdopen(handle, "rb") as reader,
        target.open("wb") as writer,
    ):
        while piece := reader.read(store.COPY_BYTES):
            store.require_free_space(len(piece))
            digest.update(piece)
            writer.write(piece)
        writer.flush()
        os.fsync(writer.fileno())
        now = os.fstat(reader.fileno())
    if (now.st_size, now.st_mtime_ns) != stamp:
        raise Changed
    return digest.hexdigest()


def _cancel(upload: SlideUpload) -> None:
    """Give up an upload that was not handed over; its bytes go."""
    # Interrupted just after it was handed over, its bytes are the intake's.
    if SlideUpload.objects.filter(pk=upload.pk, state=State.RECEIVING).update(
        state=State.CANCELLED, finished_at=timezone.now(), delivery_key=""
    ):
        store.remove(store.spool_folder(upload.pk))


def _path_of(item: UploadItem, delivery: Delivery) -> str:
    """Return the part of the delivery that the item speaks of: a file, a folder, or the whole."""
    name = item.name
    if name in delivery.files or any(file.startswith(f"{name}/") for file in delivery.files):
        return name
    return delivery.name if delivery.name == LOOSE_DICOM else f"{delivery.name}-{item.pk}"
