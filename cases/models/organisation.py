"""Departments, their members, and the tokens of machines."""

import ipaddress
import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from cases.permissions import Role
from cases.querysets import DepartmentQuerySet, OwnedQuerySet


def validate_network(value: str) -> None:
    """Refuse what is neither an IP address nor a network in CIDR notation."""
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        raise ValidationError(f"{value!r} is no address and no network: {error}") from error


class Department(models.Model):
    """A pathology department: the owner of every clinical row."""

    code = models.SlugField(max_length=40, unique=True, help_text="Short name used by the API")
    name = models.CharField(max_length=200)
    mrn_issuer = models.CharField(
        "MRN issuer",
        max_length=120,
        help_text="Who assigns the patient numbers when a message or file does not say",
    )
    accession_issuer = models.CharField(
        max_length=120,
        help_text="Who assigns accession numbers when a message or file does not say",
    )
    retention_years = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Years after the last signed report until a case may be deleted; empty: never",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = DepartmentQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A user's role in a department; a system administrator's has no department."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships"
    )
    department = models.ForeignKey(
        Department, on_delete=models.CASCADE, null=True, blank=True, related_name="memberships"
    )
    role = models.CharField(max_length=32, choices=Role)
    given_by = models.CharField(
        max_length=60,
        blank=True,
        editable=False,
        help_text="Id of the sign-on provider whose groups gave it; empty: an administrator did",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["department", "role", "user"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "department", "role"],
                nulls_distinct=False,
                name="membership_is_unique",
            ),
            models.CheckConstraint(
                condition=Q(role=Role.SYSTEM_ADMINISTRATOR, department__isnull=True)
                | (~Q(role=Role.SYSTEM_ADMINISTRATOR) & Q(department__isnull=False)),
                name="membership_department_unless_system_administrator",
            ),
            models.CheckConstraint(
                condition=Q(role__in=Role.values), name="membership_role_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} as {self.get_role_display()} in {self.department or 'the whole site'}"


class DirectoryAccount(models.Model):
    """Whose account belongs to which entry of the hospital's LDAP directory."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="directory_account"
    )
    entry = models.CharField(
        max_length=200, unique=True, help_text="The directory's id, and the entry's own in it"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.entry


class ApiToken(models.Model):
    """A machine's key. Only its SHA-256 is kept; the prefix tells tokens apart."""

    class Scope(models.TextChoices):
        CASES_READ = "cases:read", _("Read patients, cases, slides and reports")
        CASES_WRITE = "cases:write", _("Write patients, cases, slides and reports")
        PATIENTS_MERGE = "patients:merge", _("Merge patients and undo it, also by HL7 messages")
        UPLOADS_WRITE = "uploads:write", _("Upload slides and follow them")
        SEARCH = "search", _("Search and read results")
        COHORTS_READ = "cohorts:read", _("Read cohorts")
        COHORTS_WRITE = "cohorts:write", _("Curate cohorts")
        INDEX_READ = "index:read", _("Read the state of indexing")
        EXPORTS_READ = "exports:read", _("Follow and fetch de-identified exports")
        EXPORTS_WRITE = "exports:write", _("Make de-identified exports")
        DICOMWEB_READ = "dicomweb:read", _("Search and retrieve slides by DICOMweb")
        DICOMWEB_WRITE = "dicomweb:write", _("Store slides by DICOMweb")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens"
    )
    name = models.CharField(max_length=120)
    prefix = models.CharField(max_length=12, unique=True, editable=False)
    key_sha256 = models.CharField(max_length=64, editable=False)
    scopes = ArrayField(models.CharField(max_length=32, choices=Scope))
    departments = models.ManyToManyField(
        Department, blank=True, help_text="Narrow the token to these; none: all of its owner's"
    )
    addresses = ArrayField(
        models.CharField(max_length=43, validators=[validate_network]),
        blank=True,
        default=list,
        help_text="Addresses and networks (10.1.2.0/24) that may use the token; none: any",
    )
    # Kept apart from the list: a token whose departments are all gone opens nothing.
    is_narrowed = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_from = models.GenericIPAddressField(null=True, blank=True, editable=False)
    replaces = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="replaced_by",
    )
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
