"""Where slides lie on the map of the archive, per model."""

from django.db import models

from cases.models import Department, SlideImage
from cases.models.base import Record
from cases.querysets import SlideImagePartQuerySet


class MapRun(Record):
    """One layout of the whole archive; the newest of a model is its map. No patient, no slide."""

    model = models.ForeignKey(
        "retrieval.EmbeddingModel", on_delete=models.CASCADE, related_name="+"
    )
    slide_count = models.PositiveIntegerField()
    sample_count = models.PositiveIntegerField()
    seconds = models.FloatField()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"Map of {self.model_id}"


class MapPoint(models.Model):
    """Where a slide lies in a run. Coordinates are the run's own: the middle lies within ±1."""

    run = models.ForeignKey(MapRun, on_delete=models.CASCADE, related_name="points")
    slide_image = models.ForeignKey(SlideImage, on_delete=models.CASCADE, related_name="+")
    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    x = models.FloatField()
    y = models.FloatField()

    objects = SlideImagePartQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "slide_image"], name="map_point_once_per_run")
        ]

    def __str__(self) -> str:
        return f"{self.slide_image_id} on a map"
