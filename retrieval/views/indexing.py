"""Indexing: what is under way, what was left out and why, and trying again."""

from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from cases import permissions
from cases.errors import Conflict
from cases.models import Department
from retrieval import selectors_indexing as selectors
from retrieval.models import SlideIndex
from retrieval.services.indexing import index_retry

PAGE_SIZE = 50
UNDER_WAY = {SlideIndex.State.QUEUED, SlideIndex.State.RUNNING}


class IndexingForm(forms.Form):
    """The filters above the list."""

    state = forms.ChoiceField(
        label=gettext_lazy("State"),
        required=False,
        choices=[("", gettext_lazy("All")), *SlideIndex.State.choices],
    )
    department = forms.ModelChoiceField(
        Department.objects.none(),
        label=gettext_lazy("Department"),
        required=False,
        empty_label=gettext_lazy("All"),
    )

    def __init__(self, data, *, user) -> None:
        super().__init__(data)
        self.fields["department"].queryset = Department.objects.visible_to(user)


@login_required
@require_safe
def indexing(request: HttpRequest) -> HttpResponse:
    """Show one page of index rows; to htmx, the table alone."""
    form = IndexingForm(request.GET, user=request.user)
    form.is_valid()
    state = form.cleaned_data.get("state")
    department = form.cleaned_data.get("department")
    department_id = department.pk if department else None
    rows = selectors.slide_indexes_for_list(
        user=request.user, states=[state] if state else [], department=department_id
    )
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    counts = selectors.slide_index_counts(user=request.user, department=department_id)
    may_retry = permissions.departments_with(request.user, "retry_work")
    context = {
        "form": form,
        "is_filtered": bool(state or department),
        "page_obj": page,
        "rows": [{"index": row, "may_retry": row.department_id in may_retry} for row in page],
        "counts": [
            {"state": name, "label": SlideIndex.State(name).label, "count": count}
            for name, count in counts.items()
        ],
        "catching_up": selectors.models_catching_up(user=request.user),
        "is_live": any(counts[name] for name in UNDER_WAY),
    }
    template = "retrieval/_indexing_table.html" if request.htmx else "retrieval/indexing.html"
    return render(request, template, context)


@login_required
@require_POST
def retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Queue a failed or left-out slide again."""
    index = SlideIndex.objects.get_visible_or_404(request.user, pk=pk)
    try:
        index_retry(index=index, user=request.user)
        messages.success(request, _("The slide is queued again."))
    except Conflict as error:
        messages.warning(request, error.message)
    back = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}):
        back = "indexing"
    return redirect(back)
