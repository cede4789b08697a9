"""One case: the patient, the slides, the report and its earlier versions."""

from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from cases import audit_selectors, permissions, retention_selectors, selectors
from cases.audit_selectors import PATIENT, AuditQuestion
from cases.consult_selectors import consults_of_case
from cases.merge_selectors import earlier_numbers
from cases.models import Case
from cases.openings import opening_of
from cases.report_diff import report_changes
from cases.services.audit import Action, access_event_record
from cases.services.looks import case_view_record
from cases.views.consults import ConsultForm
from cases.views.retention import HoldForm, HoldLiftForm

SEEN_BY = 12


@login_required
@require_safe
def case(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the case; the look at the patient is recorded."""
    found = selectors.case_detail(request.user, pk)
    case_view_record(user=request.user, case=found)
    consults = consults_of_case(request.user, found)
    may_ask = permissions.may(request.user, "ask_consult", found.department_id)
    context = {
        "consults": consults,
        "consults_of_me": {one.pk for one in consults if one.is_of_me},
        "may_ask_consult": may_ask,
        "consult_form": ConsultForm(case=found) if may_ask else None,
        "opening": opening_of(request.user, found.pk),
        "case": found,
        "patient": found.patient,
        "slides": found.slides.all(),
        "report": found.current_report,
        "older_reports": [report for report in found.reports.all() if not report.is_current],
        "changes": report_changes(list(found.reports.all())),
        "may_read_history": permissions.may(request.user, "read_history", found.department_id),
        "earlier_numbers": earlier_numbers(request.user, found.patient),
        "may_merge": permissions.may(request.user, "merge_patients", found.department_id),
        "retention": _retention(request, found),
        "may_see_who": permissions.may(request.user, "read_audit", found.department_id),
        "is_own": found.department_id in permissions.departments_of(request.user),
    }
    return render(request, "cases/case.html", context)


def _retention(request: HttpRequest, found: Case) -> dict[str, Any] | None:
    """Return how long the case is kept, to who decides about it."""
    if not permissions.may(request.user, "retire_cases", found.department_id):
        return None
    hold = retention_selectors.hold_of(request.user, found)
    return {
        "hold": hold,
        "deletion": retention_selectors.deletion_of(request.user, found),
        "form": HoldLiftForm(auto_id="id_lift_%s") if hold else HoldForm(auto_id="id_hold_%s"),
        "years": found.department.retention_years,
    }


@login_required
@require_safe
def case_seen(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show who has seen the patient of the case, to who may read the log; the look is recorded."""
    found = Case.objects.select_related("patient").get_visible_or_404(request.user, pk=pk)
    permissions.require(request.user, "read_audit", found.department_id)
    question = AuditQuestion(PATIENT, str(found.patient_id))
    events = audit_selectors.access_events(request.user, question)
    people = audit_selectors.people_summary(events)[:SEEN_BY]
    access_event_record(
        user=request.user,
        action=Action.VIEW,
        department_id=found.department_id,
        patient_id=found.patient_id,
        detail={"page": "access log", "question": PATIENT},
    )
    return render(request, "cases/_seen.html", {"case": found, "people": people})
