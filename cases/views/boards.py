"""Tumour boards: meetings, their lists, and walking through one."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from cases import board_selectors, permissions, selectors
from cases.errors import DomainError
from cases.models import BoardItem, BoardMeeting, Case, Department, SlideImage
from cases.services import boards as service
from cases.services.audit import access_events_listed
from cases.services.looks import case_view_record

PAGE_SIZE = 50


class BoardForm(forms.ModelForm):
    """When a meeting is and what it is called; of a new one, the department too."""

    class Meta:
        model = BoardMeeting
        fields = ("title", "held_on", "department", "note")
        labels = {
            "title": gettext_lazy("Title"),
            "held_on": gettext_lazy("Day"),
            "department": gettext_lazy("Department"),
            "note": gettext_lazy("Note (optional)"),
        }
        widgets = {
            "held_on": forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
            "note": forms.Textarea(attrs={"rows": 3}),
        }

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        departments = permissions.departments_with(user, "tumour_board")
        field = self.fields["department"]
        field.queryset = Department.objects.filter(pk__in=departments)
        field.empty_label = None
        if not self.instance._state.adding:
            del self.fields["department"]


class AddForm(forms.Form):
    """Cases, or slides of cases, that are to be shown, and what is asked about them."""

    case = forms.ModelMultipleChoiceField(Case.objects.none(), required=False)
    slide_image = forms.ModelMultipleChoiceField(SlideImage.objects.none(), required=False)
    question = forms.CharField(max_length=1000, required=False)
    place = forms.CharField(max_length=48, required=False)

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["case"].queryset = Case.objects.visible_to(user)
        self.fields["slide_image"].queryset = SlideImage.objects.visible_to(user).select_related(
            "slide__case"
        )


@login_required
@require_safe
def boards(request: HttpRequest) -> HttpResponse:
    """List the meetings of the user's departments."""
    _require_somewhere(request)
    rows = board_selectors.boards_listed(request.user)
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"page_obj": page, "today": timezone.localdate()}
    return render(request, "cases/boards.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def board_new(request: HttpRequest) -> HttpResponse:
    """Make an empty list."""
    _require_somewhere(request)
    form = BoardForm(
        request.POST or None, user=request.user, initial={"held_on": timezone.localdate()}
    )
    if request.method == "POST" and form.is_valid():
        made = service.board_create(user=request.user, **form.cleaned_data)
        messages.success(request, _("The list is there. Now add cases to it."))
        return redirect("board", pk=made.pk)
    return render(request, "cases/board_form.html", {"form": form})


@login_required
@require_safe
def board(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the list of a meeting, to be put in order."""
    meeting = _meeting(request, pk)
    places = board_selectors.board_places(request.user, meeting)
    cases = [place.item.case for place in places if place.item]
    access_events_listed(
        user=request.user,
        object_type="case",
        subjects=((case.patient_id, case.department_id) for case in cases),
        detail={"page": "tumour board"},
    )
    context = {
        "meeting": meeting,
        "places": places,
        "form": BoardForm(instance=meeting, user=request.user),
    }
    return render(request, "cases/board.html", context)


@login_required
@require_POST
def board_change(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Change title, day and note."""
    meeting = _meeting(request, pk)
    form = BoardForm(request.POST, instance=meeting, user=request.user)
    if form.is_valid():
        service.board_update(user=request.user, meeting=meeting, **form.cleaned_data)
    else:
        messages.error(request, _("A meeting needs a title and a day."))
    return redirect("board", pk=pk)


@login_required
@require_POST
def board_remove(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Remove the meeting with its list."""
    service.board_remove(user=request.user, meeting=_meeting(request, pk))
    messages.success(request, _("The list is removed. Its cases stay as they are."))
    return redirect("boards")


@login_required
@require_POST
def board_add(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Add the ticked cases (`case`) and the cases of ticked slides (`slide_image`)."""
    meeting = _meeting(request, pk)
    form = AddForm(request.POST, user=request.user)
    if not form.is_valid():
        messages.error(request, _("One of these cases is not there any more. Choose again."))
        return _back(request, meeting)
    images = list(form.cleaned_data["slide_image"])
    cases = [*form.cleaned_data["case"], *(image.slide.case for image in images)]
    try:
        added = service.board_add(
            user=request.user,
            meeting=meeting,
            cases=cases,
            question=form.cleaned_data["question"],
            # A whole case is shown from its first slide on.
            slide_images=[] if form.cleaned_data["case"] else images,
            place=form.cleaned_data["place"],
        )
    except DomainError as error:
        messages.error(request, error.message)
    except ValidationError:
        messages.error(request, _("The place or the question is not valid."))
    else:
        text = ngettext(
            "%(count)s case added to “%(title)s”.",
            "%(count)s cases added to “%(title)s”.",
            len(added),
        )
        tell = messages.success if added else messages.info
        tell(request, text % {"count": len(added), "title": meeting.title})
    return _back(request, meeting)


@login_required
@require_POST
def board_item_change(request: HttpRequest, pk: UUID, item_pk: UUID) -> HttpResponse:
    """Change the question of a case on the list."""
    item = _item(request, pk, item_pk)
    image = item.slide_image
    if image and not SlideImage.objects.visible_to(request.user).filter(pk=image.pk).exists():
        image = None
    service.board_item_update(
        user=request.user,
        item=item,
        question=request.POST.get("question", "").replace("\x00", " ")[:1000],
        slide_image=image,
        place=item.place if image else "",
    )
    return redirect("board", pk=pk)


@login_required
@require_POST
def board_item_move(request: HttpRequest, pk: UUID, item_pk: UUID) -> HttpResponse:
    """Move a case up or down (`by`), or to a place of the list (`position`)."""
    item = _item(request, pk, item_pk)
    position = item.position + _number(request.POST.get("by"), 0)
    position = _number(request.POST.get("position"), position)
    service.board_item_move(user=request.user, item=item, position=position)
    return redirect(f"{reverse('board', args=[pk])}#item-{item.pk}")


@login_required
@require_POST
def board_item_remove(request: HttpRequest, pk: UUID, item_pk: UUID) -> HttpResponse:
    """Take a case off the list."""
    service.board_item_remove(user=request.user, item=_item(request, pk, item_pk))
    messages.success(request, _("The case is taken off the list."))
    return redirect("board", pk=pk)


@login_required
@require_safe
def board_walk(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show one case of the list (`at`, from 1) with its slides; the look is recorded."""
    meeting = _meeting(request, pk)
    places = board_selectors.board_places(request.user, meeting)
    if not places:
        messages.info(request, _("The list is empty. Add cases to it first."))
        return redirect("board", pk=pk)
    at = min(max(_number(request.GET.get("at"), 1), 1), len(places))
    context = {
        "meeting": meeting,
        "at": at,
        "count": len(places),
        "before": at - 1 if at > 1 else None,
        "after": at + 1 if at < len(places) else None,
        "item": places[at - 1].item,
        **_shown(request, places[at - 1].item),
    }
    return render(request, "cases/board_walk.html", context)


def _shown(request: HttpRequest, item: BoardItem | None) -> dict[str, Any]:
    """Return what the page shows of a case: its patient, report and slides."""
    if item is None:
        return {}
    case_view_record(user=request.user, case=item.case)
    tray = list(selectors.slide_images_of_case(request.user, item.case))
    asked = request.GET.get("slide", "")
    first = item.slide_image.pk if item.slide_image else None
    chosen = next((image for image in tray if str(image.pk) == asked), None)
    chosen = chosen or next((image for image in tray if image.pk == first), None)
    chosen = chosen or next(iter(tray), None)
    return {
        "case": item.case,
        "patient": item.case.patient,
        "report": selectors.current_report(request.user, item.case),
        "tray": tray,
        "slide_image": chosen,
        "place": item.place if chosen and chosen.pk == first else "",
    }


def _require_somewhere(request: HttpRequest) -> None:
    if not permissions.departments_with(request.user, "tumour_board"):
        raise PermissionDenied


def _meeting(request: HttpRequest, pk: UUID) -> BoardMeeting:
    meeting: BoardMeeting = BoardMeeting.objects.select_related("department").get_visible_or_404(
        request.user, pk=pk
    )
    permissions.require(request.user, "tumour_board", meeting.department_id)
    return meeting


def _item(request: HttpRequest, pk: UUID, item_pk: UUID) -> BoardItem:
    meeting = _meeting(request, pk)
    item: BoardItem = (
        BoardItem.objects.filter(meeting=meeting)
        .select_related("meeting", "slide_image__slide")
        .get_visible_or_404(request.user, pk=item_pk)
    )
    return item


def _number(text: str | None, otherwise: int) -> int:
    try:
        return int(str(text)[:9])
    except ValueError:
        return otherwise


def _back(request: HttpRequest, meeting: BoardMeeting) -> HttpResponse:
    """Return to the page that asked (`next`), if it is one of ours, else to the list."""
    to = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(
        to, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        return redirect(to)
    return redirect("board", pk=meeting.pk)
