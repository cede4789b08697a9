"""The review queue of emergency accesses, for the privacy officer of the department."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from cases import permissions
from cases.audit_selectors import named_objects
from cases.errors import DomainError
from cases.models import Department, EmergencyAccess
from cases.services import emergency as service
from cases.services.audit import Action, access_event_record
from cases.views.columns import column_head

PAGE_SIZE = 50
EVENTS_MOST = 200
ORDERS = {
    "time": ("created_at", _("Opened")),
    "who": ("user__username", _("Who")),
    "department": ("department__name", _("Department")),
    "reason": ("reason_code", _("Reason")),
    "state": ("outcome", _("Review")),
}
WAITING, OPEN, ALL = "waiting", "open", "all"


class QueueForm(forms.Form):
    """Which accesses are listed."""

    show = forms.ChoiceField(
        label=_("State"),
        required=False,
        choices=[
            (WAITING, _("Waiting for review")),
            (OPEN, _("Open now")),
            *EmergencyAccess.Outcome.choices,
            (ALL, _("All")),
        ],
    )
    department = forms.ModelChoiceField(
        Department.objects.none(), label=_("Department"), required=False, empty_label=_("All")
    )
    reason = forms.ChoiceField(
        label=_("Reason"),
        required=False,
        choices=[("", _("All")), *EmergencyAccess.Reason.choices],
    )
    who = forms.CharField(label=_("User name"), required=False, max_length=150)

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        reviewed = permissions.reviewed_departments(user)
        self.fields["department"].queryset = Department.objects.filter(pk__in=reviewed)

    def narrow(self, rows: QuerySet[EmergencyAccess]) -> QuerySet[EmergencyAccess]:
        """Return those that are asked for; a field that is not valid narrows nothing."""
        self.is_valid()
        asked = self.cleaned_data
        show = asked.get("show") or WAITING
        if show == WAITING:
            rows = rows.filter(outcome="")
        elif show == OPEN:
            rows = rows.open()
        elif show != ALL:
            rows = rows.filter(outcome=show)
        wanted = {
            "department": asked.get("department"),
            "reason_code": asked.get("reason"),
            "user__username__iexact": asked.get("who"),
        }
        return rows.filter(**{field: value for field, value in wanted.items() if value})


class ReviewForm(forms.Form):
    """What the privacy officer thinks of it."""

    # Nothing beforehand: whoever reviews says what they think.
    outcome = forms.ChoiceField(
        label=_("Outcome"), choices=[("", _("Please choose")), *EmergencyAccess.Outcome.choices]
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
@require_safe
def emergency_reviews(request: HttpRequest) -> HttpResponse:
    """List the accesses that the user reviews: those that wait, unless others are asked for."""
    _require_reviewer(request)
    form = QueueForm(request.GET, user=request.user)
    rows = form.narrow(EmergencyAccess.objects.to_review(request.user))
    order = request.GET.get("order", "-time")
    field, _label = ORDERS.get(order.removeprefix("-"), ORDERS["time"])
    rows = rows.order_by(f"-{field}" if order.startswith("-") else field, "pk")
    page = Paginator(rows.select_related("user", "department"), PAGE_SIZE).get_page(
        request.GET.get("page")
    )
    columns = [column_head(name, label, order) for name, (_field, label) in ORDERS.items()]
    context = {"page_obj": page, "form": form, "columns": columns, "order": order}
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
            return redirect("emergency_review", pk=pk)
        messages.success(request, _now("The review is kept."))
        return redirect("emergency_reviews")
    events = list(service.emergency_events(access)[: EVENTS_MOST + 1])
    names = named_objects(request.user, events)
    for event in events:
        event.named = names.get(event.object_id, "")
    access_event_record(
        user=request.user,
        action=Action.VIEW,
        department_id=access.department_id,
        patient_id=access.patient_id,
        target=access,
        detail={"page": "emergency review"},
    )
    context = {
        "access": access,
        "form": form,
        "events": events[:EVENTS_MOST],
        "events_more": len(events) > EVENTS_MOST,
    }
    return render(request, "cases/emergency_review.html", context)


def _require_reviewer(request: HttpRequest) -> None:
    if not permissions.reviewed_departments(request.user):
        raise PermissionDenied
