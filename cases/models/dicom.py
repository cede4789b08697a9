"""DICOM nodes that may send to us, and what they asked us to vouch for."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from cases.models.base import Record
from cases.models.organisation import Department
from cases.querysets import OwnedQuerySet


def validate_ae_title(value: str) -> None:
    """Raise unless the text is an application entity title (PS3.5 6.2, VR AE)."""
    if value != value.strip() or not value.isascii() or not value.isprintable() or "\\" in value:
        raise ValidationError("An AE title is 1 to 16 printable ASCII characters without \\.")


class DicomPeer(Record):
    """A DICOM node that may open associations: known by AE title and address together."""

    ae_title = models.CharField("AE title", max_length=16, validators=[validate_ae_title])
    address = models.GenericIPAddressField("IP address", unpack_ipv4=True)
    port = models.PositiveIntegerField(
        default=104,
        validators=[MinValueValidator(1), MaxValueValidator(65535)],
        help_text="Where it listens for the answers to its storage commitment requests",
    )
    uses_tls = models.BooleanField("uses TLS", default=False, help_text="For those answers")
    department = models.ForeignKey(
        Department,
        on_delete=models.PROTECT,
        related_name="dicom_peers",
        help_text="Whose archive takes what it sends",
    )
    is_active = models.BooleanField(default=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["ae_title"]
        verbose_name = "DICOM peer"
        constraints = [
            models.UniqueConstraint(fields=["ae_title", "address"], name="dicom_peer_is_unique"),
            models.CheckConstraint(
                condition=models.Q(port__gte=1, port__lte=65535), name="dicom_peer_port_is_one"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.ae_title} at {self.address}"


class StorageCommitment(Record):
    """A request to vouch for instances (PS3.4 Annex J), kept until the peer has its answer."""

    class State(models.TextChoices):
        PENDING = "pending", _("Waiting for its instances")
        READY = "ready", _("Answer to be sent")
        SENT = "sent", _("Answered")
        FAILED = "failed", _("Could not be answered")

    peer = models.ForeignKey(DicomPeer, on_delete=models.CASCADE, related_name="commitments")
    transaction_uid = models.CharField("Transaction UID", max_length=64)
    state = models.CharField(max_length=8, choices=State, default=State.PENDING, db_index=True)
    # [{"sop_class_uid", "sop_instance_uid"}]; in the answer those that failed have a "reason".
    instances = models.JSONField(default=list)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["peer", "transaction_uid"], name="storage_commitment_is_unique"
            )
        ]

    def __str__(self) -> str:
        return self.transaction_uid
