"""Training of an embedding model on the site's own archive, and which slide had which part."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from cases.models import Cohort, Department, LeasedWork, SlideImage
from cases.models.base import Record
from cases.querysets import SlideImagePartQuerySet
from retrieval.querysets import TrainingRunQuerySet


class TrainingRun(LeasedWork, Record):
    """A run of training: what it was asked for, its state, and the model that came of it."""

    class State(models.TextChoices):
        QUEUED = "queued", _("Waiting")
        RUNNING = "running", _("Training")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    class Kind(models.TextChoices):
        ALIGNER = "aligner", _("Default aligner")
        REFERENCE = "reference", _("Reference network")

    name = models.SlugField(max_length=80, unique=True, help_text="Of the run and of its model")
    kind = models.CharField(max_length=10, choices=Kind)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    cohorts = models.ManyToManyField(Cohort, related_name="+")
    # The departments whose slides are in it: who lacks one of them may not read it.
    scope_department_ids = ArrayField(models.BigIntegerField())
    source = models.ForeignKey(
        "retrieval.EmbeddingModel",
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Whose kept features it learns from",
    )
    settings = models.JSONField(default=dict)
    split = models.JSONField(default=dict, help_text="How the slides were divided, in numbers")
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED, db_index=True)
    card = models.JSONField(default=dict, blank=True, help_text="The model card")
    model = models.OneToOneField(
        "retrieval.EmbeddingModel",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="training_run",
    )

    objects = TrainingRunQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(state="failed") | ~Q(reason_code=""),
                name="training_run_says_why_not",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class TrainingSlide(models.Model):
    """Which part a slide has in a run."""

    class Part(models.TextChoices):
        TRAIN = "train", _("Learned from")
        VAL = "val", _("Held out, to choose by")
        OUT = "out", _("Left out: its patient is in both parts")

    run = models.ForeignKey(TrainingRun, on_delete=models.CASCADE, related_name="slides")
    slide_image = models.ForeignKey(SlideImage, on_delete=models.CASCADE, related_name="+")
    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    part = models.CharField(max_length=5, choices=Part)
    label = models.CharField(max_length=200, blank=True)

    objects = SlideImagePartQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["run", "slide_image"], name="training_slide_once_per_run"
            )
        ]

    def __str__(self) -> str:
        return f"{self.slide_image_id}: {self.part}"
