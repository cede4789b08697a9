"""A tumour board in each place of the world: no cohort opens it."""

from datetime import date
from typing import Any

from cases.models import BoardItem, BoardMeeting, SlideImage
from tests.permissions.terms import intake_of

BOARD_KINDS = frozenset({"board", "board_empty", "board_item"})


def put_board(world: Any, place: str, department: Any, image: SlideImage) -> None:
    """Add a meeting with the case of the place on its list."""
    meeting = BoardMeeting.objects.create(
        department=department, title=f"Board-{place}", held_on=date(2026, 12, 1)
    )
    item = BoardItem.objects.create(
        meeting=meeting,
        case=image.slide.case,
        slide_image=image,
        place="l0=0,0,64,64",
        question=f"Question-{place}",
        position=1,
    )
    empty = BoardMeeting.objects.create(
        department=department, title=f"Empty-{place}", held_on=date(2026, 12, 2)
    )
    for kind, row, text in (
        ("board", meeting, meeting.title),
        ("board_empty", empty, empty.title),
        ("board_item", item, item.question),
    ):
        world.put(kind, place, row, text, hidden_as=intake_of(place))
