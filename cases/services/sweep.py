"""Housekeeping of the intake: lost workers, forgotten messages, abandoned uploads, orphans."""

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from time import time
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from cases.models import Export, SlideImage, SlideUpload, UploadFile, UploadItem
from cases.services import network, store, work
from cases.services.uploads import PROCESS_TASK

State = SlideUpload.State
ABANDONED_AFTER = timedelta(days=7)
ORPHAN_SECONDS = 3600
LATELY_SECONDS = 7 * 86400
PIECES_WAIT = timedelta(days=14)
INSTANCE_FILE = re.compile(r"[0-9a-f]{40}\.dcm")
BATCH = 500


def sweep_uploads() -> None:
    """Wake what waits for a worker: after a lost worker, or after a lost message.

    Batches of a DICOM receiver that is gone are handed over, too.
    """
    network.batches_close(quiet_seconds=network.SWEEP_SECONDS)
    work.wake_lost(SlideUpload, PROCESS_TASK)


def sweep_abandoned() -> int:
    """Cancel uploads that have received nothing for a week; returns how many."""
    since = timezone.now() - ABANDONED_AFTER
    busy = UploadFile.objects.filter(updated_at__gte=since).values("upload_id")
    return (
        SlideUpload.objects.filter(state=State.RECEIVING, updated_at__lt=since)
        # Those of the DICOM network are acknowledged: they are handed over, never given up.
        .exclude(source=SlideUpload.Source.DICOM)
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
    waiting = Q(state__in=[UploadItem.State.UNMATCHED, UploadItem.State.INCOMPLETE])
    removed += _sweep("unmatched", _ids(UploadItem, waiting))
    removed += _sweep_instances()
    return removed


def sweep_pieces() -> int:
    """Refuse the pieces of series whose rest has not come in two weeks; returns how many."""
    return UploadItem.objects.filter(
        state=UploadItem.State.INCOMPLETE, created_at__lt=timezone.now() - PIECES_WAIT
    ).update(
        state=UploadItem.State.REFUSED,
        resolved_at=timezone.now(),
        reason="The rest of the series did not come in two weeks.",
    )


def _sweep_instances() -> list[str]:
    """Remove instance files that no row names: of extensions that failed at every attempt.

    Only folders that changed lately can hold one.
    """
    removed = []
    changed_since = time() - LATELY_SECONDS
    for path, image_id, _partial in _old_entries(settings.DATA_DIR / "slides"):
        if not path.is_dir() or path.stat().st_mtime < changed_since:
            continue
        image = SlideImage.objects.filter(pk=image_id, source_format=SlideImage.Format.DICOM)
        names = set(
            image.filter(instances__isnull=False).values_list("instances__file_name", flat=True)
        )
        if not names:
            continue
        for file in path.glob("*.dcm"):
            if INSTANCE_FILE.fullmatch(file.name) and file.name not in names:
                store.remove(file)
                removed.append(f"slides/{path.name}/{file.name}")
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
