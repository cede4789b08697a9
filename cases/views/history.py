"""The history of a case: what its rows held before, who changed them and when."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from cases import history_selectors
from cases.models import Case
from cases.services.audit import Action, access_event_record

PAGE_SIZE = 50


@login_required
@require_safe
def case_history(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show what was changed of the case and its patient; the look is recorded."""
    case = Case.objects.select_related("patient", "department").get_visible_or_404(
        request.user, pk=pk
    )
    kind = request.GET.get("kind", "")
    rows = history_selectors.history_of_case(request.user, case, kind)
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    for change in page:
        change.fields = list(history_selectors.field_changes(change))
    access_event_record(
        user=request.user,
        action=Action.VIEW,
        department_id=case.department_id,
        patient_id=case.patient_id,
        target=case,
        detail={"page": "history"},
    )
    context = {
        "case": case,
        "patient": case.patient,
        "page_obj": page,
        "kind": kind,
        "kinds": history_selectors.KINDS,
    }
    return render(request, "cases/history.html", context)
