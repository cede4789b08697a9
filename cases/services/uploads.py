"""Uploads as people and machines see them: create, finish, cancel, retry."""

import math
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from cases import permissions
from cases.errors import Conflict, DomainError
from cases.models import Department, Patient, SlideUpload, UploadFile
from cases.services import store, work
from cases.services.audit import Action, access_event_record
from cases.services.queue import enqueue

PROCESS_TASK = "cases.tasks.process_upload_task"
MAX_FILES = 20_000
# Scanners make 0.1 to 0.5; 20 is a magnification below 1x.
MPP_RANGE = (0.02, 20.0)
FORM_FIELDS = (
    "accession_number",
    "accession_issuer",
    "mrn",
    "mrn_issuer",
    "family_name",
    "given_name",
    "birth_date",
    "sex",
    "organ",
    "stain",
    "slide_label",
    "mpp",
)
State = SlideUpload.State


class UploadRefused(DomainError):
    """What was announced cannot be taken."""

    code = "invalid"


class UploadTooLarge(UploadRefused):
    """More was announced than one upload may hold."""

    http_status = 413
    code = "upload_too_large"


def clean_mpp(value: Any) -> float | None:
    """Return micrometres per pixel as a number, None for nothing; refuse the impossible."""
    if value in (None, ""):
        return None
    try:
        mpp = float(value)
    except (TypeError, ValueError) as error:
        raise UploadRefused("µm per pixel must be a number.", code="invalid_mpp") from error
    if not (math.isfinite(mpp) and MPP_RANGE[0] <= mpp <= MPP_RANGE[1]):
        raise UploadRefused(
            f"µm per pixel must lie between {MPP_RANGE[0]} and {MPP_RANGE[1]}.",
            code="invalid_mpp",
        )
    return mpp


def clean_form(form: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form's filled fields with their types; refuse what cannot be."""
    unknown = set(form) - {*FORM_FIELDS, "is_synthetic"}
    if unknown:
        raise TypeError(f"unknown upload fields: {sorted(unknown)}")
    cleaned = {
        name: value.strip() if isinstance(value, str) else value
        for name, value in form.items()
        if value not in (None, "")
    }
    cleaned["mpp"] = clean_mpp(cleaned.get("mpp"))
    if isinstance(cleaned.get("birth_date"), str):
        try:
            cleaned["birth_date"] = date.fromisoformat(cleaned["birth_date"])
        except ValueError as error:
            raise UploadRefused("The birth date must be YYYY-MM-DD.") from error
    if cleaned.get("sex", "") not in Patient.Sex.values:
        raise UploadRefused("The sex must be F, M, O or empty.")
    return cleaned


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _clean_files(files: Sequence[Any]) -> list[dict[str, Any]]:
    """Return name, size and expected sha256 of each announced file: (name, size[, sha256])."""
    if not 0 < len(files) <= MAX_FILES:
        raise UploadRefused(f"An upload holds 1 to {MAX_FILES} files.", code="file_count")
    cleaned = []
    for name, size, *rest in files:
        sha256 = (rest[0] or "").lower() if rest else ""
        shown = _CONTROL.sub("", str(name)).strip()
        if not shown or len(shown) > 400:
            raise UploadRefused("A file name is empty or longer than 400 characters.")
        if not isinstance(size, int) or size < 0:
            raise UploadRefused("A file size is missing or negative.")
        if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise UploadRefused("A SHA-256 must be 64 hexadecimal digits.")
        cleaned.append({"name": shown, "size_bytes": size, "sha256": sha256})
    return cleaned


def _require_room(total_bytes: int, new_bytes: int) -> None:
    if total_bytes > settings.UPLOAD_MAX_BYTES:
        gib = settings.UPLOAD_MAX_BYTES // 2**30
        raise UploadTooLarge(f"One upload holds at most {gib} GiB.")
    store.require_free_space(new_bytes)


@transaction.atomic
def upload_create(
    *,
    user: Any,
    department: Department,
    files: Sequence[Any] = (),
    source: str = SlideUpload.Source.PAGE,
    **form: Any,
) -> SlideUpload:
    """Announce a delivery: its files as (name, size) or (name, size, sha256), and the form.

    Without files these are announced one by one (`upload_add_file`).
    """
    permissions.require(user, "upload", department.pk)
    announced = _clean_files(files) if files else []
    total = sum(file["size_bytes"] for file in announced)
    _require_room(total, total)
    upload = SlideUpload(department=department, uploaded_by=user, source=source, **clean_form(form))
    try:
        upload.clean_fields(exclude=["department", "uploaded_by"])
    except ValidationError as error:
        raise UploadRefused("; ".join(error.messages)) from error
    upload.save()
    UploadFile.objects.bulk_create(
        [UploadFile(upload=upload, **file) for file in announced], batch_size=1000
    )
    access_event_record(
        user=user,
        action=Action.CREATE,
        department_id=department.pk,
        target=upload,
        detail={"files": len(announced), "bytes": total},
    )
    return upload


@transaction.atomic
def upload_create_unattended(
    *, department: Department, files: Sequence[Any], source: str, **fields: Any
) -> SlideUpload:
    """Announce a delivery that no person sends; who configured its source answers for it."""
    announced = _clean_files(files)
    total = sum(file["size_bytes"] for file in announced)
    _require_room(total, total)
    upload = SlideUpload.objects.create(department=department, source=source, **fields)
    UploadFile.objects.bulk_create(
        [UploadFile(upload=upload, **file) for file in announced], batch_size=1000
    )
    access_event_record(
        user=None,
        action=Action.CREATE,
        department_id=department.pk,
        target=upload,
        detail={"files": len(announced), "bytes": total},
    )
    return upload


@transaction.atomic
def upload_add_file(
    *, upload: SlideUpload, user: Any, name: str, size_bytes: int, sha256: str = ""
) -> UploadFile:
    """Announce one more file of an upload that is still receiving."""
    permissions.require(user, "upload", upload.department_id)
    locked = SlideUpload.objects.select_for_update().get(pk=upload.pk)
    if locked.state != State.RECEIVING or not locked.is_sent_by_hand:
        raise Conflict("This upload is closed and takes no more files.", code="upload_closed")
    (announced,) = _clean_files([(name, size_bytes, sha256)])
    sizes = list(locked.files.values_list("size_bytes", flat=True))
    if len(sizes) >= MAX_FILES:
        raise UploadRefused(f"An upload holds 1 to {MAX_FILES} files.", code="file_count")
    _require_room(sum(sizes) + size_bytes, size_bytes)
    return UploadFile.objects.create(upload=locked, **announced)


@transaction.atomic
def upload_remove_file(*, upload_file: UploadFile, user: Any) -> None:
    """Take a file out of an upload that is still receiving (tus termination)."""
    permissions.require(user, "upload", upload_file.upload.department_id)
    locked = SlideUpload.objects.select_for_update().get(pk=upload_file.upload_id)
    if locked.state != State.RECEIVING or not locked.is_sent_by_hand:
        raise Conflict("This upload is closed.", code="upload_closed")
    path = store.spool_file(upload_file)
    upload_file.delete()
    transaction.on_commit(lambda: store.remove(path))


@transaction.atomic
def upload_finish(*, upload: SlideUpload, user: Any) -> SlideUpload:
    """Close an upload whose bytes are all here and queue its processing. Idempotent."""
    permissions.require(user, "upload", upload.department_id)
    locked = SlideUpload.objects.select_for_update().get(pk=upload.pk)
    if locked.state == State.CANCELLED:
        raise Conflict("This upload was cancelled.", code="upload_closed")
    if locked.state == State.RECEIVING and not locked.is_sent_by_hand:
        raise Conflict("This upload ends by itself.", code="upload_closed")
    if locked.state == State.RECEIVING:
        missing = locked.files.exclude(offset_bytes=F("size_bytes")).count()
        if missing or not locked.files.exists():
            raise Conflict(
                f"{missing} of the files are not complete yet."
                if missing
                else "The upload holds no file.",
                code="upload_incomplete",
            )
        upload_queue(locked, [State.RECEIVING])
    locked.refresh_from_db()
    return locked


def upload_queue(upload: SlideUpload, from_states: list[str]) -> bool:
    """Queue the processing in the caller's transaction; returns whether this call did it."""
    if not work.requeue(SlideUpload, upload.pk, from_states=from_states):
        return False
    enqueue(PROCESS_TASK, upload)
    return True


@transaction.atomic
def upload_retry(*, upload: SlideUpload, user: Any) -> SlideUpload:
    """Queue a failed upload again; its bytes were kept."""
    permissions.require(user, "retry_work", upload.department_id)
    if not upload_queue(upload, [State.FAILED]):
        raise Conflict("Only a failed upload can be tried again.", code="not_failed")
    access_event_record(
        user=user,
        action=Action.CHANGE,
        department_id=upload.department_id,
        target=upload,
        detail={"retry": True},
    )
    upload.refresh_from_db()
    return upload


@transaction.atomic
def upload_cancel(*, upload: SlideUpload, user: Any) -> SlideUpload:
    """Give up an upload that is receiving or has failed; its bytes go. Idempotent."""
    permissions.require(user, "upload", upload.department_id)
    closable = [State.RECEIVING, State.FAILED] if upload.is_sent_by_hand else [State.FAILED]
    changed = SlideUpload.objects.filter(pk=upload.pk, state__in=closable).update(
        state=State.CANCELLED, finished_at=timezone.now()
    )
    upload.refresh_from_db()
    if not changed and upload.state != State.CANCELLED:
        raise Conflict(
            "This upload is being processed, is finished, or comes from a device.",
            code="upload_closed",
        )
    if changed:
        access_event_record(
            user=user,
            action=Action.DELETE,
            department_id=upload.department_id,
            target=upload,
        )
        spool = store.spool_folder(upload.pk)
        transaction.on_commit(lambda: store.remove(spool))
    return upload


def _plain_files(folder: Path) -> Iterable[Path]:
    if folder.is_file():
        return [folder]
    return sorted(f for f in folder.rglob("*") if f.is_file() and not f.is_symlink())


def upload_local_folder(
    *,
    user: Any,
    department: Department,
    folder: Path,
    source: str = SlideUpload.Source.DEMO,
    **form: Any,
) -> SlideUpload:
    """Take a folder, or one file, of this machine the road of any upload; returns it queued."""
    base = folder if folder.is_dir() else folder.parent
    paths = list(_plain_files(folder))
    upload = upload_create(
        user=user,
        department=department,
        files=[(str(path.relative_to(base)), path.stat().st_size) for path in paths],
        source=source,
        **form,
    )
    by_name = {file.name: file for file in upload.files.all()}
    store.spool_folder(upload.pk).mkdir(parents=True, exist_ok=True)
    for path in paths:
        upload_file = by_name[_CONTROL.sub("", str(path.relative_to(base))).strip()]
        with (
            store.naming_a_full_disk(),
            path.open("rb") as reader,
            store.spool_file(upload_file).open("wb") as writer,
        ):
            shutil.copyfileobj(reader, writer, store.COPY_BYTES)
            writer.flush()
            os.fsync(writer.fileno())
        UploadFile.objects.filter(pk=upload_file.pk).update(offset_bytes=F("size_bytes"))
    return upload_finish(upload=upload, user=user)
