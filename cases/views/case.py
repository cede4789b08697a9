"""One case: the patient, the slides, the report and its earlier versions."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from cases import permissions, selectors
from cases.services.looks import case_view_record


@login_required
@require_safe
def case(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the case; the look at the patient is recorded."""
    found = selectors.case_detail(request.user, pk)
    case_view_record(user=request.user, case=found)
    context = {
        "case": found,
        "patient": found.patient,
        "slides": found.slides.all(),
        "report": found.current_report,
        "older_reports": [report for report in found.reports.all() if not report.is_current],
        "is_own": found.department_id in permissions.departments_of(request.user),
    }
    return render(request, "cases/case.html", context)
