"""Scans of glass slides, and the DICOM instances they are made of."""

from django.db import models
from django.db.models import Func, Q
from django.utils.translation import gettext_lazy as _

from cases.models.base import Record
from cases.models.clinical import Slide
from cases.models.organisation import Department
from cases.querysets import SlideImagePartQuerySet, SlideImageQuerySet


class SlideImage(Record):
    """One scan of a glass slide: a DICOM series or a vendor's file. Lengths in level-0 pixels."""

    class Format(models.TextChoices):
        DICOM = "dicom", _("DICOM")
        VENDOR = "vendor", _("Vendor file")

    class MppSource(models.TextChoices):
        FILE = "file", _("from the file")
        OBJECTIVE_POWER = "objective_power", _("from the objective power")
        ENTERED = "entered", _("entered at upload")

    department = models.ForeignKey(
        Department, on_delete=models.PROTECT, related_name="slide_images"
    )
    slide = models.ForeignKey(Slide, on_delete=models.PROTECT, related_name="images")
    source_format = models.CharField(max_length=10, choices=Format)
    vendor = models.CharField(max_length=40, blank=True, help_text="OpenSlide's name: aperio …")
    content_sha256 = models.CharField(
        max_length=64, help_text="Of the file; of a series or folder: over its sorted files' hashes"
    )
    study_instance_uid = models.CharField("Study Instance UID", max_length=64, blank=True)
    series_instance_uid = models.CharField("Series Instance UID", max_length=64, blank=True)
    path = models.CharField(max_length=300, help_text="Relative to the data folder")
    size_bytes = models.BigIntegerField()
    width_l0 = models.PositiveIntegerField()
    height_l0 = models.PositiveIntegerField()
    level_count = models.PositiveSmallIntegerField()
    mpp = models.FloatField("µm per pixel", help_text="Level 0; geometric mean of both axes")
    mpp_source = models.CharField(max_length=16, choices=MppSource)
    objective_power = models.FloatField(null=True, blank=True)
    scanner = models.CharField(max_length=120, blank=True)
    scanned_at = models.DateTimeField(null=True, blank=True)
    is_fluorescence = models.BooleanField(default=False)
    is_synthetic = models.BooleanField(default=False, help_text="Made by the demo generator")
    has_label_image = models.BooleanField(default=False)
    settles_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Until then more instances of the series may come; it is indexed after that",
    )

    objects = SlideImageQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["study_instance_uid", "series_instance_uid"])]
        constraints = [
            models.UniqueConstraint(
                fields=["department", "content_sha256"], name="slide_image_content_is_unique"
            ),
            models.UniqueConstraint(
                fields=["department", "series_instance_uid"],
                condition=~Q(series_instance_uid=""),
                name="slide_image_series_is_unique",
            ),
            models.CheckConstraint(condition=Q(mpp__gt=0), name="slide_image_mpp_is_positive"),
            models.CheckConstraint(
                condition=Q(width_l0__gt=0, height_l0__gt=0), name="slide_image_has_pixels"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.slide} ({self.get_source_format_display()})"

    @property
    def case(self):
        """Return the case of the glass."""
        return self.slide.case


class StudyDate(Func):
    """The Study Date (0008,0020) of a header in the DICOM JSON model, as text."""

    template = "(%(expressions)s #>> '{00080020,Value,0}')"
    output_field = models.TextField()


class SlideInstance(Record):
    """One DICOM SOP instance of a series (PS3.3 A.32.8)."""

    class Flavor(models.TextChoices):
        VOLUME = "volume", _("Volume")
        THUMBNAIL = "thumbnail", _("Thumbnail")
        LABEL = "label", _("Label")
        OVERVIEW = "overview", _("Overview")

    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    slide_image = models.ForeignKey(SlideImage, on_delete=models.CASCADE, related_name="instances")
    sop_instance_uid = models.CharField("SOP Instance UID", max_length=64)
    sha256 = models.CharField(max_length=64)
    flavor = models.CharField(max_length=10, choices=Flavor)
    file_name = models.CharField(max_length=80, help_text="In the slide image's folder")
    size_bytes = models.BigIntegerField()
    total_columns = models.PositiveIntegerField()
    total_rows = models.PositiveIntegerField()
    frame_count = models.PositiveIntegerField()
    transfer_syntax_uid = models.CharField("Transfer Syntax UID", max_length=64)

    objects = SlideImagePartQuerySet.as_manager()

    class Meta:
        ordering = ["-total_columns", "sop_instance_uid"]
        indexes = [models.Index(fields=["sop_instance_uid"])]
        constraints = [
            models.UniqueConstraint(
                fields=["department", "sop_instance_uid"], name="slide_instance_uid_is_unique"
            )
        ]

    def __str__(self) -> str:
        return self.sop_instance_uid


class SlideInstanceIndex(models.Model):
    """What DICOMweb sends of an instance without parsing its file; made once, never changed.

    Reached through its instance alone, so that `visible_to` has been asked before.
    """

    instance = models.OneToOneField(
        SlideInstance, on_delete=models.CASCADE, primary_key=True, related_name="index"
    )
    metadata = models.BinaryField(help_text="cases.wsi.metadata: DICOM JSON in compressed parts")
    frame_table = models.BinaryField(help_text="cases.wsi.frames: where the frames lie")

    def __str__(self) -> str:
        return str(self.instance_id)


class SlideInstanceHeader(models.Model):
    """What DICOMweb searches of an instance; apart from it, because it is long.

    Reached through its instance alone, so that `visible_to` has been asked before.
    """

    instance = models.OneToOneField(
        SlideInstance, on_delete=models.CASCADE, primary_key=True, related_name="header"
    )
    attributes = models.JSONField(help_text="cases.wsi.attributes: small values as DICOM JSON")

    class Meta:
        indexes = [models.Index(StudyDate("attributes"), name="header_study_date")]

    def __str__(self) -> str:
        return str(self.instance_id)
