"""Uploads: sending slides, following what becomes of them."""

from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from cases import intake_selectors, permissions
from cases.errors import DomainError
from cases.models import Department, Patient, SlideUpload
from cases.services import uploads as service

PAGE_SIZE = 25
FILES_SHOWN = 200
State = SlideUpload.State


class UploadForm(forms.Form):
    """What a sender says of slides whose files do not say it. Sent by upload.js to the API."""

    department = forms.ModelChoiceField(
        Department.objects.none(),
        label=gettext_lazy("Department"),
        empty_label=None,
        to_field_name="code",
    )
    accession_number = forms.CharField(
        label=gettext_lazy("Accession number"), max_length=64, required=False
    )
    mrn = forms.CharField(label=gettext_lazy("MRN"), max_length=64, required=False)
    family_name = forms.CharField(label=gettext_lazy("Family name"), max_length=120, required=False)
    given_name = forms.CharField(label=gettext_lazy("Given name"), max_length=120, required=False)
    birth_date = forms.DateField(
        label=gettext_lazy("Birth date"),
        required=False,
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
    )
    sex = forms.ChoiceField(
        label=gettext_lazy("Sex"), required=False, choices=Patient.Sex.choices, initial=""
    )
    organ = forms.CharField(label=gettext_lazy("Organ"), max_length=80, required=False)
    stain = forms.CharField(label=gettext_lazy("Stain"), max_length=80, required=False)
    slide_label = forms.CharField(
        label=gettext_lazy("Slide label"),
        max_length=80,
        required=False,
        help_text=gettext_lazy("Several slides are numbered."),
    )
    mpp = forms.FloatField(
        label=gettext_lazy("µm per pixel"),
        required=False,
        min_value=service.MPP_RANGE[0],
        max_value=service.MPP_RANGE[1],
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text=gettext_lazy("Only where the file does not state it."),
    )

    def __init__(self, *args, user, **kwargs) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)
        self.fields["department"].queryset = intake_selectors.departments_to_upload(user)


@login_required
@require_safe
def uploads(request: HttpRequest) -> HttpResponse:
    """List the uploads of the user's departments."""
    state = request.GET.get("state", "")
    rows = intake_selectors.uploads_listed(request.user, state=state if state in State else "")
    context = {
        "page_obj": Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page")),
        "states": State.choices,
        "state": state,
    }
    return render(request, "cases/uploads.html", context)


@login_required
@require_safe
def upload_new(request: HttpRequest) -> HttpResponse:
    """Show the page that takes files; upload.js sends them."""
    if not permissions.departments_with(request.user, "upload"):
        raise PermissionDenied(_("Your role does not include uploading."))
    context = {
        "form": UploadForm(user=request.user),
        "unfinished": intake_selectors.uploads_unfinished(request.user)[:10],
    }
    return render(request, "cases/upload_new.html", context)


@login_required
@require_safe
def upload(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show an upload; asked by htmx, only the part that changes while it is processed."""
    row = intake_selectors.upload_detail(request.user, pk)
    context = {
        "upload": row,
        "is_receiving": row.state == State.RECEIVING,
        "is_working": row.state in {State.QUEUED, State.RUNNING},
        "may_send": permissions.may(request.user, "upload", row.department_id)
        and (row.is_sent_by_hand or row.state != State.RECEIVING),
        "may_retry": permissions.may(request.user, "retry_work", row.department_id),
        "slide_images": [item.slide_image for item in row.items.all() if item.slide_image],
    }
    if request.htmx:
        return render(request, "cases/upload_status.html", context)
    context["files"] = row.files.all()[:FILES_SHOWN]
    return render(request, "cases/upload.html", context)


@login_required
@require_POST
def upload_retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Process a failed upload again."""
    row = SlideUpload.objects.get_visible_or_404(request.user, pk=pk)
    return _acted(request, row, service.upload_retry, _("The upload waits to be processed again."))


@login_required
@require_POST
def upload_cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Give up an upload that is receiving or has failed."""
    row = SlideUpload.objects.get_visible_or_404(request.user, pk=pk)
    return _acted(request, row, service.upload_cancel, _("The upload was cancelled."))


def _acted(request: HttpRequest, row: SlideUpload, act, done: str) -> HttpResponse:
    """Do it and say so, or say why not, on the upload's page."""
    try:
        act(upload=row, user=request.user)
        messages.success(request, done)
    except DomainError as error:
        messages.error(request, error.message)
    return redirect("upload", pk=row.pk)
