"""Emergency access: the form that opens a case for an hour, ending it, and the review queue."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from cases import permissions
from cases.errors import DomainError
from cases.models import Case, Department, EmergencyAccess
from cases.recent_authentication import require_recent_authentication
from cases.services import emergency as service
from cases.services.audit import Action, access_event_record

PAGE_SIZE = 50
EVENTS_MOST = 200
ORDERS = {
    "time": "created_at",
    "who": "user__username",
    "department": "department__name",
    "reason": "reason_code",
    "state": "outcome",
}
WAITING, ALL = "waiting", "all"


class EmergencyForm(forms.Form):
    """Whom it is about, and why."""

    department = forms.ModelChoiceField(
        Department.objects.none(), label=_("Department in charge"), empty_label=None
    )
    kind = forms.ChoiceField(
        label=_("What is opened"),
        choices=[
            (service.CASE, _("One case, by its accession number")),
            (service.PATIENT, _("All cases of a patient, by the MRN")),
        ],
    )
    number = forms.CharField(label=_("Number"), max_length=64)
    reason_code = forms.ChoiceField(label=_("Reason"), choices=EmergencyAccess.Reason)
    reason = forms.CharField(
        label=_("What happened, for the review"),
        min_length=10,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = permissions.departments_of(user)
        self.fields["department"].queryset = Department.objects.exclude(pk__in=own)


class ReviewForm(forms.Form):
    """What the privacy officer thinks of it."""

    # Nothing is chosen beforehand: the review is somebody's own judgement.
    outcome = forms.ChoiceField(
        label=_("Outcome"), choices=[("", _("Choose …")), *EmergencyAccess.Outcome.choices]
    )
    comment = forms.CharField(
        label=_("Comment"),
        max_length=1000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
    )

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        refused = told.get("outcome") == EmergencyAccess.Outcome.NOT_JUSTIFIED
        if refused and not told.get("comment", "").strip():
            self.add_error("comment", _("Say why it was not justified."))
        return told


@login_required
@require_recent_authentication
@require_http_methods(["GET", "POST"])
def emergency(request: HttpRequest) -> HttpResponse:
    """Open one case or patient of another department; show what is open."""
    if not permissions.departments_with(request.user, "break_glass"):
        raise PermissionDenied
    form = EmergencyForm(request.POST or None, user=request.user)
    if request.method == "POST" and form.is_valid():
        try:
            access = service.emergency_open(user=request.user, **form.cleaned_data)
        except DomainError as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, _now("It is open. All that you see is recorded."))
            return redirect("case", access.case_id) if access.case_id else redirect("emergency")
    opened = list(EmergencyAccess.objects.open().filter(user=request.user))
    for access in opened:
        access.cases = _cases(request.user, access)
    context = {"form": form, "opened": opened}
    return render(request, "cases/emergency.html", context)


@login_required
@require_POST
def emergency_end(request: HttpRequest, pk: UUID) -> HttpResponse:
    """End one's own access before its time."""
    access = get_object_or_404(EmergencyAccess.objects.filter(user=request.user), pk=pk)
    service.emergency_end(user=request.user, access=access)
    messages.success(request, _now("The emergency access is ended."))
    return redirect("work_list")


@login_required
@require_safe
def emergency_reviews(request: HttpRequest) -> HttpResponse:
    """List the accesses that the user reviews, those that wait first."""
    _require_reviewer(request)
    asked = request.GET.get("show", WAITING)
    rows = EmergencyAccess.objects.to_review(request.user).select_related("user", "department")
    if asked != ALL:
        rows = rows.filter(outcome="")
    order = request.GET.get("order", "-time")
    field = ORDERS.get(order.removeprefix("-"), "created_at")
    rows = rows.order_by(f"-{field}" if order.startswith("-") else field, "pk")
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    columns = [
        {
            "label": label,
            "order": f"-{name}" if order == name else name,
            "aria_sort": {name: "ascending", f"-{name}": "descending"}.get(order, ""),
        }
        for name, label in (
            ("time", _("Opened")),
            ("who", _("Who")),
            ("department", _("Department")),
            ("reason", _("Reason")),
            ("state", _("Review")),
        )
    ]
    context = {"page_obj": page, "asked": asked, "order": order, "columns": columns}
    return render(request, "cases/emergency_reviews.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def emergency_review(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show one access with all that was seen by it, and take the outcome of the review."""
    _require_reviewer(request)
    rows = EmergencyAccess.objects.to_review(request.user)
    access = get_object_or_404(rows.select_related("user", "department", "reviewed_by"), pk=pk)
    form = ReviewForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            service.emergency_review(user=request.user, access=access, **form.cleaned_data)
        except DomainError as error:
            messages.error(request, error.message)
        else:
            messages.success(request, _now("The review is kept."))
        return redirect("emergency_reviews")
    events = list(service.emergency_events(access)[:EVENTS_MOST])
    access_event_record(
        user=request.user,
        action=Action.VIEW,
        department_id=access.department_id,
        patient_id=access.patient_id,
        target=access,
        detail={"page": "emergency review"},
    )
    context = {"access": access, "form": form, "events": events}
    return render(request, "cases/emergency_review.html", context)


def _cases(user: Any, access: EmergencyAccess) -> list[Case]:
    """Return the cases that it opens."""
    rows = Case.objects.readable_by(user).filter(
        patient=access.patient_id, department=access.department_id
    )
    if access.case_id:
        rows = rows.filter(pk=access.case_id)
    return list(rows.select_related("patient").order_by("-received_on", "pk")[:100])


def _require_reviewer(request: HttpRequest) -> None:
    if not permissions.reviewed_departments(request.user):
        raise PermissionDenied
