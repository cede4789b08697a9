"""Takes DICOM instances that a sender stores: first all bytes, then one transaction.

The files lie in the spool under the id of an upload that does not exist yet. What a crash
leaves there has no row, so that the sweep removes it and the sender, who got no answer, sends
again. After the transaction the upload goes the road of all uploads.
"""

import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from cases import permissions
from cases.models import Department, SlideInstance, SlideUpload, UploadFile
from cases.services import matching, store, uploads
from cases.services.audit import Action, access_event_record
from cases.services.locks import department_lock
from cases.services.queue import enqueue
from cases.wsi.instance_facts import InstanceFacts
from cases.wsi.warm_sandbox import CheckServer, InstanceChecker

ROOM_EVERY_BYTES = 256 * 2**20
TOUCH_SECONDS = 60.0
FLUSHERS = 4
CHECK_SECONDS = 30
CHECK_MEMORY_BYTES = 2**30
_ON_THE_WAY = (
    SlideUpload.State.RECEIVING,
    SlideUpload.State.QUEUED,
    SlideUpload.State.RUNNING,
)

_check_server = CheckServer()


@dataclass(frozen=True)
class Received:
    """One instance in the spool, with what its header says; `facts.code` where it is refused."""

    file_id: UUID
    sha256: str
    size_bytes: int
    facts: InstanceFacts = field(default_factory=InstanceFacts)


class Reception:
    """The instances of one request on their way to the disk.

    with Reception() as reception:
        for part in parts:
            reception.receive(part)
        received = reception.received()  # flushed, and checked in a sandbox
        instances_store(..., reception=reception, received=received)

    Leaving it without `instances_store` removes everything.
    """

    def __init__(self) -> None:
        self.upload_id = uuid.uuid4()
        self._folder = store.spool_folder(self.upload_id)
        self._files: list[Received] = []
        self._size_bytes = 0
        self._asked_at = 0
        self._touched_at = time.monotonic()
        self._kept = False
        self._checker = InstanceChecker(
            _check_server,
            memory_bytes=min(settings.INSPECT_MEMORY_BYTES, CHECK_MEMORY_BYTES),
            seconds=min(settings.INSPECT_TIMEOUT_SECONDS, CHECK_SECONDS),
        )

    def __enter__(self) -> "Reception":
        store.require_free_space(0)
        self._folder.mkdir(parents=True)
        return self

    def __exit__(self, *_error: object) -> None:
        self._checker.__exit__(None, None, None)
        if not self._kept:
            store.remove(self._folder)

    def receive(self, pieces: Iterable[bytes]) -> None:
        """Write one instance to the spool and have its header checked meanwhile."""
        file_id = uuid.uuid4()
        digest, size = hashlib.sha256(), 0
        path = self._folder / str(file_id)
        with store.naming_a_full_disk(), path.open("wb", buffering=0) as file:
            for piece in pieces:
                self._require_room(len(piece))
                self._stay_young()
                digest.update(piece)
                size += file.write(piece)
        self._files.append(Received(file_id, digest.hexdigest(), size))
        self._checker.put(path)

    @property
    def count(self) -> int:
        """Return how many instances have come."""
        return len(self._files)

    def received(self) -> list[Received]:
        """Return the instances, after each is safe on the disk and its header was read."""
        paths = [self._folder / str(file.file_id) for file in self._files]
        with ThreadPoolExecutor(FLUSHERS, thread_name_prefix="flush") as pool:
            flushed = pool.map(store.fsync, paths)
            facts = self._checker.facts()
            with store.naming_a_full_disk():
                list(flushed)
        store.fsync(self._folder)
        store.fsync(self._folder.parent)
        return [replace(f, facts=said) for f, said in zip(self._files, facts, strict=True)]

    def keep(self) -> None:
        """Leave the folder: rows point to it now."""
        self._kept = True

    def drop(self, received: Received) -> None:
        """Remove an instance that is not to be stored."""
        store.remove(self._folder / str(received.file_id))

    def _stay_young(self) -> None:
        """Keep the sweep away from the folder, which no row names yet, while more comes."""
        now = time.monotonic()
        if now - self._touched_at >= TOUCH_SECONDS:
            os.utime(self._folder)
            self._touched_at = now

    def _require_room(self, new_bytes: int) -> None:
        """Look at the disk from time to time: asking for each piece would cost more than it."""
        self._size_bytes += new_bytes
        if self._size_bytes >= self._asked_at:
            store.require_free_space(ROOM_EVERY_BYTES)
            self._asked_at = self._size_bytes + ROOM_EVERY_BYTES


def instances_store(
    *,
    user: Any,
    department: Department,
    reception: Reception,
    received: Sequence[Received],
    source: str,
    study_instance_uid: str = "",
) -> list[Received]:
    """Store what can be stored and queue it; returns each instance with its refusal, if any.

    study_instance_uid: the only study that may be stored; empty: any. What is here already,
    byte for byte, counts as stored and is not kept twice.
    """
    permissions.require(user, "upload", department.pk)
    with transaction.atomic():
        # Two senders of one instance wait for each other here.
        department_lock(department.pk)
        judged, new = _judge(department, received, study_instance_uid)
        if new:
            _queue_upload(user, department, reception, new, source)
        refused = sum(1 for file in judged if file.facts.code)
        access_event_record(
            user=user,
            action=Action.CREATE,
            department_id=department.pk,
            detail={
                "instances": len(judged),
                "refused": refused,
                "already_here": len(judged) - refused - len(new),
                **({"upload": str(reception.upload_id)} if new else {}),
            },
        )
    if new:
        reception.keep()
    kept = {file.file_id for file in new}
    for file in judged:
        if file.file_id not in kept:
            reception.drop(file)
    return judged


def _queue_upload(
    user: Any, department: Department, reception: Reception, new: list[Received], source: str
) -> None:
    upload = SlideUpload.objects.create(
        id=reception.upload_id,
        department=department,
        uploaded_by=user,
        source=source,
        is_whole=False,
    )
    UploadFile.objects.bulk_create(
        [
            UploadFile(
                id=file.file_id,
                upload=upload,
                name=f"{file.facts.series_instance_uid}/{file.facts.sop_instance_uid}.dcm",
                size_bytes=file.size_bytes,
                offset_bytes=file.size_bytes,
                sha256=file.sha256,
                sop_instance_uid=file.facts.sop_instance_uid,
                study_instance_uid=file.facts.study_instance_uid,
                patient_id=file.facts.patient_id,
            )
            for file in new
        ],
        batch_size=1000,
    )
    SlideUpload.objects.filter(pk=upload.pk).update(state=SlideUpload.State.QUEUED)
    enqueue(uploads.PROCESS_TASK, upload)


def _judge(
    department: Department, received: Sequence[Received], study_instance_uid: str
) -> tuple[list[Received], list[Received]]:
    """Return all instances with their refusals, and those that are new."""
    known = _hashes_on_record(department, [f.facts.sop_instance_uid for f in received])
    patients = _patients_on_record(department, {f.facts.study_instance_uid for f in received})
    judged: list[Received] = []
    new: list[Received] = []
    for file in received:
        facts = file.facts
        hashes = known.setdefault(facts.sop_instance_uid, set())
        if not facts.code and study_instance_uid not in ("", facts.study_instance_uid):
            file = _refused(
                file, "study_mismatch", "The instance belongs to another study than the address."
            )
        elif not facts.code and hashes and file.sha256 not in hashes:
            file = _refused(
                file,
                "sop_instance_conflict",
                "An instance with the same SOP Instance UID and other content is here already.",
            )
        elif not facts.code and matching.known(facts.patient_id):
            said = patients.setdefault(facts.study_instance_uid, set())
            if said and facts.patient_id not in said:
                file = _refused(
                    file,
                    matching.MIXED_PATIENTS,
                    "Instances of one study name different patients.",
                )
            elif not said:
                said.add(facts.patient_id)
        judged.append(file)
        if not file.facts.code and not hashes:
            new.append(file)
            hashes.add(file.sha256)
    return judged, new


def _refused(file: Received, code: str, message: str) -> Received:
    return replace(file, facts=replace(file.facts, code=code, message=message))


def _hashes_on_record(department: Department, uids: Sequence[str]) -> dict[str, set[str]]:
    """Return the sha256 of these instances, as far as they are stored or on their way."""
    known: dict[str, set[str]] = {}
    wanted = [uid for uid in uids if uid]
    stored = SlideInstance.objects.filter(department=department, sop_instance_uid__in=wanted)
    # What comes by C-STORE is hashed by the intake, which finds it out when it is the same.
    coming = UploadFile.objects.filter(
        upload__department=department, upload__state__in=_ON_THE_WAY, sop_instance_uid__in=wanted
    ).exclude(sha256="")
    for rows in (stored, coming):
        for uid, sha256 in rows.values_list("sop_instance_uid", "sha256"):
            known.setdefault(uid, set()).add(sha256)
    return known


def _patients_on_record(department: Department, studies: set[str]) -> dict[str, set[str]]:
    """Return the patient ids that stand for these studies, of instances on their way too."""
    ids = matching.patients_of_studies(department, studies)
    coming = UploadFile.objects.filter(
        upload__department=department,
        upload__state__in=_ON_THE_WAY,
        study_instance_uid__in=studies - {""},
    ).values_list("study_instance_uid", "patient_id")
    for study, patient_id in coming.distinct():
        if matching.known(patient_id):
            ids.setdefault(study, set()).add(patient_id)
    return ids


def stop_check_server() -> None:
    """End the warm process (tests do)."""
    with suppress(OSError):
        _check_server.stop()
