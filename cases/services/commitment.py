"""Storage commitment (PS3.4 Annex J): vouch for an instance once it is in the archive.

The request is a row before it is acknowledged, and stays one until the peer has the answer.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from cases.models import (
    DicomPeer,
    SlideImage,
    SlideInstance,
    SlideUpload,
    StorageCommitment,
    UploadFile,
    UploadItem,
)
from cases.services import arrivals, network
from cases.services.audit import Action, access_event_record

State = StorageCommitment.State
Instances = list[dict[str, Any]]

# Failure reasons of PS3.3 C.14.1.1.
PROCESSING_FAILURE = 0x0110
NO_SUCH_OBJECT_INSTANCE = 0x0112
CLASS_NOT_SUPPORTED = 0x0122

MAX_INSTANCES = 20_000
MAX_ATTEMPTS = 60
RETRY_SECONDS = (5, 15, 60, 300, 900, 3600)
WORKING = [SlideUpload.State.QUEUED, SlideUpload.State.RUNNING]
KEPT = [*WORKING, SlideUpload.State.RECEIVING, SlideUpload.State.FAILED]
WAITING = [UploadItem.State.UNMATCHED, UploadItem.State.INCOMPLETE]


@transaction.atomic
def commitment_request(
    *, peer: DicomPeer, transaction_uid: str, instances: Sequence[tuple[str, str]]
) -> StorageCommitment:
    """Keep the request; what the peer has sent so far is whole then. Idempotent.

    instances: (SOP class UID, SOP instance UID) each.
    """
    listed = [{"sop_class_uid": c, "sop_instance_uid": i} for c, i in dict.fromkeys(instances)]
    commitment, created = StorageCommitment.objects.get_or_create(
        peer=peer, transaction_uid=transaction_uid, defaults={"instances": listed}
    )
    if not created:
        # Asked again: the answer may not have reached it.
        StorageCommitment.objects.filter(pk=commitment.pk).update(
            state=State.PENDING, attempts=0, instances=listed, error="", updated_at=timezone.now()
        )
    network.batches_close_of(peer)
    wanted = [instance["sop_instance_uid"] for instance in listed]
    arrivals.images_declare_whole(
        SlideImage.objects.filter(
            department_id=peer.department_id, instances__sop_instance_uid__in=wanted
        ).distinct()
    )
    access_event_record(
        user=None,
        action=Action.CREATE if created else Action.CHANGE,
        department_id=peer.department_id,
        target=commitment,
        detail={"peer": str(peer.pk), "instances": len(listed)},
    )
    return commitment


def commitments_settle() -> int:
    """Decide the requests whose instances are all in the archive or lost; returns how many."""
    settled = 0
    for commitment in StorageCommitment.objects.filter(state=State.PENDING).select_related("peer"):
        answer = _answer(commitment)
        if answer is not None:
            settled += StorageCommitment.objects.filter(
                pk=commitment.pk, state=State.PENDING, updated_at=commitment.updated_at
            ).update(state=State.READY, instances=answer, next_attempt_at=timezone.now())
    return settled


def _answer(commitment: StorageCommitment) -> Instances | None:
    """Return the instances with the reasons of those that failed; None while one is under way."""
    department = commitment.peer.department_id
    wanted = [instance["sop_instance_uid"] for instance in commitment.instances]
    archived = set(
        SlideInstance.objects.filter(
            department_id=department, sop_instance_uid__in=wanted
        ).values_list("sop_instance_uid", flat=True)
    )
    patience = timedelta(hours=settings.DICOM_COMMITMENT_HOURS)
    is_late = commitment.created_at < timezone.now() - patience
    if not is_late and _is_working(commitment, department):
        missing = [uid for uid in wanted if uid not in archived]
        if missing:
            return None
    answer = []
    for instance in commitment.instances:
        uid, reason = instance["sop_instance_uid"], None
        if instance["sop_class_uid"] != VLWholeSlideMicroscopyImageStorage:
            reason = CLASS_NOT_SUPPORTED
        elif uid not in archived:
            if _is_kept(uid, department):
                if not is_late:
                    return None
                reason = PROCESSING_FAILURE
            else:
                reason = NO_SUCH_OBJECT_INSTANCE
        answer.append({**instance, "reason": reason} if reason else dict(instance))
    return answer


def _is_working(commitment: StorageCommitment, department: int) -> bool:
    """Return whether uploads from before the request are still being processed."""
    return SlideUpload.objects.filter(
        department_id=department, state__in=WORKING, created_at__lte=commitment.updated_at
    ).exists()


def _is_kept(uid: str, department: int) -> bool:
    """Return whether the instance lies here without being in the archive yet."""
    part = [{"sop_instance_uid": uid}]
    waits = Q(state__in=WAITING, facts__instances__contains=part)
    if UploadItem.objects.filter(waits, department_id=department).exists():
        return True
    return UploadFile.objects.filter(
        upload__department_id=department,
        upload__state__in=KEPT,
        sop_instance_uid=uid,
    ).exists()


def commitments_claim() -> list[StorageCommitment]:
    """Return the answers to send now, each to one caller; an attempt counts before it is made."""
    now = timezone.now()
    claimed = []
    due = StorageCommitment.objects.filter(state=State.READY, next_attempt_at__lte=now)
    for commitment in due.select_related("peer").order_by("next_attempt_at")[:50]:
        wait = RETRY_SECONDS[min(commitment.attempts, len(RETRY_SECONDS) - 1)]
        if due.filter(pk=commitment.pk, attempts=commitment.attempts).update(
            attempts=F("attempts") + 1, next_attempt_at=now + timedelta(seconds=wait)
        ):
            commitment.attempts += 1
            claimed.append(commitment)
    return claimed


def commitment_sent(commitment: StorageCommitment) -> None:
    """Note that the peer has its answer."""
    StorageCommitment.objects.filter(pk=commitment.pk, state=State.READY).update(
        state=State.SENT, error=""
    )


def commitment_not_sent(commitment: StorageCommitment, error: str) -> None:
    """Note why the peer does not have its answer; after many attempts nobody tries again."""
    state = State.FAILED if commitment.attempts >= MAX_ATTEMPTS else State.READY
    StorageCommitment.objects.filter(pk=commitment.pk, state=State.READY).update(
        state=state, error=error[:200]
    )
