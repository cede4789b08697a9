"""Deletion of cases whose time of keeping is over: what is due, proposals, decisions, holds."""

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
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from cases import permissions, retention_selectors
from cases.errors import DomainError
from cases.models import Case, CaseDeletion, Department, LegalHold
from cases.recent_authentication import require_recent_authentication
from cases.services import retention as service
from cases.services.audit import Action, access_event_record, access_events_listed
from cases.views.columns import column_head
from cases.views.ids import uuids_of

PAGE_SIZE = 50
MOST_AT_ONCE = 200
DUE, HELD, WAITING, DONE = "due", "held", "waiting", "done"
State = CaseDeletion.State
SHOWN_STATES = {
    WAITING: [State.PROPOSED, State.QUEUED, State.RUNNING, State.FAILED],
    DONE: [State.FINISHED, State.DECLINED],
}
ORDERS: dict[str, dict[str, tuple[str, Any]]] = {
    DUE: {
        "last": ("last_on", _("Kept since")),
        "number": ("accession_number", _("Accession number")),
        "department": ("department__name", _("Department")),
    },
    HELD: {
        "time": ("created_at", _("Since")),
        "number": ("case__accession_number", _("Accession number")),
        "department": ("department__name", _("Department")),
        "who": ("placed_by__username", _("By")),
    },
    WAITING: {
        "time": ("created_at", _("Proposed")),
        "number": ("accession_number", _("Accession number")),
        "department": ("department__name", _("Department")),
        "who": ("requested_by__username", _("By")),
        "state": ("state", _("State")),
    },
}
ORDERS[DONE] = ORDERS[WAITING]


class RetentionForm(forms.Form):
    """Which rows are listed."""

    show = forms.ChoiceField(
        label=_("Show"),
        required=False,
        choices=[
            (DUE, _("Due for deletion")),
            (WAITING, _("Proposed or under way")),
            (DONE, _("Deleted or declined")),
            (HELD, _("On legal hold")),
        ],
    )
    department = forms.ModelChoiceField(
        Department.objects.none(), label=_("Department"), required=False, empty_label=_("All")
    )
    number = forms.CharField(label=_("Accession number"), required=False, max_length=64)

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        deciding = permissions.departments_with(user, "retire_cases")
        self.fields["department"].queryset = Department.objects.filter(pk__in=deciding)

    def narrow(self, rows: QuerySet, number_field: str) -> QuerySet:
        """Return those that are asked for; a field that is not valid narrows nothing."""
        self.is_valid()
        asked = self.cleaned_data
        if asked.get("department"):
            rows = rows.filter(department=asked["department"])
        if number := (asked.get("number") or "").replace("\x00", "").strip():
            rows = rows.filter(**{f"{number_field}__icontains": number})
        return rows


class ProposeForm(forms.Form):
    """Why the ticked cases go."""

    why = forms.CharField(
        label=_("Why they are deleted"),
        min_length=5,
        max_length=500,
        help_text=_("It stays on record, with your name."),
    )


class DecideForm(forms.Form):
    """What is decided of a proposal."""

    act = forms.ChoiceField(choices=[(act, act) for act in ("approve", "decline", "retry", "stop")])
    comment = forms.CharField(
        label=_("Comment"), required=False, max_length=500, widget=forms.Textarea({"rows": 2})
    )


class HoldForm(forms.Form):
    """Why a case is kept."""

    reason = forms.CharField(label=_("Why it is kept"), min_length=5, max_length=500)


class HoldLiftForm(forms.Form):
    """Why it need not be kept any more."""

    reason = forms.CharField(label=_("Why the hold ends"), min_length=5, max_length=500)


def _require(request: HttpRequest) -> frozenset[int]:
    deciding = permissions.departments_with(request.user, "retire_cases")
    if not deciding:
        raise PermissionDenied
    return deciding


@login_required
@require_safe
def retention(request: HttpRequest) -> HttpResponse:
    """List what is due, proposed, done or held, in the departments of which the user decides."""
    _require(request)
    form = RetentionForm(request.GET, user=request.user)
    form.is_valid()
    show = form.cleaned_data.get("show") or DUE
    if show == DUE:
        rows = form.narrow(retention_selectors.due_for(request.user), "accession_number")
        rows = rows.select_related("department")
    elif show == HELD:
        rows = LegalHold.objects.visible_to(request.user).filter(lifted_at=None)
        rows = form.narrow(rows, "case__accession_number")
        rows = rows.select_related("department", "case", "placed_by")
    else:
        rows = CaseDeletion.objects.visible_to(request.user).filter(state__in=SHOWN_STATES[show])
        rows = form.narrow(rows, "accession_number")
        rows = rows.select_related("department", "requested_by", "decided_by")
    orders = ORDERS[show]
    first = next(iter(orders))
    order = request.GET.get("order") or (first if show == DUE else f"-{first}")
    field, _label = orders.get(order.removeprefix("-"), orders[first])
    rows = rows.order_by(f"-{field}" if order.startswith("-") else field, "pk")
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    if show == DUE:
        page.object_list = retention_selectors.with_extent(list(page.object_list))
    _list_record(request, show, page)
    context = {
        "page_obj": page,
        "form": form,
        "show": show,
        "propose_form": ProposeForm(),
        "columns": [column_head(name, label, order) for name, (_f, label) in orders.items()],
        "order": order,
        "has_policy": form.fields["department"].queryset.filter(retention_years__isnull=False),
    }
    return render(request, "cases/retention.html", context)


@login_required
@require_recent_authentication
@require_POST
def retention_propose(request: HttpRequest) -> HttpResponse:
    """Propose that the ticked cases go."""
    _require(request)
    form = ProposeForm(request.POST)
    ticked = uuids_of(request.POST.getlist("case")[:MOST_AT_ONCE])
    if not form.is_valid():
        messages.error(request, _now("Say in a few words why they are deleted."))
    elif not ticked:
        messages.error(request, _now("Tick the cases first."))
    else:
        done = service.deletions_propose(
            user=request.user, cases=ticked, why=form.cleaned_data["why"]
        )
        count = len(done.made)
        told = ngettext("%(n)d case is proposed.", "%(n)d cases are proposed.", count)
        told = told % {"n": count} + " " + _now("Somebody else approves what is to be deleted.")
        if count:
            messages.success(request, told)
        for case, sentence in done.left[:10]:
            messages.warning(request, f"{case.accession_number}: {sentence}")
        if not count and not done.left:
            messages.error(request, _now("None of them can be proposed. Load the list again."))
    return redirect("retention")


@login_required
@require_safe
def deletion(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show one proposal: what goes, who decides, what came of it."""
    _require(request)
    found = _deletion(request, pk)
    case = Case.objects.visible_to(request.user).filter(pk=found.case_id).first()
    access_event_record(
        user=request.user,
        action=Action.VIEW,
        department_id=found.department_id,
        patient_id=found.patient_id,
        target=found,
        detail={"page": "deletion"},
    )
    context = {
        "deletion": found,
        "case": retention_selectors.with_extent([case])[0] if case else None,
        "is_own": found.requested_by_id == request.user.pk,
        "form": DecideForm(),
    }
    return render(request, "cases/deletion.html", context)


@login_required
@require_recent_authentication
@require_POST
def deletion_decide(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Approve, decline, try again or give up a deletion."""
    _require(request)
    found = _deletion(request, pk)
    form = DecideForm(request.POST)
    if not form.is_valid():
        messages.error(request, _now("That is not something to decide."))
        return redirect("deletion", pk=pk)
    comment = form.cleaned_data["comment"]
    acts: dict[str, tuple[Any, dict[str, Any], str]] = {
        "approve": (
            service.deletion_approve,
            {},
            _now("Approved. A worker deletes it now; it cannot be undone."),
        ),
        "decline": (service.deletion_decline, {"comment": comment}, _now("The case is kept.")),
        "stop": (service.deletion_stop, {"comment": comment}, _now("The case is kept.")),
        "retry": (service.deletion_retry, {}, _now("It is tried again.")),
    }
    act, more, told = acts[form.cleaned_data["act"]]
    try:
        act(user=request.user, deletion=found, **more)
    except DomainError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, told)
    return redirect("deletion", pk=pk)


@login_required
@require_recent_authentication
@require_POST
def hold_place(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Keep a case whatever its age."""
    case = Case.objects.all().get_visible_or_404(request.user, pk=pk)
    permissions.require(request.user, "retire_cases", case.department_id)
    form = HoldForm(request.POST)
    if not form.is_valid():
        messages.error(request, _now("Say in a few words why it is kept."))
        return redirect("case", pk=pk)
    try:
        service.hold_place(user=request.user, case=case, reason=form.cleaned_data["reason"])
    except DomainError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, _now("The case is on legal hold."))
    return redirect("case", pk=pk)


@login_required
@require_recent_authentication
@require_POST
def hold_lift(request: HttpRequest, pk: UUID) -> HttpResponse:
    """End a hold."""
    _require(request)
    hold = get_object_or_404(LegalHold.objects.visible_to(request.user), pk=pk)
    form = HoldLiftForm(request.POST)
    if not form.is_valid():
        messages.error(request, _now("Say in a few words why the hold ends."))
        return redirect("case", pk=hold.case_id)
    try:
        service.hold_lift(user=request.user, hold=hold, reason=form.cleaned_data["reason"])
    except DomainError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, _now("The hold is over."))
    return redirect("case", pk=hold.case_id)


def _deletion(request: HttpRequest, pk: UUID) -> CaseDeletion:
    rows = CaseDeletion.objects.visible_to(request.user)
    return get_object_or_404(rows.select_related("department", "requested_by", "decided_by"), pk=pk)


def _list_record(request: HttpRequest, show: str, page: Any) -> None:
    """Record whose numbers the list showed."""
    if show == HELD:
        subjects = {(row.case.patient_id, row.department_id) for row in page}
    else:
        subjects = {(row.patient_id, row.department_id) for row in page}
    access_events_listed(
        user=request.user,
        object_type="case",
        subjects=sorted(subjects),
        detail={"page": "retention"},
    )
