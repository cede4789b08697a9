"""Preparing tumour boards: meetings, the cases on them, and their order."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from django.db import transaction
from django.db.models import F, Max
from django.utils.translation import gettext_lazy as _

from cases import permissions
from cases.errors import Conflict, DomainError
from cases.models import BoardItem, BoardMeeting, Case, Department, SlideImage
from cases.services.audit import Action, access_event_record

CASES_MOST = 200


class BoardIsFull(Conflict):
    """Nobody discusses hundreds of cases in one meeting."""

    code = "board_is_full"
    message = _("A meeting takes 200 cases. Make another one.")


class AlreadyOnBoard(Conflict):
    """A case stands once on a list."""

    code = "already_on_board"
    message = _("This case is already on the list.")


class SlideOfOtherCase(DomainError):
    """The slide that an item opens is one of its case."""

    code = "slide_of_other_case"
    message = _("The slide does not belong to this case.")


class PlaceWithoutSlide(DomainError):
    """A place lies on a slide."""

    code = "place_without_slide"
    message = _("A place needs the slide that it lies on.")


@transaction.atomic
def board_create(
    *, user: Any, department: Department, title: str, held_on: date, note: str = ""
) -> BoardMeeting:
    """Return a new meeting of a department in which the user prepares boards."""
    permissions.require(user, "tumour_board", department.pk)
    meeting = BoardMeeting(
        department=department, title=title.strip(), held_on=held_on, note=note, created_by=user
    )
    meeting.full_clean()
    meeting.save()
    _record(user, Action.CREATE, meeting)
    return meeting


@transaction.atomic
def board_update(
    *, user: Any, meeting: BoardMeeting, title: str, held_on: date, note: str
) -> BoardMeeting:
    """Return the meeting with its new title, day and note."""
    permissions.require(user, "tumour_board", meeting.department_id)
    meeting.title, meeting.held_on, meeting.note = title.strip(), held_on, note
    # Whoever made it may be gone, which is no error of this change.
    meeting.full_clean(exclude=["created_by"])
    meeting.save(update_fields=["title", "held_on", "note", "updated_at"])
    _record(user, Action.CHANGE, meeting)
    return meeting


@transaction.atomic
def board_remove(*, user: Any, meeting: BoardMeeting) -> None:
    """Remove the meeting with its list; cases and slides stay as they are."""
    permissions.require(user, "tumour_board", meeting.department_id)
    _record(user, Action.DELETE, meeting, {"items": meeting.items.count()})
    meeting.delete()


@transaction.atomic
def board_add(
    *,
    user: Any,
    meeting: BoardMeeting,
    cases: Iterable[Case],
    question: str = "",
    slide_images: Iterable[SlideImage] = (),
    place: str = "",
) -> list[BoardItem]:
    """Put cases at the end of the list; those that stand on it already are left where they are.

    cases, slide_images: rows that the user may see. The first slide image of a case is the one
    that its item opens. place: on the slide image, where there is one alone.
    """
    permissions.require(user, "tumour_board", meeting.department_id)
    _lock(meeting)
    there = set(meeting.items.values_list("case_id", flat=True))
    wanted = [case for case in dict.fromkeys(cases) if case.pk not in there]
    if len(there) + len(wanted) > CASES_MOST:
        raise BoardIsFull
    opens: dict[Any, SlideImage] = {}
    for image in slide_images:
        opens.setdefault(image.slide.case_id, image)
    if place and len(opens) != 1:
        raise PlaceWithoutSlide
    last = meeting.items.aggregate(last=Max("position"))["last"] or 0
    items = []
    for position, case in enumerate(wanted, start=last + 1):
        image = opens.get(case.pk)
        item = BoardItem(
            meeting=meeting,
            case=case,
            slide_image=image,
            place=place if image else "",
            question=question.strip(),
            position=position,
            added_by=user,
        )
        item.clean_fields(exclude=["meeting", "case", "slide_image", "added_by"])
        items.append(item)
    BoardItem.objects.bulk_create(items)
    if items:
        _record(user, Action.CHANGE, meeting, {"added": [str(item.case_id) for item in items]})
    return items


@transaction.atomic
def board_item_update(
    *,
    user: Any,
    item: BoardItem,
    question: str,
    slide_image: SlideImage | None,
    place: str,
) -> BoardItem:
    """Return the item with its question and where it opens; it must be visible to the user."""
    permissions.require(user, "tumour_board", item.meeting.department_id)
    if slide_image is not None and slide_image.slide.case_id != item.case_id:
        raise SlideOfOtherCase
    if place and slide_image is None:
        raise PlaceWithoutSlide
    item.question, item.slide_image, item.place = question.strip(), slide_image, place
    item.clean_fields(exclude=["meeting", "case", "slide_image", "added_by"])
    item.save(update_fields=["question", "slide_image", "place", "updated_at"])
    _record(user, Action.CHANGE, item.meeting, {"changed": str(item.case_id)})
    return item


@transaction.atomic
def board_item_move(*, user: Any, item: BoardItem, position: int) -> None:
    """Put the item at this place of the list, counted from 1; the others close up."""
    meeting = item.meeting
    permissions.require(user, "tumour_board", meeting.department_id)
    _lock(meeting)
    order = list(meeting.items.values_list("pk", flat=True))
    if item.pk not in order:
        return  # removed by another at this moment
    order.remove(item.pk)
    order.insert(min(max(position, 1), len(order) + 1) - 1, item.pk)
    _write_order(meeting, order)
    _record(user, Action.CHANGE, meeting, {"moved": str(item.case_id)})


@transaction.atomic
def board_item_remove(*, user: Any, item: BoardItem) -> None:
    """Take the case off the list."""
    meeting = item.meeting
    permissions.require(user, "tumour_board", meeting.department_id)
    _lock(meeting)
    _record(user, Action.CHANGE, meeting, {"removed": str(item.case_id)})
    position = item.position
    item.delete()
    meeting.items.filter(position__gt=position).update(position=F("position") - 1)


def _lock(meeting: BoardMeeting) -> None:
    """Let one at a time change the list."""
    BoardMeeting.objects.select_for_update().get(pk=meeting.pk)


def _write_order(meeting: BoardMeeting, order: list[Any]) -> None:
    rows = {row.pk: row for row in meeting.items.only("pk", "position")}
    changed = []
    for position, pk in enumerate(order, start=1):
        if rows[pk].position != position:
            rows[pk].position = position
            changed.append(rows[pk])
    BoardItem.objects.bulk_update(changed, ["position"])


def _record(
    user: Any, action: str, meeting: BoardMeeting, detail: dict[str, Any] | None = None
) -> None:
    access_event_record(
        user=user,
        action=action,
        department_id=meeting.department_id,
        target=meeting,
        detail=detail,
    )
