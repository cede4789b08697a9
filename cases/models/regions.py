"""Regions and measurements that people draw on a slide."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from cases.models.base import Record
from cases.models.images import SlideImage
from cases.models.organisation import Department
from cases.querysets import SlideRegionQuerySet
from cases.wsi import outlines


class SlideRegion(Record):
    """An outline or a line on a scan, with a name and a note. Free text: it may name people."""

    class Kind(models.TextChoices):
        RECTANGLE = outlines.RECTANGLE, _("Rectangle")
        POLYGON = outlines.POLYGON, _("Polygon")
        FREEHAND = outlines.FREEHAND, _("Freehand")
        LINE = outlines.LINE, _("Measurement")

    slide_image = models.ForeignKey(SlideImage, on_delete=models.CASCADE, related_name="regions")
    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=10, choices=Kind)
    points = models.JSONField(help_text="[[x, y], …] in level-0 pixels; a ring closes itself")
    name = models.CharField(max_length=120, blank=True)
    note = models.CharField(max_length=2000, blank=True)

    objects = SlideRegionQuerySet.as_manager()

    class Meta:
        ordering = ["created_at", "pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=[outlines.RECTANGLE, outlines.POLYGON, outlines.FREEHAND,
                                      outlines.LINE]),
                name="region_kind_is_known",
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.name or self.get_kind_display()

    @property
    def length_um(self) -> float:
        """Return the length of a line, or of the ring around, in µm."""
        is_closed = self.kind != outlines.LINE
        return outlines.length(self.points, self.slide_image.mpp, is_closed=is_closed)

    @property
    def area_um2(self) -> float | None:
        """Return the area in µm²; None of a line, and of an outline that crosses itself."""
        if self.kind == outlines.LINE or outlines.crosses_itself(self.points):
            return None
        return outlines.area(self.points, self.slide_image.mpp)
