"""DICOM objects that are made here from a slide: stored beside it, replaced as one."""

import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from time import time
from uuid import UUID

from django.conf import settings
from django.db import transaction
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from cases.models import DerivedInstance, SlideImage
from cases.services import store

ORPHAN_SECONDS = 3600


def derived_folder(slide_image_id: UUID) -> Path:
    """Return where the objects of a slide image lie."""
    return settings.DATA_DIR / "derived" / str(slide_image_id)


def derived_write(
    *, slide_image: SlideImage, kind: str, maker: str, dataset: Dataset
) -> DerivedInstance:
    """Store an object, in place of an earlier one of the same kind and maker.

    The file lies there, whole, before the row names it; the old file goes after the commit.
    What a crash leaves has no row, and `derived_sweep` removes it.
    """
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    data = buffer.getvalue()
    name = store.instance_file_name(dataset.SOPInstanceUID)
    folder = derived_folder(slide_image.pk)
    store.require_free_space(len(data))
    with store.naming_a_full_disk():
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{name}.partial"
        partial.write_bytes(data)
        store.fsync(partial)
        partial.replace(folder / name)
        store.fsync(folder)
    values = {
        "department_id": slide_image.department_id,
        "sop_class_uid": dataset.SOPClassUID,
        "sop_instance_uid": dataset.SOPInstanceUID,
        "study_instance_uid": dataset.StudyInstanceUID,
        "series_instance_uid": dataset.SeriesInstanceUID,
        "modality": dataset.Modality,
        "series_number": int(dataset.SeriesNumber),
        "series_description": str(dataset.get("SeriesDescription", "")),
        "transfer_syntax_uid": dataset.file_meta.TransferSyntaxUID,
        "sha256": hashlib.sha256(data).hexdigest(),
        "file_name": name,
        "size_bytes": len(data),
        "rows": dataset.get("Rows"),
        "columns": dataset.get("Columns"),
        "frame_count": int(dataset.NumberOfFrames) if "NumberOfFrames" in dataset else None,
    }
    with transaction.atomic():
        # One writer at a time of one slide, so that two of one kind do not meet.
        SlideImage.objects.select_for_update().get(pk=slide_image.pk)
        old = DerivedInstance.objects.filter(
            slide_image=slide_image, kind=kind, maker=maker
        ).first()
        row, _created = DerivedInstance.objects.update_or_create(
            slide_image=slide_image, kind=kind, maker=maker, defaults=values
        )
        if old is not None and old.file_name != name:
            transaction.on_commit(_remover(old.path))
    return row


def derived_remove(*, slide_image: SlideImage, maker: str, kinds: list[str]) -> int:
    """Take objects away that hold no more; returns how many."""
    rows = DerivedInstance.objects.filter(slide_image=slide_image, maker=maker, kind__in=kinds)
    with transaction.atomic():
        for row in rows:
            transaction.on_commit(_remover(row.path))
        count, _of = rows.delete()
    return count


def derived_sweep() -> int:
    """Remove files beside slides that no row names, older than an hour; returns how many."""
    before = time() - ORPHAN_SECONDS
    removed = 0
    for folder in (settings.DATA_DIR / "derived").glob("*"):
        files = [file for file in folder.glob("*") if file.lstat().st_mtime < before]
        names = {file.name for file in files}
        rows = DerivedInstance.objects.filter(file_name__in=names)
        known = set(rows.values_list("slide_image_id", "file_name"))
        for file in files:
            if (folder.name, file.name) not in {(str(pk), name) for pk, name in known}:
                store.remove(file)
                removed += 1
    return removed


def _remover(path: Path) -> Callable[[], None]:
    return lambda: store.remove(path)
