"""Processes an upload: lay out its files, examine them in a child process, take each slide.

Killed at any point and started again, it goes on where the rows say: slides that were taken
have their UploadItem, the others are taken now, and the spool goes only after the end.
"""

import logging
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from cases.errors import DomainError, InsufficientStorage, LeaseLost
from cases.models import SlideUpload, UploadFile, UploadItem
from cases.services import arrivals, intake, store, thumbnails, work
from cases.services.queue import enqueue
from cases.services.uploads import PROCESS_TASK
from cases.wsi.delivery import Delivery, FoundSlide, Limits
from cases.wsi.sandbox import examine_in_child
from cases.wsi.values import sha256_of_file

log = logging.getLogger(__name__)

CHECKSUM_MISMATCH = "checksum_mismatch"
NOTHING_FOUND = "nothing_found"


def upload_process(upload_id: UUID | str) -> None:
    """Process a queued upload to its end; nothing happens when it is not to be had.

    An unexpected error gives it back to the queue, until its attempts are used up.
    """
    lease = work.claim(SlideUpload, upload_id)
    if lease is None:
        return
    try:
        _process(lease)
    except LeaseLost:
        log.warning("upload %s was taken over by another worker", upload_id)
    except Exception as error:
        # The message may quote a header, so only the kind and the place are logged.
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("upload %s: %s\n%s", upload_id, type(error).__name__, where)
        _give_back(lease, error)


def _give_back(lease: work.Lease, error: Exception) -> None:
    if isinstance(error, DomainError):
        code, reason = error.code, error.message
    else:
        code = "unexpected_error"
        reason = f"Processing stopped unexpectedly ({type(error).__name__})."
    try:
        with transaction.atomic():
            if lease.give_back(reason_code=code, reason=reason):
                enqueue(PROCESS_TASK, SlideUpload.objects.get(pk=lease.pk))
    except LeaseLost:
        log.warning("upload %s was taken over by another worker", lease.pk)


def _process(lease: work.Lease) -> None:
    upload = SlideUpload.objects.select_related("department", "uploaded_by").get(pk=lease.pk)
    lease.heartbeat(step="preparing")
    store.require_free_space(0)
    # A folder per attempt: a worker that lost its lease cannot disturb its successor.
    store.remove(store.work_folder(upload.pk))
    folder = store.work_folder(upload.pk) / str(lease.token)
    _lay_out(upload, folder, lambda: lease.heartbeat(step="preparing"))
    delivery = _examine(upload, folder, lease)
    if _add_waiting_pieces(upload, delivery, folder):
        delivery = _examine(upload, folder, lease)
    _take_all(upload, delivery, folder, lease)
    with work.result_transaction(lease, SlideUpload.State.FINISHED):
        pass
    store.remove(store.work_folder(upload.pk))
    store.remove(store.spool_folder(upload.pk))
    # Last, and outside the state: a picture that fails is made when somebody asks for it.
    thumbnails.thumbnails_of_upload(upload)


def _lay_out(upload: SlideUpload, folder: Path, tick: Callable[[], None]) -> None:
    """Link the upload's files into the folder to examine, under safe names.

    A file that differs from the SHA-256 its sender announced is refused and left out.
    """
    taken: set[str] = set()
    folder.mkdir(parents=True)
    # By name, so that a second attempt gives the same names and keys.
    for upload_file in upload.files.order_by("name", "pk"):
        source = store.spool_file(upload_file)
        if upload_file.size_bytes == 0 and not source.exists():
            store.spool_folder(upload.pk).mkdir(parents=True, exist_ok=True)
            source.touch()
        name = store.safe_relative_name(upload_file.name, taken)
        if upload_file.sha256 and sha256_of_file(source, tick) != upload_file.sha256:
            _refuse_checksum(upload, upload_file)
            continue
        with store.naming_a_full_disk():
            store.link_or_copy(source, folder / name, tick)


def _refuse_checksum(upload: SlideUpload, upload_file: UploadFile) -> None:
    intake.item_refuse(
        upload=upload,
        key=f"file:{upload_file.pk}",
        name=upload_file.name,
        code=CHECKSUM_MISMATCH,
        reason="The file arrived with another SHA-256 than announced. Send it again.",
    )


def _add_waiting_pieces(upload: SlideUpload, delivery: Delivery, folder: Path) -> bool:
    """Lay out older instances of the same series that wait for these; returns whether any do."""
    series = [found.series_instance_uid for found in delivery.slides if found.series_instance_uid]
    waiting = list(intake.pieces_waiting(upload.department_id, series))
    for item in waiting:
        home = store.unmatched_folder(item.pk)
        for file in FoundSlide.from_json(item.facts).files:
            with store.naming_a_full_disk():
                store.link_or_copy(home / file, folder / f"waiting-{item.pk}" / file)
    return bool(waiting)


def _examine(upload: SlideUpload, folder: Path, lease: work.Lease) -> Delivery:
    """Return what the folder holds, renewing the lease while the child process works."""
    room = max(0, store.free_bytes() - settings.DISK_RESERVE_BYTES)
    limits = Limits(room_bytes=room, keeps_pieces=upload.source in arrivals.NETWORK_SOURCES)
    # The thread only waits for the child: heartbeats stay on this thread's connection.
    pool = ThreadPoolExecutor(1, thread_name_prefix="examine")
    try:
        future = pool.submit(
            examine_in_child,
            folder,
            limits=limits,
            memory_bytes=settings.INSPECT_MEMORY_BYTES,
            timeout_seconds=settings.INSPECT_TIMEOUT_SECONDS,
        )
        while True:
            lease.heartbeat(step="examining")
            try:
                delivery = future.result(timeout=settings.LEASE_SECONDS / 4)
                break
            except NotYet:
                continue
    finally:
        pool.shutdown(wait=False)
    # The file is not to blame: the whole delivery is tried again, and its bytes are kept.
    if any(refused.code == InsufficientStorage.code for refused in delivery.refused):
        raise InsufficientStorage
    return delivery


def _take_all(upload: SlideUpload, delivery: Delivery, folder: Path, lease: work.Lease) -> None:
    """Take every slide and note every refusal; one that goes wrong stops no other."""
    total = len(delivery.slides)
    for refused in delivery.refused:
        intake.item_refuse(
            upload=upload,
            key=refused.key,
            name=refused.name,
            code=refused.code,
            reason=refused.message,
        )
    labels = _labels(upload, delivery.slides)
    failure: Exception | None = None
    for number, found in enumerate(delivery.slides):

        def tick(number: int = number) -> None:
            lease.heartbeat(done=number, total=total, step="storing")

        tick()
        try:
            intake.intake_take(
                found=found,
                upload=upload,
                folder=folder,
                label=labels[found.key],
                still_mine=tick,
            )
        except (LeaseLost, InsufficientStorage):
            raise
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure
    if not UploadItem.objects.filter(upload=upload).exists():
        intake.item_refuse(
            upload=upload,
            key="delivery",
            name="The delivery",
            code=NOTHING_FOUND,
            reason="The delivery holds no slide.",
        )


def _labels(upload: SlideUpload, slides: tuple[FoundSlide, ...]) -> dict[str, str]:
    """Return the glass label that the form gives each slide; several are numbered."""
    form: Any = upload.slide_label
    if not form or len(slides) < 2:
        return {found.key: form for found in slides}
    return {found.key: f"{form[:75]}-{number}" for number, found in enumerate(slides, start=1)}
