"""Writes of reports: versions that follow one another and never change."""

from typing import Any

from django.db import transaction
from django.utils import timezone

from cases import permissions
from cases.errors import Conflict, DomainError
from cases.models import Case, Report
from cases.services.audit import Action, access_event_record
from cases.services.cases import case_touch
from cases.signals import report_saved

CONTENT_FIELDS = (
    "diagnosis_line",
    "diagnosis_code",
    "diagnosis_system",
    "diagnosis_text",
    "microscopic_description",
    "gross_description",
    "comment",
)
# Postgres keeps at most 1 MiB of words of a text; a report is a few kB.
MAX_BYTES = 150_000
_Status = Report.Status


class ReportOrder(Conflict):
    """The new version may not follow the one on record."""

    code = "report_order"


class ReportTooLong(DomainError):
    """The sections together are more than full-text search can hold."""

    code = "report_too_long"
    message = f"The sections of a report hold at most {MAX_BYTES} bytes together."


def _require_order(previous: Report | None, status: str) -> None:
    """A signed report is followed by an amended one only, and only a signed one is amended."""
    signed = previous is not None and previous.is_signed
    if signed and status != _Status.AMENDED:
        raise ReportOrder("The report on record is signed: only an amended one may follow.")
    if status == _Status.AMENDED and not signed:
        raise ReportOrder("There is no signed report to amend.")


def _is_same(previous: Report, status: str, content: dict[str, str], signed_at: Any) -> bool:
    return (
        previous.status == status
        and all(getattr(previous, name) == content[name] for name in CONTENT_FIELDS)
        and (signed_at is None or previous.signed_at == signed_at)
    )


@transaction.atomic
def report_upsert(
    *,
    user: Any,
    case: Case,
    status: str,
    signed_at: Any = None,
    author: Any = None,
    **content: str,
) -> tuple[Report, bool]:
    """Save a new version, or find that it is on record already: the report and whether new.

    content: any of CONTENT_FIELDS; what is absent is empty. A final or amended report is
    signed now unless signed_at says when. The same status and content twice is one version,
    so a message may be repeated. Sends `report_saved` for a new version.
    """
    permissions.require(user, "write_report", case.department_id)
    unknown = set(content) - set(CONTENT_FIELDS)
    if unknown:
        raise TypeError(f"A report has no {sorted(unknown)}")
    content = {name: content.get(name, "") for name in CONTENT_FIELDS}
    if sum(len(text.encode()) for text in content.values()) > MAX_BYTES:
        raise ReportTooLong
    # The case's row is the lock of its reports' versions.
    case = Case.objects.select_for_update(no_key=True).get(pk=case.pk)
    previous = case.reports.filter(is_current=True).first()
    if previous is not None and _is_same(previous, status, content, signed_at):
        _record(user, case, previous, Action.VIEW)
        return previous, False
    _require_order(previous, status)
    if signed_at is None and status != _Status.PRELIMINARY:
        signed_at = timezone.now()
    case.reports.filter(is_current=True).update(is_current=False)
    report = Report.objects.create(
        case=case,
        version=previous.version + 1 if previous else 1,
        status=status,
        signed_at=signed_at,
        author=author,
        **content,
    )
    case_touch(case)
    _record(user, case, report, Action.CREATE)
    report_saved.send(sender=Report, report=report)
    return report, True


def report_save(**fields: Any) -> Report:
    """Return the report of report_upsert, for callers to whom new or known is the same."""
    return report_upsert(**fields)[0]


def _record(user: Any, case: Case, report: Report, action: str) -> None:
    access_event_record(
        user=user,
        action=action,
        department_id=case.department_id,
        patient_id=case.patient_id,
        target=report,
        detail={"version": report.version, "status": report.status},
    )
