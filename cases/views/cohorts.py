"""Cohorts: making them, filling them from cases and results, sharing, exporting."""

from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from cases import permissions, selectors
from cases.errors import DomainError
from cases.models import Case, Cohort, Department, SlideImage
from cases.services import cohorts as service
from cases.views.ids import uuids_of
from cases.views.work_list import WorkListForm

PAGE_SIZE = 50


class BadFilters(DomainError):
    """Filters that mean nothing must not become "everything"."""

    code = "bad_filters"
    message = "The filters of the list are not valid any more. Filter again."


class CohortForm(forms.Form):
    """Name, description and, of a new cohort, the department it belongs to."""

    department = forms.ModelChoiceField(
        Department.objects.none(), label=gettext_lazy("Department"), empty_label=None
    )
    name = forms.CharField(label=gettext_lazy("Name"), max_length=200)
    description = forms.CharField(
        label=gettext_lazy("What it is for"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 4}),
    )

    def __init__(self, *args, user, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        departments = permissions.departments_with(user, "curate_cohort")
        self.fields["department"].queryset = Department.objects.filter(pk__in=departments)


class EntriesForm(forms.Form):
    """The slides, or the cases with all their slides, that are to enter a cohort, and why."""

    slide_image = forms.ModelMultipleChoiceField(SlideImage.objects.none(), required=False)
    case = forms.ModelMultipleChoiceField(Case.objects.none(), required=False)
    note = forms.CharField(max_length=300, required=False)

    def __init__(self, *args, user, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fields["slide_image"].queryset = SlideImage.objects.visible_to(user)
        self.fields["case"].queryset = Case.objects.visible_to(user)


class ShareForm(forms.Form):
    """The departments that are to see the cohort."""

    departments = forms.ModelMultipleChoiceField(
        Department.objects.none(), required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args, cohort, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        others = Department.objects.exclude(pk=cohort.department_id)
        self.fields["departments"].queryset = others


@login_required
@require_GET
def cohorts(request: HttpRequest) -> HttpResponse:
    """List the cohorts of the user's departments and those shared with them."""
    rows = selectors.cohorts_listed(request.user)
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "cases/cohorts.html", {"page_obj": page})


@login_required
@require_http_methods(["GET", "POST"])
def cohort_new(request: HttpRequest) -> HttpResponse:
    """Make an empty cohort."""
    if not permissions.departments_with(request.user, "curate_cohort"):
        raise PermissionDenied
    form = CohortForm(request.POST or None, user=request.user)
    if request.method == "POST" and form.is_valid():
        try:
            made = service.cohort_create(user=request.user, **form.cleaned_data)
        except service.CohortNameTaken as error:
            form.add_error("name", error.message)
        else:
            messages.success(request, _("The cohort is there. Now add slides to it."))
            return redirect("cohort", pk=made.pk)
    return render(request, "cases/cohort_form.html", {"form": form})


@login_required
@require_GET
def cohort(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the cohort's slides, with what left it and why for its own department."""
    found = _cohort(request, pk)
    may_share = permissions.may(request.user, "share_cohort", found.department_id)
    entries = selectors.cohort_entries(request.user, found)
    context = {
        "cohort": found,
        "page_obj": Paginator(entries, PAGE_SIZE).get_page(request.GET.get("page")),
        "removed": selectors.cohort_entries_removed(request.user, found),
        "shared_with": selectors.cohort_shared_with(request.user, found),
        "share_form": ShareForm(initial={"departments": found.shared_with.all()}, cohort=found)
        if may_share
        else None,
        "may_curate_this": permissions.may(request.user, "curate_cohort", found.department_id),
        "may_export_dicom": permissions.may(
            request.user, "export_deidentified", found.department_id
        ),
        "may_export": service.may_export(request.user, found),
    }
    return render(request, "cases/cohort.html", context)


@login_required
@require_POST
def cohort_add(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Add ticked slides (`slide_image`), or with `all_filtered` every slide of a filtered list."""
    found = _cohort(request, pk)
    form = EntriesForm(request.POST, user=request.user)
    if not form.is_valid():
        messages.error(request, _("One of these slides is not there any more. Choose again."))
        return _back(request, found)
    chosen = selectors.slide_images_chosen(
        request.user, form.cleaned_data["slide_image"], form.cleaned_data["case"]
    )
    if request.POST.get("all_filtered"):
        filters = WorkListForm(request.POST, user=request.user)
        if not filters.is_valid():
            raise BadFilters
        chosen = selectors.slide_images_for_work_list(request.user, filters.filters())
    try:
        outcome = service.cohort_add(
            user=request.user,
            cohort=found,
            slide_images=chosen,
            note=form.cleaned_data["note"],
        )
    except DomainError as error:
        messages.error(request, error.message)
        return _back(request, found)
    _tell_added(request, found, outcome)
    return _back(request, found)


@login_required
@require_POST
def cohort_remove(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take the ticked entries (`entry`) out, with the reason."""
    found = _cohort(request, pk)
    try:
        count = service.cohort_remove(
            user=request.user,
            cohort=found,
            entries=uuids_of(request.POST.getlist("entry")),
            reason=request.POST.get("reason", ""),
        )
    except service.ReasonMissing as error:
        messages.error(request, error.message)
    else:
        text = ngettext("%(count)s slide removed.", "%(count)s slides removed.", count)
        messages.success(request, text % {"count": count})
    return redirect("cohort", pk=found.pk)


@login_required
@require_POST
def cohort_share(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Share the cohort with exactly the ticked departments."""
    found = _cohort(request, pk)
    permissions.require(request.user, "share_cohort", found.department_id)
    form = ShareForm(request.POST, cohort=found)
    if form.is_valid():
        service.cohort_share(
            user=request.user, cohort=found, departments=form.cleaned_data["departments"]
        )
        messages.success(request, _("Sharing is changed. It holds from now on."))
    else:
        messages.error(request, _("Choose departments from the list."))
    return redirect("cohort", pk=found.pk)


@login_required
@require_GET
def cohort_export(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Send the cohort's visible slides as a CSV file."""
    found = _cohort(request, pk)
    text = service.cohort_export_csv(user=request.user, cohort=found)
    return HttpResponse(
        # the mark makes spreadsheets read the file as UTF-8
        "\ufeff" + text,
        content_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="cohort-{found.pk}.csv"',
            "Cache-Control": "no-store",
        },
    )


def _cohort(request: HttpRequest, pk: UUID) -> Cohort:
    rows = Cohort.objects.select_related("department", "created_by")
    return rows.get_visible_or_404(request.user, pk=pk)


def _tell_added(request: HttpRequest, cohort: Cohort, outcome: service.Added) -> None:
    text = ngettext(
        "%(count)s slide added to “%(name)s”.",
        "%(count)s slides added to “%(name)s”.",
        outcome.added,
    ) % {"count": outcome.added, "name": cohort.name}
    if outcome.already_in:
        text += " " + _("%(count)s already in it.") % {"count": outcome.already_in}
    if outcome.of_other_departments:
        text += " " + _("%(count)s of other departments left out.") % {
            "count": outcome.of_other_departments
        }
    (messages.success if outcome.added else messages.info)(request, text)


def _back(request: HttpRequest, cohort: Cohort) -> HttpResponse:
    """Return to the page that asked (`next`), if it is one of ours, else to the cohort."""
    to = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(
        to, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        return redirect(to)
    return redirect("cohort", pk=cohort.pk)
