"""Uploads: files on their way in, and what became of each slide found in them."""

from typing import Any, Self

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from cases.models.base import Record
from cases.models.dicom import DicomPeer
from cases.models.images import SlideImage
from cases.models.organisation import Department
from cases.models.work import LeasedWork
from cases.permissions import departments_with
from cases.querysets import IntakeQuerySet, VisibleQuerySet


class SlideUpload(LeasedWork, Record):
    """One delivery: a slide file, several, a folder of DICOM instances, or a zip of these."""

    class State(models.TextChoices):
        RECEIVING = "receiving", _("Receiving")
        QUEUED = "queued", _("Waiting")
        RUNNING = "running", _("Processing")
        FINISHED = "finished", _("Finished")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    class Source(models.TextChoices):
        PAGE = "page", _("Upload page")
        API = "api", _("API")
        COMMAND = "command", _("Command line")
        DICOM = "dicom", _("DICOM network")
        FOLDER = "folder", _("Watch folder")
        DEMO = "demo", _("Demo archive")
        DICOMWEB = "dicomweb", _("DICOMweb")

    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="uploads")
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="uploads"
    )
    dicom_peer = models.ForeignKey(
        DicomPeer, on_delete=models.SET_NULL, null=True, blank=True, related_name="uploads"
    )
    source = models.CharField(max_length=10, choices=Source, default=Source.PAGE)
    state = models.CharField(max_length=12, choices=State, default=State.RECEIVING, db_index=True)
    # What the sender says; used where the files themselves do not.
    accession_number = models.CharField(max_length=64, blank=True)
    accession_issuer = models.CharField(max_length=120, blank=True)
    mrn = models.CharField("MRN", max_length=64, blank=True)
    mrn_issuer = models.CharField("MRN issuer", max_length=120, blank=True)
    family_name = models.CharField(max_length=120, blank=True)
    given_name = models.CharField(max_length=120, blank=True)
    birth_date = models.DateField(null=True, blank=True)
    sex = models.CharField(max_length=1, blank=True)
    organ = models.CharField(max_length=80, blank=True)
    stain = models.CharField(max_length=80, blank=True)
    slide_label = models.CharField(max_length=80, blank=True)
    mpp = models.FloatField("µm per pixel", null=True, blank=True)
    is_synthetic = models.BooleanField(default=False)
    is_whole = models.BooleanField(
        default=True,
        help_text="Nothing more is to come of its series; arrivals by network do not say so",
    )

    delivery_key = models.CharField(
        max_length=64,
        blank=True,
        editable=False,
        db_index=True,
        help_text="Hash of a watched folder's delivery, which finds its upload again",
    )

    objects = IntakeQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"Upload {self.id}"

    @property
    def is_sent_by_hand(self) -> bool:
        """Return whether a person or an API client sends it, and may still change their mind.

        What a device was told is kept is nobody's to take back before it is processed.
        """
        devices = {self.Source.DICOM, self.Source.DICOMWEB, self.Source.FOLDER}
        return self.source not in devices


class UploadFilesQuerySet(VisibleQuerySet):
    def visible_to(self, user: Any) -> Self:
        known = departments_with(user, "view_identity")
        return self.filter(upload__department__in=known)


class UploadFile(Record):
    """One file of an upload, received in pieces (tus 1.0). Its bytes lie in the spool."""

    upload = models.ForeignKey(SlideUpload, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(
        max_length=400, help_text="As sent, with its folder; shown, never used as a path"
    )
    size_bytes = models.BigIntegerField()
    offset_bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(
        max_length=64, blank=True, help_text="As the sender announced it; checked before use"
    )

    sop_instance_uid = models.CharField(
        "SOP Instance UID",
        max_length=64,
        blank=True,
        help_text="Where a DICOM sender stored it: known before the file is examined",
    )
    study_instance_uid = models.CharField("Study Instance UID", max_length=64, blank=True)
    patient_id = models.CharField("Patient ID", max_length=64, blank=True)

    objects = UploadFilesQuerySet.as_manager()

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(offset_bytes__gte=0, size_bytes__gte=0)
                & models.Q(offset_bytes__lte=models.F("size_bytes")),
                name="upload_file_offset_within_size",
            )
        ]
        indexes = [
            models.Index(
                fields=["sop_instance_uid"],
                condition=~models.Q(sop_instance_uid=""),
                name="upload_file_sop_instance",
            ),
            models.Index(
                fields=["study_instance_uid"],
                condition=~models.Q(study_instance_uid=""),
                name="upload_file_study",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_complete(self) -> bool:
        """Return whether every byte has arrived."""
        return self.offset_bytes == self.size_bytes


class UploadItem(Record):
    """One slide found in an upload and what became of it."""

    class State(models.TextChoices):
        ACCEPTED = "accepted", _("Accepted")
        DUPLICATE = "duplicate", _("Already here")
        UNMATCHED = "unmatched", _("Needs matching")
        INCOMPLETE = "incomplete", _("Waiting for more instances")
        REFUSED = "refused", _("Refused")
        DISCARDED = "discarded", _("Discarded")

    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    upload = models.ForeignKey(SlideUpload, on_delete=models.CASCADE, related_name="items")
    name = models.CharField(max_length=400, help_text="The file or series, as people know it")
    key = models.CharField(max_length=200, help_text="Tells the item apart within its upload")
    state = models.CharField(max_length=12, choices=State, db_index=True)
    reason_code = models.CharField(max_length=60, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    facts = models.JSONField(
        default=dict, blank=True, help_text="What the headers said; kept for matching by hand"
    )
    slide_image = models.ForeignKey(
        SlideImage, on_delete=models.SET_NULL, null=True, blank=True, related_name="upload_items"
    )
    resolved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    resolved_at = models.DateTimeField(null=True, blank=True)

    objects = IntakeQuerySet.as_manager()

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(fields=["upload", "key"], name="upload_item_once_per_upload")
        ]

    def __str__(self) -> str:
        return self.name
