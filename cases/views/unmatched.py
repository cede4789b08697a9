"""The work list of slides whose patient, case or resolution a person must settle."""

from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from cases import intake_selectors, permissions
from cases.errors import DomainError
from cases.models import Department, SlideImage, UploadItem
from cases.services import matching, reconcile
from cases.services.audit import Action, access_event_record
from cases.views.uploads import UploadForm

PAGE_SIZE = 25

REASONS = (
    (matching.PATIENT_MISMATCH, gettext_lazy("Another patient than on record")),
    (matching.MIXED_PATIENTS, gettext_lazy("Another patient in the same study")),
    (matching.FORM_DISAGREES, gettext_lazy("File and form disagree")),
    (matching.ACCESSION_MISSING, gettext_lazy("No accession number")),
    (matching.MRN_MISSING, gettext_lazy("No MRN")),
    (matching.MPP_MISSING, gettext_lazy("No resolution")),
)


class UnmatchedFilters(forms.Form):
    """The filters above the list."""

    text = forms.CharField(
        label=gettext_lazy("Search"),
        required=False,
        max_length=120,
        widget=forms.TextInput(
            attrs={"type": "search", "placeholder": gettext_lazy("File name, accession number")}
        ),
    )
    department = forms.ModelChoiceField(
        Department.objects.none(),
        label=gettext_lazy("Department"),
        required=False,
        empty_label=gettext_lazy("All"),
    )
    reason = forms.ChoiceField(
        label=gettext_lazy("Reason"),
        required=False,
        choices=[("", gettext_lazy("All")), *REASONS],
    )
    show = forms.ChoiceField(
        label=gettext_lazy("Show"),
        required=False,
        choices=[("", gettext_lazy("Waiting")), ("settled", gettext_lazy("Settled"))],
    )

    def __init__(self, data, *, user) -> None:
        super().__init__(data, label_suffix="")
        self.fields["department"].queryset = Department.objects.visible_to(user)

    def rows(self, user):
        """Return the items that pass; a field that is not valid narrows nothing."""
        self.is_valid()
        asked = {name: value for name, value in self.cleaned_data.items() if value}
        waiting = asked.pop("show", "") != "settled"
        return intake_selectors.unmatched_listed(user, waiting=waiting, **asked)


class ReconcileForm(UploadForm):
    """Whose slide it is, as a person says."""

    confirm_patient = forms.BooleanField(
        label=gettext_lazy("I have looked at the slide: the chosen patient is right"),
        required=False,
    )

    def __init__(self, *args, user, said, **kwargs) -> None:
        super().__init__(*args, user=user, **kwargs)
        del self.fields["department"]
        self.fields["slide_label"].help_text = ""
        self.fields["mpp"].help_text = ""
        # What the file itself states about its resolution is not up for choice.
        if said.mpp_source == SlideImage.MppSource.FILE:
            del self.fields["mpp"]


class DiscardForm(forms.Form):
    """Why a slide is thrown away."""

    reason = forms.CharField(label=gettext_lazy("Reason"), max_length=500)

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, label_suffix="", prefix="discard", **kwargs)


@login_required
@require_safe
def unmatched(request: HttpRequest) -> HttpResponse:
    """List the slides that wait to be matched."""
    form = UnmatchedFilters(request.GET, user=request.user)
    rows = form.rows(request.user)
    context = {
        "form": form,
        "is_filtered": any(value for name, value in request.GET.items() if name != "page"),
        "page_obj": Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page")),
    }
    return render(request, "cases/unmatched.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def unmatched_item(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show what a slide says beside what is on record; match it, or discard it."""
    item = UploadItem.objects.select_related(
        "department", "upload", "slide_image__slide__case"
    ).get_visible_or_404(request.user, pk=pk)
    if request.method == "POST":
        permissions.require(request.user, "reconcile", item.department_id)
    if item.state != UploadItem.State.UNMATCHED:
        return render(request, "cases/unmatched_settled.html", {"item": item})
    said, case, differing = intake_selectors.item_on_record(item)
    discards = "discard" in request.POST
    data = request.POST if request.method == "POST" else None
    form = ReconcileForm(
        None if discards else data, user=request.user, said=said, initial=_initial(said)
    )
    discard_form = DiscardForm(data if discards else None)
    if data and _settle(request, item, discard_form if discards else form):
        return redirect("unmatched")
    if not data:
        access_event_record(
            user=request.user,
            action=Action.VIEW,
            department_id=item.department_id,
            patient_id=case.patient_id if case else None,
            target=item,
        )
    context = {
        "item": item,
        "facts": item.facts,
        "said": said,
        "case": case,
        "differing": differing,
        "form": form,
        "discard_form": discard_form,
        "may_reconcile": permissions.may(request.user, "reconcile", item.department_id),
    }
    return render(request, "cases/unmatched_item.html", context)


def _initial(said: matching.Statement) -> dict:
    return {name: getattr(said, name) for name in (*reconcile.FIELDS, "mpp")}


def _settle(request: HttpRequest, item: UploadItem, form: forms.Form) -> bool:
    """Match or discard as the form says; returns False with the error shown on the form."""
    if not form.is_valid():
        return False
    try:
        if isinstance(form, DiscardForm):
            reconcile.item_discard(item=item, user=request.user, **form.cleaned_data)
            messages.success(request, _("The slide was discarded."))
        else:
            settled = reconcile.item_reconcile(item=item, user=request.user, **form.cleaned_data)
            if settled.state == UploadItem.State.DUPLICATE:
                messages.info(request, _("The same slide is already here; nothing was added."))
            else:
                messages.success(request, _("The slide was added to its case."))
    except DomainError as error:
        form.add_error(None, error.message)
        return False
    return True
