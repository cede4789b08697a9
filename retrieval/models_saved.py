"""Questions that are asked again whenever something new could answer them."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models

from cases.models.base import Record


class SavedSearch(Record):
    """A question that its owner wants to hear of; its owner's alone."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_searches"
    )
    name = models.CharField(max_length=80)
    query = models.ForeignKey(
        "retrieval.SearchQuery", on_delete=models.CASCADE, related_name="+", help_text="As asked"
    )
    answer = models.ForeignKey(
        "retrieval.SearchQuery",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="The last answer that had something new",
    )
    known = ArrayField(models.UUIDField(), default=list, help_text="Slide images told already")
    fresh = ArrayField(models.UUIDField(), default=list, help_text="Those not looked at yet")
    shown = ArrayField(models.UUIDField(), default=list, help_text="Those last looked at")
    checked_at = models.DateTimeField(help_text="What came later may be new")

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "saved searches"
        constraints = [
            models.UniqueConstraint(fields=["user", "name"], name="saved_search_name_is_unique"),
            models.CheckConstraint(condition=~models.Q(name=""), name="saved_search_has_name"),
        ]

    def __str__(self) -> str:
        return self.name
