"""The similar cases that wait on the page of a case."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from cases.models import Case
from cases.services.audit import Action, access_events_listed
from retrieval import selectors_similar as selectors
from retrieval.services.neighbours import neighbours_in_scope


@login_required
@require_safe
def case_similar(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the similar cases that this reader sees; each patient shown is recorded."""
    case = Case.objects.get_visible_or_404(request.user, pk=pk)
    waiting = selectors.neighbours_waiting(request.user, case)
    found = selectors.similar_cases(request.user, case, waiting)
    if len(found) < selectors.CASES_FEW:
        # Looked up in the department of the slide; this reader sees others, or they are new.
        slides = selectors.slide_images_indexed(request.user, case)
        near = {
            slide.pk: neighbours_in_scope(user=request.user, slide_image=slide) for slide in slides
        }
        found = selectors.similar_cases(request.user, case, near)
    access_events_listed(
        user=request.user,
        action=Action.SHOWN,
        object_type="case",
        object_id=str(case.pk),
        subjects=[(row.case.patient_id, row.case.department_id) for row in found],
        detail={"similar": len(found)},
    )
    return render(request, "search/_similar_cases.html", {"case": case, "similar": found})
