"""The access log, for auditors and department administrators."""

from django import forms
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from cases import audit_selectors, permissions
from cases.audit_selectors import DENIED, PATIENT, PERSON, AuditQuestion
from cases.models import AccessEvent
from cases.services.audit import Action, access_event_record

PAGE_SIZE = 50


class AuditForm(forms.Form):
    """What is asked of the log."""

    kind = forms.ChoiceField(
        label=_("Question"),
        required=False,
        choices=[
            (DENIED, _("What was refused?")),
            (PATIENT, _("Who saw this patient?")),
            (PERSON, _("What did this person see?")),
        ],
    )
    text = forms.CharField(label=_("MRN or user name"), required=False, max_length=120)
    since = forms.DateField(
        label=_("From"),
        required=False,
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
    )
    until = forms.DateField(
        label=_("to"),
        required=False,
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
    )

    def question(self) -> AuditQuestion:
        """Return what was asked; a field that is not valid narrows nothing."""
        self.is_valid()
        return AuditQuestion(**{name: value for name, value in self.cleaned_data.items() if value})


@login_required
@require_safe
def audit(request: HttpRequest) -> HttpResponse:
    """Show one page of the events that answer the question; the look is an event too."""
    departments = permissions.departments_with(request.user, "read_audit")
    if not departments:
        raise PermissionDenied("Your role does not open the access log.")
    form = AuditForm(request.GET)
    question = form.question()
    events = audit_selectors.access_events(request.user, question)
    page = Paginator(events, PAGE_SIZE).get_page(request.GET.get("page"))
    about_patient = question.kind == PATIENT and question.is_complete
    for department in sorted(departments):
        access_event_record(
            user=request.user,
            action=Action.VIEW,
            department_id=department,
            patient_id=page[0].patient_id if about_patient and len(page) else None,
            detail={"page": "access log", "question": question.kind, "number": page.number},
        )
    context = {
        "form": form,
        "question": question,
        "page_obj": page,
        "people": audit_selectors.people_summary(events) if about_patient else [],
        "done": AccessEvent.Outcome.DONE,
    }
    return render(request, "cases/audit.html", context)
