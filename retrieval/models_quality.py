"""What was measured of a slide's picture, as evidence and not as tissue."""

from django.db import models

from cases.models import Department, SlideImage
from cases.querysets import SlideImagePartQuerySet


class SlideQuality(models.Model):
    """Focus and ink of one slide image; an empty value could not be measured."""

    slide_image = models.OneToOneField(SlideImage, on_delete=models.CASCADE, related_name="+")
    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    blur = models.FloatField(null=True, help_text="0 sharp to 1, the median of its places")
    pen_share = models.FloatField(null=True, help_text="Share of the whole picture that is ink")
    measured_at = models.DateTimeField(auto_now=True)

    objects = SlideImagePartQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "slide qualities"

    def __str__(self) -> str:
        return f"Quality of {self.slide_image_id}"
