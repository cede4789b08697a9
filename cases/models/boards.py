"""Tumour boards: the cases of one meeting, in the order in which they are shown."""

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models

from cases.models.base import Record
from cases.models.clinical import Case
from cases.models.images import SlideImage
from cases.models.organisation import Department
from cases.querysets import BoardItemQuerySet, OwnedQuerySet

PLACE = r"l0=\d{1,9}(,\d{1,9}){3}"


class BoardMeeting(Record):
    """A department's meeting: when, and what it is called."""

    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="boards")
    title = models.CharField(max_length=200)
    held_on = models.DateField()
    note = models.TextField(blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["-held_on", "title", "pk"]
        constraints = [
            models.CheckConstraint(condition=~models.Q(title=""), name="board_has_title"),
        ]

    def __str__(self) -> str:
        return self.title


class BoardItem(Record):
    """A case on the list: what is asked of the meeting, and where to open its slides."""

    meeting = models.ForeignKey(BoardMeeting, on_delete=models.CASCADE, related_name="items")
    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="+")
    # SET_NULL: a slide that is gone leaves the case on the list, and its place means nothing.
    slide_image = models.ForeignKey(
        SlideImage, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    place = models.CharField(
        max_length=48,
        blank=True,
        validators=[RegexValidator(rf"\A{PLACE}\Z")],
        help_text="Where the slide opens: l0=x,y,width,height in level-0 pixels",
    )
    question = models.CharField(max_length=1000, blank=True)
    position = models.PositiveIntegerField()
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )

    objects = BoardItemQuerySet.as_manager()

    class Meta:
        ordering = ["position"]
        constraints = [
            # Deferred: an order is changed by one statement that swaps positions.
            models.UniqueConstraint(
                fields=["meeting", "position"],
                name="board_position_is_unique",
                deferrable=models.Deferrable.DEFERRED,
            ),
            models.UniqueConstraint(fields=["meeting", "case"], name="board_case_once"),
        ]

    def __str__(self) -> str:
        return f"{self.position} of {self.meeting_id}"
