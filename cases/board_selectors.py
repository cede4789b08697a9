"""Reads of tumour boards: always for a user, always through `visible_to`."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Prefetch, QuerySet

from cases import permissions, selectors
from cases.models import BoardItem, BoardMeeting, SlideImage


@dataclass(frozen=True)
class BoardPlace:
    """One place of a list. item: None where the case may not be seen, of which nothing is said."""

    number: int
    item: BoardItem | None


def boards_listed(user: Any) -> QuerySet[BoardMeeting]:
    """Return the meetings of the departments in which the user shows boards, the latest first."""
    departments = permissions.departments_with(user, "tumour_board")
    return (
        BoardMeeting.objects.visible_to(user)
        .filter(department__in=departments)
        .select_related("department", "created_by")
        .annotate(item_count=Count("items"))
        .order_by("-held_on", "title", "pk")
    )


def boards_to_fill(user: Any, limit: int = 20) -> QuerySet[BoardMeeting]:
    """Return the meetings that one adds to: the newest."""
    return boards_listed(user)[:limit]


def board_items(user: Any, meeting: BoardMeeting | str | None) -> QuerySet[BoardItem]:
    """Return the items of the list whose case the user may see. meeting: it, or its id."""
    return (
        BoardItem.objects.visible_to(user)
        .filter(meeting=meeting)
        .select_related("case__patient", "case__department", "added_by")
        .prefetch_related(
            Prefetch("slide_image", SlideImage.objects.visible_to(user).select_related("slide")),
            selectors.current_reports(user, "case__reports"),
        )
        .order_by("position")
    )


def board_places(user: Any, meeting: BoardMeeting) -> list[BoardPlace]:
    """Return the whole list, with a gap where a case may not be seen."""
    seen = {item.pk: item for item in board_items(user, meeting)}
    order = BoardItem.objects.filter(meeting=meeting).order_by("position")
    return [
        BoardPlace(number, seen.get(pk))
        for number, pk in enumerate(order.values_list("pk", flat=True), start=1)
    ]
