"""Consults: ask somebody about a case, see what was asked, give an opinion."""

from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST, require_safe

from cases import permissions
from cases.errors import DomainError
from cases.models import Case, Consult, Department
from cases.services import consults as service
from cases.services.audit import access_events_listed

PAGE_SIZE = 50
OF_ME, BY_US = "of-me", "by-us"
STATES = ("open", "answered", "over", "all")


class ConsultForm(forms.Form):
    """Who is asked what, until when."""

    username = forms.CharField(label=_("Colleague (user name)"), max_length=150, required=False)
    department = forms.ModelChoiceField(
        Department.objects.none(), label=_("or a department"), required=False
    )
    question = forms.CharField(
        label=_("Question"), max_length=1000, widget=forms.Textarea(attrs={"rows": 2})
    )
    until = forms.DateField(
        label=_("Until (that day included)"),
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
    )

    def __init__(self, *args: Any, case: Case, **kwargs: Any) -> None:
        today = timezone.localdate()
        kwargs.setdefault("initial", {"until": today + timedelta(days=14)})
        super().__init__(*args, **kwargs)
        self.fields["department"].queryset = Department.objects.exclude(pk=case.department_id)
        latest = today + timedelta(days=settings.CONSULT_DAYS)
        self.fields["until"].widget.attrs |= {"min": str(today), "max": str(latest)}

    def clean_until(self) -> datetime:
        day, today = self.cleaned_data["until"], timezone.localdate()
        if not today <= day <= today + timedelta(days=settings.CONSULT_DAYS):
            raise forms.ValidationError(
                _now("Choose a day from today to %(days)s days ahead.")
                % {"days": settings.CONSULT_DAYS}
            )
        return timezone.make_aware(datetime.combine(day, time.max))

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        if bool(told.get("username")) == bool(told.get("department")):
            raise forms.ValidationError(_now("Name one colleague or one department."))
        return told


class OpinionForm(forms.Form):
    opinion = forms.CharField(
        label=_("Your opinion"), max_length=10_000, widget=forms.Textarea(attrs={"rows": 4})
    )


@login_required
@require_safe
def consults(request: HttpRequest) -> HttpResponse:
    """List what was asked of the user, or by the user's departments."""
    if not permissions.departments_with(request.user, "view_identity"):
        raise PermissionDenied
    asked = BY_US if request.GET.get("show") == BY_US else OF_ME
    state = request.GET.get("state", "open")
    state = state if state in STATES else "open"
    people = "case__patient", "asked_by", "to_user", "to_department", "department"
    rows = (
        Consult.objects.asked_by_department_of(request.user)
        if asked == BY_US
        else Consult.objects.asked_of(request.user)
    )
    rows = _in_state(rows, state).filter(case__in=Case.objects.readable_by(request.user))
    order = "until" if request.GET.get("order") == "until" else "-created_at"
    rows = rows.select_related(*people).order_by(order, "pk")
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    access_events_listed(
        user=request.user,
        object_type="case",
        subjects=((row.case.patient_id, row.case.department_id) for row in page),
        detail={"page": "consults"},
    )
    context = {"page_obj": page, "asked": asked, "state": state, "order": order}
    return render(request, "cases/consults.html", context)


@login_required
@require_POST
def consult_ask(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the case to a colleague or department until a date."""
    case = Case.objects.get_visible_or_404(request.user, pk=pk)
    permissions.require(request.user, "ask_consult", case.department_id)
    form = ConsultForm(request.POST, case=case)
    if not form.is_valid():
        for errors in form.errors.values():
            messages.error(request, " ".join(errors))
    else:
        try:
            made = service.consult_ask(user=request.user, case=case, **form.cleaned_data)
        except DomainError as error:
            messages.error(request, error.message)
        else:
            messages.success(
                request, _now("%(who)s can open the case now.") % {"who": made.recipient}
            )
    return redirect("case", pk=pk)


@login_required
@require_POST
def consult_answer(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take the opinion of who was asked."""
    consult = _consult(request, pk)
    form = OpinionForm(request.POST)
    if form.is_valid():
        service.consult_answer(user=request.user, consult=consult, **form.cleaned_data)
        messages.success(request, _now("Your opinion is with the case."))
    else:
        messages.error(request, _now("Write your opinion, in 10,000 characters at most."))
    return redirect("case", pk=consult.case_id)


@login_required
@require_POST
def consult_end(request: HttpRequest, pk: UUID) -> HttpResponse:
    """End a consult before its date."""
    consult = _consult(request, pk)
    service.consult_end(user=request.user, consult=consult)
    messages.success(request, _now("The consult is ended: the case is closed to who was asked."))
    return redirect("case", pk=consult.case_id)


def _consult(request: HttpRequest, pk: UUID) -> Consult:
    rows = Consult.objects.visible_to(request.user)
    cases = Case.objects.readable_by(request.user)
    return get_object_or_404(rows.filter(case__in=cases).select_related("case"), pk=pk)


def _in_state(rows: Any, state: str) -> Any:
    if state == "open":
        return rows.open()
    if state == "answered":
        return rows.filter(answered_at__isnull=False)
    if state == "over":
        return rows.over()
    return rows
