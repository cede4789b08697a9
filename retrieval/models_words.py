"""What the search of words and its vote keep: how reports read, terms, calibrations."""

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from cases.models import Department, Report
from cases.models.base import Record
from retrieval.querysets import DepartmentOwnQuerySet


class ReportWords(models.Model):
    """What a current report affirms and denies, as full text; written when it is saved."""

    report = models.OneToOneField(
        Report, on_delete=models.CASCADE, primary_key=True, related_name="words"
    )
    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    affirmed = SearchVectorField()
    denied = SearchVectorField()
    reading_version = models.PositiveSmallIntegerField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [
            GinIndex(fields=["affirmed"], name="report_words_affirmed"),
            GinIndex(fields=["denied"], name="report_words_denied"),
        ]

    def __str__(self) -> str:
        return f"Words of report {self.report_id}"


class DepartmentTerm(Record):
    """A department's own abbreviation or synonym; its members' questions know it at once."""

    department = models.ForeignKey(Department, on_delete=models.CASCADE, related_name="+")
    form = models.CharField(
        max_length=80, help_text="As it is typed or written in reports: an abbreviation, a synonym"
    )
    meaning = models.CharField(max_length=120, help_text="What it stands for")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, editable=False
    )

    objects = DepartmentOwnQuerySet.as_manager()

    class Meta:
        ordering = ["form"]
        constraints = [
            models.UniqueConstraint(
                "department", Lower("form"), Lower("meaning"), name="department_term_is_unique"
            ),
            models.CheckConstraint(condition=~Q(form="") & ~Q(meaning=""), name="term_says_both"),
        ]

    def __str__(self) -> str:
        return f"{self.form} = {self.meaning}"


class VoteCalibration(models.Model):
    """How often a neighbour of a similarity had the same diagnosis, in one department.

    Learned from that department's own labelled cases alone, so that it tells its members nothing
    of others.
    """

    department = models.ForeignKey(Department, on_delete=models.CASCADE, related_name="+")
    model = models.ForeignKey(
        "retrieval.EmbeddingModel", on_delete=models.CASCADE, related_name="+"
    )
    similarities = models.JSONField(help_text="Ascending; agreement is read between them")
    agreements = models.JSONField(help_text="Share of neighbours with the same diagnosis, 0 to 1")
    pairs = models.PositiveIntegerField(help_text="Neighbours that it was learned from")
    patients = models.PositiveIntegerField()
    fitted_at = models.DateTimeField(auto_now=True)

    objects = DepartmentOwnQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["department", "model"], name="vote_calibration_once_per_model"
            )
        ]

    def __str__(self) -> str:
        return f"Calibration of {self.model_id} in {self.department_id}"
