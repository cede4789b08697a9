"""Merging two numbers of one patient, and undoing it: for administrators of the department."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from cases import merge_selectors, permissions
from cases.errors import DomainError
from cases.models import Patient, PatientMerge
from cases.recent_authentication import require_recent_authentication
from cases.services.audit import Action, access_event_record
from cases.services.patient_merges import patients_merge, patients_unmerge

THIS, OTHER = "this", "other"


class MergeForm(forms.Form):
    """Which of the two numbers stays, and how it is known that they are one."""

    other = forms.UUIDField(widget=forms.HiddenInput)
    stays = forms.ChoiceField(
        label=_("Number that stays in use"),
        choices=[(THIS, _("The number of the patient above")), (OTHER, _("The other number"))],
        initial=THIS,
    )
    reason = forms.CharField(
        label=_("How it is known that they are one patient"), min_length=5, max_length=500
    )


class UnmergeForm(forms.Form):
    """Why they are two after all."""

    reason = forms.CharField(label=_("Why they are two patients"), min_length=5, max_length=500)


def _patient(request: HttpRequest, pk: UUID) -> Patient:
    patient = Patient.objects.select_related("department", "merged_into").get_visible_or_404(
        request.user, pk=pk
    )
    permissions.require(request.user, "merge_patients", patient.department_id)
    return patient


@login_required
@require_recent_authentication
@require_http_methods(["GET", "POST"])
def patient_numbers(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the numbers of a patient, look for another one by its MRN, and merge the two."""
    patient = _patient(request, pk)
    if patient.merged_into_id:
        return redirect("patient_numbers", patient.merged_into_id)
    form = None
    if request.method == "POST":
        form = MergeForm(request.POST)
        if form.is_valid() and (merge := _merged(request, patient, form)) is not None:
            return redirect("patient_numbers", merge.survivor_id)
    mrn = request.GET.get("mrn", "").replace("\x00", "").strip()[:64]
    found = merge_selectors.merge_candidates(request.user, patient, mrn) if mrn else []
    for pk_seen in (patient.pk, *(one.patient.pk for one in found)):
        _look_record(request, patient, pk_seen)
    context = {
        "patient": patient,
        "cases": patient.cases.visible_to(request.user).order_by("-received_on", "pk"),
        "mrn": mrn,
        "candidates": [
            (one, MergeForm(initial={"other": one.patient.pk}, auto_id=f"id_{number}_%s"))
            for number, one in enumerate(found)
        ],
        "form": form,
        "merges": merge_selectors.merges_of_patient(request.user, patient),
        "unmerge_form": UnmergeForm(),
    }
    return render(request, "cases/patient_numbers.html", context)


@login_required
@require_recent_authentication
@require_POST
def patient_unmerge(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Undo the merge of this patient into another."""
    patient = _patient(request, pk)
    form = UnmergeForm(request.POST)
    if not form.is_valid():
        messages.error(request, _now("Say in a few words why they are two patients."))
        return redirect("patient_numbers", patient.merged_into_id or patient.pk)
    try:
        done = patients_unmerge(
            user=request.user, merged=patient, reason=form.cleaned_data["reason"]
        )
    except DomainError as error:
        messages.error(request, error.message)
        return redirect("patient_numbers", patient.merged_into_id or patient.pk)
    count = len(done.returned)
    told = ngettext("%(n)d case is back with it.", "%(n)d cases are back with it.", count)
    messages.success(request, _now("The two are two patients again.") + " " + told % {"n": count})
    if done.stayed:
        named = _now("These stayed, because they were no longer the other patient's: %(cases)s.")
        messages.warning(request, named % {"cases": ", ".join(done.stayed)})
    return redirect("patient_numbers", patient.pk)


def _merged(request: HttpRequest, patient: Patient, form: MergeForm) -> PatientMerge | None:
    """Return the merge that was asked for, or None with the reason in the form."""
    told: dict[str, Any] = form.cleaned_data
    other = Patient.objects.all().get_visible_or_404(request.user, pk=told["other"])
    survivor, merged = (patient, other) if told["stays"] == THIS else (other, patient)
    try:
        merge, _created = patients_merge(
            user=request.user,
            survivor=survivor,
            merged=merged,
            reason=told["reason"],
            source=PatientMerge.Source.PAGE,
        )
    except DomainError as error:
        form.add_error(None, error.message)
        return None
    messages.success(request, _now("The two numbers are one patient now."))
    return merge


def _look_record(request: HttpRequest, patient: Patient, patient_id: UUID) -> None:
    access_event_record(
        user=request.user,
        action=Action.VIEW,
        department_id=patient.department_id,
        patient_id=patient_id,
        detail={"page": "patient numbers"},
    )
