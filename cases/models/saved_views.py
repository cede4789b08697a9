"""What a reader keeps of the work list."""

from django.conf import settings
from django.db import models

from cases.models.base import Record


class SavedView(Record):
    """A named choice of filters and order of the work list; its owner's alone."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_views"
    )
    name = models.CharField(max_length=60)
    query = models.CharField(
        max_length=1000, blank=True, help_text="Query string of the page; '': all cases"
    )

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["user", "name"], name="saved_view_name_is_unique"),
            models.CheckConstraint(condition=~models.Q(name=""), name="saved_view_has_name"),
        ]

    def __str__(self) -> str:
        return self.name
