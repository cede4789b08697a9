"""Deciding that a case goes whose time of keeping is over: two people, and holds against it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cases import permissions
from cases.errors import Conflict
from cases.models import Case, CaseDeletion, LegalHold
from cases.retention_selectors import due_for, obstacle_to
from cases.row_scope import acting_for_system
from cases.services import work
from cases.services.audit import Action, access_event_record
from cases.services.queue import enqueue

RUN_TASK = "cases.tasks.delete_case_task"
State = CaseDeletion.State


class NotYetToDelete(Conflict):
    """Something speaks against deleting the case."""

    code = "not_to_delete"


class OwnProposal(Conflict):
    """Who proposed it does not approve it."""

    code = "own_proposal"
    message = _("You proposed it: somebody else approves it.")


class AlreadyDecided(Conflict):
    """Somebody else was faster."""

    code = "already_decided"
    message = _("This was decided meanwhile. Load the page again.")


class HoldIsThere(Conflict):
    """The case is on hold already."""

    code = "on_hold"
    message = _("The case is on hold already.")


@dataclass
class Proposed:
    """What came of proposing: the proposals, and the cases that were left out, with the reason."""

    made: list[CaseDeletion] = field(default_factory=list)
    left: list[tuple[Case, Any]] = field(default_factory=list)


def deletions_propose(*, user: Any, cases: Iterable[UUID], why: str) -> Proposed:
    """Propose that these cases go. Those that the user may not propose are passed over."""
    result = Proposed()
    for case in due_for(user).select_related("department").filter(pk__in=list(cases)):
        permissions.require(user, "retire_cases", case.department_id)
        with transaction.atomic():
            # Two at once: the second finds nothing to lock that is not proposed yet.
            Case.objects.select_for_update(no_key=True).get(pk=case.pk)
            if not due_for(user).filter(pk=case.pk).exists():
                continue
            obstacle = _obstacle(case)
            if obstacle is not None:
                result.left.append((case, obstacle.sentence))
                continue
            deletion = CaseDeletion.objects.create(
                department=case.department,
                case_id=case.pk,
                patient_id=case.patient_id,
                accession_number=case.accession_number,
                accession_issuer=case.accession_issuer,
                retention_years=case.department.retention_years,
                last_on=case.last_on,
                why=why,
                requested_by=user,
            )
            _record(user, deletion, "proposed", why)
        result.made.append(deletion)
    return result


def deletion_approve(*, user: Any, deletion: CaseDeletion) -> CaseDeletion:
    """Let a worker delete the case; never by who proposed it."""
    with transaction.atomic():
        deletion = _undecided(user, deletion)
        if deletion.requested_by_id == user.pk:
            raise OwnProposal
        case = Case.objects.filter(pk=deletion.case_id).first()
        obstacle = _obstacle(case) if case is not None else None
        if obstacle is not None:
            raise NotYetToDelete(obstacle.sentence, code=obstacle.code)
        _decide(user, deletion, State.QUEUED, "")
        enqueue(RUN_TASK, deletion)
        _record(user, deletion, "approved", deletion.why)
    return deletion


def deletion_decline(*, user: Any, deletion: CaseDeletion, comment: str) -> CaseDeletion:
    """Keep the case; who proposed it may withdraw in this way, too."""
    with transaction.atomic():
        deletion = _undecided(user, deletion)
        _decide(user, deletion, State.DECLINED, comment)
        _record(user, deletion, "declined", comment)
    return deletion


def deletion_stop(*, user: Any, deletion: CaseDeletion, comment: str) -> CaseDeletion:
    """Keep a case after all whose deletion was approved and stopped before anything was deleted."""
    with transaction.atomic():
        deletion = _locked(user, deletion)
        if deletion.state != State.FAILED or deletion.rows_deleted_at is not None:
            raise AlreadyDecided
        _decide(user, deletion, State.DECLINED, comment)
        _record(user, deletion, "declined", comment)
    return deletion


def deletion_retry(*, user: Any, deletion: CaseDeletion) -> CaseDeletion:
    """Let a worker try again what stopped; the approval stays."""
    with transaction.atomic():
        deletion = _locked(user, deletion)
        if not work.requeue(CaseDeletion, deletion.pk, from_states=[State.FAILED]):
            raise AlreadyDecided
        deletion.refresh_from_db()
        enqueue(RUN_TASK, deletion)
        _record(user, deletion, "retried", "")
    return deletion


def hold_place(*, user: Any, case: Case, reason: str) -> LegalHold:
    """Keep the case whatever its age. A deletion that runs waits for the lock, and sees it."""
    permissions.require(user, "retire_cases", case.department_id)
    with transaction.atomic():
        Case.objects.select_for_update(no_key=True).get(pk=case.pk)
        if LegalHold.objects.filter(case=case, lifted_at=None).exists():
            raise HoldIsThere
        hold = LegalHold.objects.create(
            department_id=case.department_id, case=case, reason=reason, placed_by=user
        )
        _record_hold(user, hold, "hold placed", reason)
    return hold


def hold_lift(*, user: Any, hold: LegalHold, reason: str) -> LegalHold:
    """End the hold; the case is due again when it is old enough."""
    permissions.require(user, "retire_cases", hold.department_id)
    with transaction.atomic():
        hold = LegalHold.objects.select_for_update().select_related("case").get(pk=hold.pk)
        if hold.lifted_at is not None:
            raise AlreadyDecided
        hold.lifted_at, hold.lifted_by, hold.lifted_reason = timezone.now(), user, reason
        hold.save(update_fields=["lifted_at", "lifted_by", "lifted_reason", "updated_at"])
        _record_hold(user, hold, "hold lifted", reason)
    return hold


def _obstacle(case: Case) -> Any:
    # An export or emergency of somebody else stands against it, seen by the user or not.
    with acting_for_system("what speaks against a deletion"):
        return obstacle_to(case)


def _locked(user: Any, deletion: CaseDeletion) -> CaseDeletion:
    permissions.require(user, "retire_cases", deletion.department_id)
    return CaseDeletion.objects.select_for_update().get(pk=deletion.pk)


def _undecided(user: Any, deletion: CaseDeletion) -> CaseDeletion:
    deletion = _locked(user, deletion)
    if deletion.state != State.PROPOSED:
        raise AlreadyDecided
    return deletion


def _decide(user: Any, deletion: CaseDeletion, state: str, comment: str) -> None:
    deletion.state, deletion.decision_comment = state, comment
    deletion.decided_by, deletion.decided_at = user, timezone.now()
    deletion.save(
        update_fields=["state", "decision_comment", "decided_by", "decided_at", "updated_at"]
    )


def _record(user: Any, deletion: CaseDeletion, act: str, reason: str) -> None:
    access_event_record(
        user=user,
        action=Action.CHANGE,
        department_id=deletion.department_id,
        patient_id=deletion.patient_id,
        target=deletion,
        reason=reason[:300],
        detail={"deletion": act, "case": str(deletion.case_id)},
    )


def _record_hold(user: Any, hold: LegalHold, act: str, reason: str) -> None:
    access_event_record(
        user=user,
        action=Action.CHANGE,
        department_id=hold.department_id,
        patient_id=hold.case.patient_id,
        target=hold.case,
        reason=reason[:300],
        detail={"retention": act},
    )
