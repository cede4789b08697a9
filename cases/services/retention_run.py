"""Deletes a case that two people decided to delete: its rows at once, then its files.

The rows go in one transaction, which also writes down whose files follow; files of rows that are
gone are removed as often as it takes. Killed at any point, it goes on where it was. A trigger of
the database (migration 0025) lets nobody delete a case that was not approved so.
"""

import logging
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, Sum
from django.utils import timezone

from cases.errors import LeaseLost
from cases.models import (
    Case,
    CaseDeletion,
    ClinicalChange,
    MergedCase,
    Patient,
    PatientMerge,
    Report,
    SlideImage,
    SlideInstance,
    SlideUpload,
    UploadFile,
    UploadItem,
)
from cases.retention_selectors import obstacle_to
from cases.row_scope import acting_as_owner
from cases.services import store, work
from cases.services.audit import Action, access_event_record
from cases.services.derived import derived_folder
from cases.services.queue import enqueue
from cases.services.retention import RUN_TASK

log = logging.getLogger(__name__)

State = CaseDeletion.State
ENDED = [SlideUpload.State.FINISHED, SlideUpload.State.FAILED, SlideUpload.State.CANCELLED]


class _Obstructed(Exception):
    """Something speaks against it since it was approved."""

    def __init__(self, code: str, sentence: Any) -> None:
        self.code, self.sentence = code, str(sentence)
        super().__init__(code)


def deletion_run(deletion_id: UUID | str) -> None:
    """Delete what the approved deletion says; nothing happens when it is not to be had."""
    lease = work.claim(CaseDeletion, deletion_id)
    if lease is None:
        return
    try:
        deletion = CaseDeletion.objects.get(pk=lease.pk)
        if deletion.rows_deleted_at is None:
            _rows_delete(lease, deletion)
        _files_remove(lease, deletion)
        lease.finish(State.FINISHED)
        log.info("deletion %s is done", lease.pk)
    except LeaseLost:
        log.warning("deletion %s was taken over by another worker", lease.pk)
    except _Obstructed as obstacle:
        # Another attempt would end in the same way: people decide what now.
        lease.finish(State.FAILED, reason_code=obstacle.code, reason=obstacle.sentence[:500])
    except Exception as error:
        # The message may quote a row, so only the kind is kept.
        log.error("deletion %s: %s", lease.pk, type(error).__name__)
        _give_back(lease, type(error).__name__)


def sweep_deletions() -> None:
    """Wake what waits for a worker: after a lost worker, or after a lost message."""
    work.wake_lost(CaseDeletion, RUN_TASK)


def _give_back(lease: work.Lease, kind: str) -> None:
    try:
        with transaction.atomic():
            reason = f"The deletion stopped unexpectedly ({kind})."
            if lease.give_back(reason_code="unexpected_error", reason=reason):
                enqueue(RUN_TASK, CaseDeletion.objects.get(pk=lease.pk))
    except LeaseLost:
        log.warning("deletion %s was taken over by another worker", lease.pk)


def _rows_delete(lease: work.Lease, deletion: CaseDeletion) -> None:
    with acting_as_owner("a deletion by the retention policy"), transaction.atomic():
        case = Case.objects.select_for_update().filter(pk=deletion.case_id).first()
        if case is None:
            raise _Obstructed("case_is_gone", "The case is not there any more.")
        obstacle = obstacle_to(case)
        if obstacle is not None:
            raise _Obstructed(obstacle.code, obstacle.sentence)
        with connection.cursor() as cursor:
            # The history's triggers let go of what belongs to this deletion.
            cursor.execute("SELECT set_config('pathsearch.erasing', %s, true)", [str(deletion.pk)])
        images = list(SlideImage.objects.filter(slide__case=case))
        deletion.slide_images = [image.pk for image in images]
        deletion.content_sha256 = sorted(image.content_sha256 for image in images)
        deletion.counts = _counts(case)
        _intake_forget(case, images)
        SlideImage.objects.filter(pk__in=deletion.slide_images).delete()
        MergedCase.objects.filter(case=case).delete()
        patient = case.patient
        case.delete()
        deletion.patient_is_gone = _patient_delete(patient)
        ClinicalChange.objects.filter(case_id=deletion.case_id)._raw_delete("default")
        deletion.rows_deleted_at = timezone.now()
        deletion.save(
            update_fields=[
                "slide_images",
                "content_sha256",
                "counts",
                "patient_is_gone",
                "rows_deleted_at",
                "updated_at",
            ]
        )
        access_event_record(
            user=deletion.decided_by,
            action=Action.DELETE,
            department_id=deletion.department_id,
            patient_id=deletion.patient_id,
            target=deletion,
            reason="retention",
            detail={
                "case": str(deletion.case_id),
                "requested_by": deletion.requested_by_id,
                "approved_by": deletion.decided_by_id,
                "counts": deletion.counts,
            },
        )
        # Another worker may have it by now: then nothing of this was.
        lease.heartbeat(done=1, total=2, step="files")
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('pathsearch.erasing', '', true)")


def _counts(case: Case) -> dict[str, int]:
    images = SlideImage.objects.filter(slide__case=case)
    return {
        "slides": case.slides.count(),
        "scans": images.count(),
        "instances": SlideInstance.objects.filter(slide_image__in=images).count(),
        "bytes": images.aggregate(total=Sum("size_bytes"))["total"] or 0,
        "reports": Report.objects.filter(case=case).count(),
        "changes": ClinicalChange.objects.filter(case_id=case.pk).count(),
    }


def _intake_forget(case: Case, images: list[SlideImage]) -> None:
    """Delete what deliveries said of the case's slides; a delivery that holds others stays."""
    uids = SlideInstance.objects.filter(slide_image__in=images).values("sop_instance_uid")
    of_case = Q(slide_image__in=images) | Q(
        department=case.department_id, facts__accession_number=case.accession_number
    )
    items = UploadItem.objects.filter(of_case)
    names = list(items.values_list("upload_id", "name"))
    uploads = {upload for upload, _name in names}
    items.delete()
    UploadFile.objects.filter(upload__in=uploads, sop_instance_uid__in=uids).exclude(
        sop_instance_uid=""
    ).delete()
    for upload, name in names:
        UploadFile.objects.filter(upload=upload, name=name).delete()
    said = Q(department=case.department_id, accession_number=case.accession_number)
    SlideUpload.objects.filter(Q(pk__in=uploads) | said, state__in=ENDED, items=None).delete()
    # What the form said of the patient, where the delivery brought slides of other cases, too.
    blank = dict.fromkeys(
        ("accession_number", "mrn", "family_name", "given_name", "sex", "slide_label"), ""
    )
    SlideUpload.objects.filter(pk__in=uploads, accession_number=case.accession_number).update(
        birth_date=None, **blank
    )


def _patient_delete(patient: Patient) -> bool:
    """Delete the patient, with the numbers merged into one, where no case is left of them."""
    group, found = set(), {patient.pk}
    while found:
        group |= found
        rows = PatientMerge.objects.filter(Q(survivor__in=found) | Q(merged__in=found))
        pairs = rows.values_list("survivor_id", "merged_id")
        found = {pk for pair in pairs for pk in pair} - group
    if Case.objects.filter(patient__in=group).exists():
        return False
    PatientMerge.objects.filter(survivor__in=group).delete()
    Patient.objects.filter(pk__in=group).update(merged_into=None)
    Patient.objects.filter(pk__in=group).delete()
    ClinicalChange.objects.filter(case_id=None, patient_id__in=group)._raw_delete("default")
    return True


def _files_remove(lease: work.Lease, deletion: CaseDeletion) -> None:
    total = len(deletion.slide_images)
    for number, pk in enumerate(deletion.slide_images):
        lease.heartbeat(done=number, total=total, step="files")
        for path in (store.slide_folder(pk), store.thumbnail_file(pk), derived_folder(pk)):
            store.remove(path)
        if store.slide_folder(pk).exists():
            raise OSError("files of a deleted slide could not be removed")
