"""Instances that DICOM nodes send, gathered into uploads: one a batch, not one an instance.

A batch is an upload in the state RECEIVING. An instance is acknowledged when its bytes lie
flushed in the batch's spool and its row is committed, so whoever closes the batch - the
receiving process, its successor after a kill, or the intake's sweep - finds all of them.
"""

from collections.abc import Collection
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Sum
from django.utils import timezone

from cases.models import DicomPeer, SlideUpload, UploadFile
from cases.services import store
from cases.services.audit import Action, access_event_record
from cases.services.uploads import upload_queue

State, Source = SlideUpload.State, SlideUpload.Source
MAX_BATCH_FILES = 2_000
# A node that never falls silent gets its slides processed all the same.
MAX_BATCH_QUIET_TIMES = 5
# The intake closes batches only when the receiving process seems to be gone.
SWEEP_SECONDS = 900


def instance_file_label(sop_instance_uid: str) -> str:
    """Return the shown name of an instance's file in its batch."""
    return f"{sop_instance_uid}.dcm"


def instance_receive(*, peer: DicomPeer, sop_instance_uid: str, source: Path) -> UploadFile:
    """Move a received file into the peer's open batch; durable when this returns.

    Raises InsufficientStorage. source: on the same file system, with a name of our own.
    """
    with store.naming_a_full_disk():
        store.require_free_space(0)
        store.fsync(source)
        size = source.stat().st_size
        with transaction.atomic():
            upload = _open_batch(peer, size)
            upload_file = UploadFile(
                upload=upload,
                name=instance_file_label(sop_instance_uid)[:400],
                size_bytes=size,
                offset_bytes=size,
                sop_instance_uid=sop_instance_uid[:64],
            )
            target = store.spool_file(upload_file)
            if not target.parent.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                store.fsync(target.parent.parent)
            source.replace(target)
            store.fsync(target.parent)
            upload_file.save(force_insert=True)
    return upload_file


def _open_batch(peer: DicomPeer, new_bytes: int) -> SlideUpload:
    """Return the peer's batch that still receives, locked, or a new one."""
    batch = (
        SlideUpload.objects.select_for_update(no_key=True, of=("self",))
        .filter(dicom_peer=peer, source=Source.DICOM, state=State.RECEIVING)
        .order_by("-created_at")
        .first()
    )
    if batch is not None:
        held = batch.files.aggregate(bytes=Sum("size_bytes", default=0), last=Max("created_at"))
        is_full = held["bytes"] + new_bytes > settings.UPLOAD_MAX_BYTES
        if not is_full and batch.files.count() < MAX_BATCH_FILES:
            return batch
        upload_queue(batch, [State.RECEIVING])
    batch = SlideUpload.objects.create(
        department_id=peer.department_id,
        dicom_peer=peer,
        source=Source.DICOM,
        is_whole=False,
    )
    access_event_record(
        user=None,
        action=Action.CREATE,
        department_id=peer.department_id,
        target=batch,
        detail={"peer": str(peer.pk)},
    )
    return batch


def batches_close(*, quiet_seconds: float, busy: Collection[Any] = ()) -> int:
    """Hand over the batches that fell quiet or grew old; returns how many.

    busy: peers that are sending at this moment; their batches stay open a while longer.
    """
    now = timezone.now()
    quiet = now - timedelta(seconds=quiet_seconds)
    old = now - timedelta(seconds=quiet_seconds * MAX_BATCH_QUIET_TIMES)
    receiving = SlideUpload.objects.filter(source=Source.DICOM, state=State.RECEIVING)
    closed = 0
    for batch in receiving.annotate(last=Max("files__created_at")):
        last = batch.last or batch.created_at
        is_quiet = last < quiet and batch.dicom_peer_id not in busy
        if (is_quiet or batch.created_at < old) and _close(batch.pk):
            closed += 1
    return closed


def batches_close_of(peer: DicomPeer) -> int:
    """Hand over what a peer has sent so far, as whole: it says that it is done."""
    receiving = SlideUpload.objects.filter(
        dicom_peer=peer, source=Source.DICOM, state=State.RECEIVING
    )
    return sum(_close(pk, is_whole=True) for pk in receiving.values_list("pk", flat=True))


@transaction.atomic
def _close(pk: Any, *, is_whole: bool = False) -> bool:
    batch = SlideUpload.objects.select_for_update(no_key=True, of=("self",)).get(pk=pk)
    if batch.state != State.RECEIVING:
        return False
    if not batch.files.exists():
        batch.state, batch.finished_at = State.CANCELLED, timezone.now()
        batch.save(update_fields=["state", "finished_at", "updated_at"])
        transaction.on_commit(partial(store.remove, store.spool_folder(batch.pk)))
        return False
    if is_whole:
        SlideUpload.objects.filter(pk=pk).update(is_whole=True)
    return upload_queue(batch, [State.RECEIVING])
