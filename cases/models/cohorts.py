"""Curated sets of slides."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from cases.models.base import Record
from cases.models.images import SlideImage
from cases.models.organisation import Department
from cases.querysets import CohortEntryQuerySet, CohortQuerySet


class Cohort(Record):
    """A named set of a department's slides; sharing it opens those slides to others."""

    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="cohorts")
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    shared_with = models.ManyToManyField(Department, blank=True, related_name="shared_cohorts")

    objects = CohortQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["department", "name"], name="cohort_name_is_unique")
        ]

    def __str__(self) -> str:
        return self.name


class CohortEntry(Record):
    """A slide in a cohort; a removed one stays, with the reason."""

    cohort = models.ForeignKey(Cohort, on_delete=models.CASCADE, related_name="entries")
    slide_image = models.ForeignKey(
        SlideImage, on_delete=models.CASCADE, related_name="cohort_entries"
    )
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    note = models.CharField(max_length=300, blank=True)
    removed_at = models.DateTimeField(null=True, blank=True)
    removed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    removed_reason = models.CharField(max_length=300, blank=True)

    objects = CohortEntryQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        verbose_name_plural = "cohort entries"
        constraints = [
            models.UniqueConstraint(
                fields=["cohort", "slide_image"],
                condition=Q(removed_at__isnull=True),
                name="cohort_entry_once_while_active",
            ),
            models.CheckConstraint(
                condition=Q(removed_at__isnull=True) | ~Q(removed_reason=""),
                name="cohort_entry_removed_with_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.slide_image} in {self.cohort}"
