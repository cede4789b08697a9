"""Housekeeping of the intake: lost workers, forgotten messages, abandoned uploads, orphans."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from time import time
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from cases.models import Export, SlideImage, SlideUpload, UploadFile, UploadItem
from cases.services import network, store, work
from cases.services.queue import enqueue
from cases.services.uploads import PROCESS_TASK

State = SlideUpload.State
ABANDONED_AFTER = timedelta(days=7)
ORPHAN_SECONDS = 3600
BATCH = 500


def sweep_uploads() -> None:
    """Wake what waits for a worker: after a lost worker, or after a lost message.

    Batches of a DICOM receiver that is gone are handed over, too.
    """
    network.batches_close(quiet_seconds=network.SWEEP_SECONDS)
    queued, _failed = work.expire_leases(SlideUpload)
    for pk in {*queued, *work.forgotten(SlideUpload)}:
        with transaction.atomic():
            upload = SlideUpload.objects.select_for_update().filter(pk=pk).first()
            if upload is not None and upload.state == State.QUEUED:
                enqueue(PROCESS_TASK, upload)


def sweep_abandoned() -> int:
    """Cancel uploads that have received nothing for a week; returns how many."""
    since = timezone.now() - ABANDONED_AFTER
    busy = UploadFile.objects.filter(updated_at__gte=since).values("upload_id")
    return (
        SlideUpload.objects.filter(state=State.RECEIVING, updated_at__lt=since)
        .exclude(pk__in=busy)
        .update(
            state=State.CANCELLED,
            finished_at=timezone.now(),
            reason_code="abandoned",
            reason="Nothing arrived for seven days.",
        )
    )


def sweep_store() -> list[str]:
    """Remove folders and files that no row knows, older than an hour; returns their names."""
    keeping_spool = Q(state__in=[State.RECEIVING, State.QUEUED, State.RUNNING, State.FAILED])
    removed = _sweep("spool", _ids(SlideUpload, keeping_spool))
    removed += _sweep("work", _ids(SlideUpload, Q(state=State.RUNNING)))
    removed += _sweep("slides", _ids(SlideImage, Q()))
    removed += _sweep("thumbnails", _ids(SlideImage, Q()))
    removed += _sweep("derived", _ids(SlideImage, Q()))
    removed += _sweep("exports", _ids(Export, Q(state__in=["running", "finished"])))
    removed += _sweep("unmatched", _ids(UploadItem, Q(state=UploadItem.State.UNMATCHED)))
    return removed


def _ids(model: type, wanted: Q) -> Callable[[list[str]], set[str]]:
    def known(ids: list[str]) -> set[str]:
        rows = model._base_manager.filter(wanted, pk__in=ids)
        return {str(pk) for pk in rows.values_list("pk", flat=True)}

    return known


def _sweep(folder: str, known: Callable[[list[str]], set[str]]) -> list[str]:
    """Remove the old entries of a folder whose id is not known."""
    removed = []
    for batch in _batches(_old_entries(settings.DATA_DIR / folder)):
        keep = known([entry_id for _path, entry_id, _partial in batch])
        for path, entry_id, partial in batch:
            if partial or entry_id not in keep:
                store.remove(path)
                removed.append(f"{folder}/{path.name}")
    return removed


def _old_entries(folder: Path) -> Iterable[tuple[Path, str, bool]]:
    """Yield path, id and whether it is half-made, of what was named by an id an hour ago."""
    if not folder.is_dir():
        return
    before = time() - ORPHAN_SECONDS
    for path in folder.iterdir():
        name, _dot, suffix = path.name.partition(".")
        try:
            UUID(name)
            old = path.lstat().st_mtime < before
        except (ValueError, FileNotFoundError):
            continue  # not ours to judge, or gone meanwhile
        if old:
            yield path, name, suffix.startswith("partial") or suffix.endswith(".part")


def _batches(entries: Iterable[tuple[Path, str, bool]]) -> Iterable[list[tuple[Path, str, bool]]]:
    batch = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
