"""Similar slides, looked up when a slide is indexed, so that they wait on the page of its case."""

from django.db import models

from cases.models import Department, SlideImage
from cases.querysets import SlideImagePartQuerySet


class SlideNeighbours(models.Model):
    """The slides of the department that were most like one when it was indexed.

    They are read through `visible_to`, whoever looked them up: rights change.
    """

    slide_image = models.ForeignKey(SlideImage, on_delete=models.CASCADE, related_name="+")
    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    model = models.ForeignKey(
        "retrieval.EmbeddingModel", on_delete=models.CASCADE, related_name="+"
    )
    neighbours = models.JSONField(
        default=list, help_text="[id of a slide image, similarity], the nearest first"
    )
    computed_at = models.DateTimeField()

    objects = SlideImagePartQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "slide neighbours"
        constraints = [
            models.UniqueConstraint(
                fields=["slide_image", "model"], name="slide_neighbours_once_per_model"
            )
        ]

    def __str__(self) -> str:
        return f"Neighbours of {self.slide_image_id}"
