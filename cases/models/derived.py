"""DICOM objects that were made here from a slide image: what a model saw, for other viewers."""

from pathlib import Path

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from cases.models.base import Record
from cases.models.images import SlideImage
from cases.models.organisation import Department
from cases.querysets import SlideImagePartQuerySet


class DerivedInstance(Record):
    """One SOP instance that says something about a slide image; a series of its own.

    It belongs to the study of its slide. One row for each kind and maker: what is made again
    replaces it, under the same series and another SOP instance UID.
    """

    class Kind(models.TextChoices):
        ANNOTATIONS = "annotations", _("Microscopy Bulk Simple Annotations")
        PARAMETRIC_MAP = "parametric_map", _("Parametric Map")

    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    slide_image = models.ForeignKey(
        SlideImage, on_delete=models.CASCADE, related_name="derived_instances"
    )
    kind = models.CharField(max_length=16, choices=Kind)
    maker = models.CharField(max_length=80, help_text="Name of the model that made it")
    sop_class_uid = models.CharField("SOP Class UID", max_length=64)
    sop_instance_uid = models.CharField("SOP Instance UID", max_length=64)
    study_instance_uid = models.CharField("Study Instance UID", max_length=64)
    series_instance_uid = models.CharField("Series Instance UID", max_length=64)
    modality = models.CharField(max_length=16, help_text="ANN, OT")
    series_number = models.PositiveIntegerField()
    series_description = models.CharField(max_length=64, blank=True)
    transfer_syntax_uid = models.CharField("Transfer Syntax UID", max_length=64)
    sha256 = models.CharField(max_length=64)
    file_name = models.CharField(max_length=80, help_text="In the folder of derived objects")
    size_bytes = models.BigIntegerField()
    # None where the object has no pixels.
    rows = models.PositiveIntegerField(null=True)
    columns = models.PositiveIntegerField(null=True)
    frame_count = models.PositiveIntegerField(null=True)

    objects = SlideImagePartQuerySet.as_manager()

    class Meta:
        ordering = ["slide_image", "series_number"]
        constraints = [
            models.UniqueConstraint(
                fields=["slide_image", "kind", "maker"],
                name="derived_instance_once_per_kind_and_maker",
            ),
            models.UniqueConstraint(
                fields=["department", "sop_instance_uid"], name="derived_instance_uid_is_unique"
            ),
        ]

    def __str__(self) -> str:
        return self.sop_instance_uid

    @property
    def path(self) -> Path:
        """Return its file, a whole DICOM file (PS3.10)."""
        return settings.DATA_DIR / "derived" / str(self.slide_image_id) / self.file_name
