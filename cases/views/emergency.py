"""Emergency access: the form that opens a case for an hour, and ending it."""

from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST

from cases import permissions
from cases.errors import DomainError
from cases.models import Case, Department, EmergencyAccess
from cases.recent_authentication import require_recent_authentication
from cases.services import emergency as service


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
    context = {"form": form, "opened": opened, "emergency_minutes": settings.EMERGENCY_MINUTES}
    return render(request, "cases/emergency.html", context)


@login_required
@require_POST
def emergency_end(request: HttpRequest, pk: UUID) -> HttpResponse:
    """End one's own access before its time, or one that one reviews."""
    access = get_object_or_404(EmergencyAccess.objects.visible_to(request.user), pk=pk)
    service.emergency_end(user=request.user, access=access)
    messages.success(request, _now("The emergency access is ended."))
    if access.user_id == request.user.pk:
        return redirect("work_list")
    return redirect("emergency_review", pk=pk)


def _cases(user: Any, access: EmergencyAccess) -> list[Case]:
    """Return the cases that it opens."""
    rows = Case.objects.readable_by(user).filter(
        patient=access.patient_id, department=access.department_id
    )
    if access.case_id:
        rows = rows.filter(pk=access.case_id)
    return list(rows.select_related("patient").order_by("-received_on", "pk")[:100])
