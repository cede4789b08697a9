"""The first page: the cases of the user's departments."""

from dataclasses import replace
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST, require_safe

from cases import index_states, permissions, selectors
from cases.errors import DomainError
from cases.models import Department, Report, SavedView
from cases.paging import BoundedPaginator
from cases.selectors import CaseFilters
from cases.services.audit import access_events_listed
from cases.services.saved_views import saved_view_delete, saved_view_save
from cases.views.columns import column_head

PAGE_SIZE = 25

COLUMNS = (
    ("accession", _("Accession")),
    ("patient", _("Patient")),
    (None, _("Organ")),
    (None, _("Stain")),
    ("diagnosis", _("Diagnosis")),
    ("report", _("Report")),
    (None, _("Index")),
    ("received", _("Received")),
    ("department", _("Department")),
)


class WorkListForm(forms.Form):
    """The filters above the list; also read by the cohort page that takes the filtered cases."""

    text = forms.CharField(label=_("Search"), required=False, max_length=120)
    department = forms.ModelChoiceField(
        Department.objects.none(), label=_("Department"), required=False, empty_label=_("All")
    )
    organ = forms.ChoiceField(label=_("Organ"), required=False)
    stain = forms.ChoiceField(label=_("Stain"), required=False)
    report_status = forms.ChoiceField(
        label=_("Report"),
        required=False,
        choices=[("", _("All")), (selectors.NO_REPORT, _("None yet")), *Report.Status.choices],
    )
    index_state = forms.ChoiceField(label=_("Index"), required=False)
    received_from = forms.DateField(
        label=_("Received from"),
        required=False,
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
    )
    received_to = forms.DateField(
        label=_("to"),
        required=False,
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
    )

    def __init__(self, data, *, user) -> None:
        super().__init__(data)
        self.fields["text"].widget.attrs.update(
            {
                "type": "search",
                "placeholder": _("Accession number, name or MRN")
                if permissions.departments_with(user, "view_identity")
                else _("Names and numbers are hidden"),
                "data-find": True,
            }
        )
        self.fields["department"].queryset = selectors.departments_seen(user)
        self.fields["index_state"].choices = [("", _("All")), *index_states.choices()]
        for name, values in (
            ("organ", selectors.organs_seen(user)),
            ("stain", selectors.stains_seen(user)),
        ):
            self.fields[name].choices = [("", _("All")), *((value, value) for value in values)]

    def filters(self) -> CaseFilters:
        """Return what was asked; a field that is not valid narrows nothing."""
        self.is_valid()
        values = {name: value for name, value in self.cleaned_data.items() if value}
        if "department" in values:
            values["department"] = values["department"].pk
        return CaseFilters(**values)


@login_required
@require_safe
def work_list(request: HttpRequest) -> HttpResponse:
    """Show one page of the cases that pass the filters."""
    form = WorkListForm(request.GET, user=request.user)
    filters = form.filters()
    order = request.GET.get("order", "-received")
    paginator = _paginator(request, filters, order)
    is_near = bool(filters.text) and paginator.count == 0
    if is_near:
        paginator = _paginator(request, replace(filters, is_near=True), order)
    page = paginator.get_page(request.GET.get("page"))
    access_events_listed(
        user=request.user,
        object_type="case",
        subjects=((case.patient_id, case.department_id) for case in page),
        detail={"page": "work list"},
    )
    context = {
        "form": form,
        "is_filtered": filters != CaseFilters(),
        "is_near": is_near,
        "query": _query_of(request.GET, form),
        "saved_views": []
        if permissions.is_presenting(request.user)
        else SavedView.objects.filter(user=request.user),
        "columns": [
            column_head(
                name if name and selectors.may_order(request.user, name) else None, label, order
            )
            for name, label in COLUMNS
        ],
        "order": order,
        "page_obj": page,
        "has_clinical_role": bool(permissions.departments_of(request.user)),
    }
    return render(request, "cases/work_list.html", context)


@login_required
@require_POST
def view_save(request: HttpRequest) -> HttpResponse:
    """Keep the filters and the order that the page had, under a name."""
    if not permissions.departments_of(request.user):
        raise PermissionDenied
    name = " ".join(request.POST.get("name", "").replace("\x00", " ").split())[:60]
    asked = QueryDict(request.POST.get("query", "")[:1000])
    query = _query_of(asked, WorkListForm(asked, user=request.user))
    if not name:
        messages.error(request, _now("Give the view a name."))
    else:
        try:
            saved_view_save(user=request.user, name=name, query=query)
            messages.success(request, _now("The view is kept as “%(name)s”.") % {"name": name})
        except DomainError as error:
            messages.error(request, error.message)
    return redirect(f"{reverse('work_list')}?{query}")


@login_required
@require_POST
def view_delete(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Forget one of the user's own views."""
    saved_view_delete(view=get_object_or_404(SavedView, user=request.user, pk=pk))
    messages.success(request, _now("The view is removed."))
    return redirect("work_list")


def _paginator(request: HttpRequest, filters: CaseFilters, order: str) -> BoundedPaginator:
    cases = selectors.cases_for_work_list(request.user, filters, order=order)
    counted = selectors.cases_to_count(request.user, filters)
    return BoundedPaginator(cases, PAGE_SIZE, counted=counted)


def _query_of(asked: QueryDict, form: WorkListForm) -> str:
    """Return the query string of the filters and the order alone, always in the same way."""
    order = asked.get("order", "")
    known = order.removeprefix("-") in selectors.CASE_ORDERS and order != "-received"
    values = {name: asked.get(name, "").strip() for name in form.fields}
    return urlencode(
        {name: value for name, value in values.items() if value}
        | ({"order": order} if known else {})
    )
