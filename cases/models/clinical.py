"""Patient, case, specimen, block, glass slide and report.

Every row belongs to one department, also the patient: two departments that treat the same
person keep a row each and never see each other's (docs/decisions/0001). The person is told
apart by (mrn_issuer, mrn).
"""

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Upper
from django.utils.translation import gettext_lazy as _

from cases.models.base import Record
from cases.models.organisation import Department
from cases.querysets import (
    BlockQuerySet,
    CasePartQuerySet,
    CaseQuerySet,
    PatientQuerySet,
    SlideQuerySet,
)


class Patient(Record):
    """A person, as one department knows them."""

    class Sex(models.TextChoices):
        FEMALE = "F", _("Female")
        MALE = "M", _("Male")
        OTHER = "O", _("Other")
        UNKNOWN = "", "Unknown"

    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="patients")
    mrn = models.CharField("MRN", max_length=64)
    mrn_issuer = models.CharField("MRN issuer", max_length=120)
    family_name = models.CharField(max_length=120, blank=True)
    given_name = models.CharField(max_length=120, blank=True)
    birth_date = models.DateField(null=True, blank=True)
    sex = models.CharField(max_length=1, choices=Sex, blank=True)
    merged_into = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        editable=False,
        related_name="merged_rows",
        help_text="The patient that this number means since a merge; its cases are there",
    )

    objects = PatientQuerySet.as_manager()

    class Meta:
        ordering = ["family_name", "given_name", "mrn"]
        constraints = [
            models.UniqueConstraint(
                fields=["department", "mrn_issuer", "mrn"], name="patient_mrn_is_unique"
            ),
            models.CheckConstraint(condition=~Q(mrn=""), name="patient_has_mrn"),
            models.CheckConstraint(
                condition=~Q(merged_into=F("id")), name="patient_merged_into_another"
            ),
        ]
        indexes = [
            GinIndex(
                OpClass(Upper("family_name"), name="gin_trgm_ops"), name="patient_family_name_trgm"
            ),
            GinIndex(
                OpClass(Upper("given_name"), name="gin_trgm_ops"), name="patient_given_name_trgm"
            ),
            GinIndex(OpClass(Upper("mrn"), name="gin_trgm_ops"), name="patient_mrn_trgm"),
        ]

    def __str__(self) -> str:
        return f"{self.mrn} ({self.mrn_issuer})"

    @property
    def full_name(self) -> str:
        """Return the name as people write it, or an empty text."""
        return ", ".join(part for part in (self.family_name, self.given_name) if part)


class Case(Record):
    """One accession: what arrived from one patient on one occasion."""

    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="cases")
    patient = models.ForeignKey(Patient, on_delete=models.PROTECT, related_name="cases")
    accession_number = models.CharField(max_length=64)
    accession_issuer = models.CharField(max_length=120)
    received_on = models.DateField(null=True, blank=True, db_index=True)
    clinical_history = models.TextField(blank=True)

    objects = CaseQuerySet.as_manager()

    class Meta:
        ordering = ["-received_on", "-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["department", "accession_issuer", "accession_number"],
                name="case_accession_number_is_unique",
            ),
            models.CheckConstraint(
                condition=~Q(accession_number=""), name="case_has_accession_number"
            ),
        ]
        indexes = [
            models.Index(fields=["department", "-received_on", "-created_at"]),
            # The order of the work list, whoever reads it.
            models.Index(
                F("received_on").desc(nulls_last=True),
                F("created_at").desc(nulls_last=True),
                F("id").asc(),
                name="case_newest_first",
            ),
            GinIndex(
                OpClass(Upper("accession_number"), name="gin_trgm_ops"), name="case_accession_trgm"
            ),
        ]

    def __str__(self) -> str:
        return self.accession_number

    @property
    def current_report(self) -> "Report | None":
        """Return the newest version of the report (uses prefetched reports where there are)."""
        return next((report for report in self.reports.all() if report.is_current), None)


class Specimen(Record):
    """A part of the case: what was taken from where."""

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="specimens")
    label = models.CharField(max_length=40, help_text="Part, as on the requisition: A, B, 1 …")
    organ = models.CharField(max_length=80, blank=True, db_index=True)
    procedure = models.CharField(max_length=120, blank=True)
    description = models.CharField(max_length=400, blank=True)

    objects = CasePartQuerySet.as_manager()

    class Meta:
        ordering = ["label"]
        constraints = [
            models.UniqueConstraint(fields=["case", "label"], name="specimen_label_is_unique")
        ]

    def __str__(self) -> str:
        return f"{self.label} {self.organ}".strip()


class Block(Record):
    """A paraffin (or frozen) block of a specimen."""

    specimen = models.ForeignKey(Specimen, on_delete=models.CASCADE, related_name="blocks")
    label = models.CharField(max_length=40)
    description = models.CharField(max_length=400, blank=True)

    objects = BlockQuerySet.as_manager()

    class Meta:
        ordering = ["label"]
        constraints = [
            models.UniqueConstraint(fields=["specimen", "label"], name="block_label_is_unique")
        ]

    def __str__(self) -> str:
        return self.label


class Slide(Record):
    """The glass. Its scans are SlideImage rows."""

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="slides")
    specimen = models.ForeignKey(
        Specimen, on_delete=models.SET_NULL, null=True, blank=True, related_name="slides"
    )
    block = models.ForeignKey(
        Block, on_delete=models.SET_NULL, null=True, blank=True, related_name="slides"
    )
    label = models.CharField(max_length=80, help_text="Unique in the case: A1-1, A1-2 …")
    label_barcode = models.CharField(max_length=120, blank=True)
    stain = models.CharField(max_length=80, blank=True, db_index=True)

    objects = SlideQuerySet.as_manager()

    class Meta:
        ordering = ["label"]
        constraints = [
            models.UniqueConstraint(fields=["case", "label"], name="slide_label_is_unique")
        ]

    def __str__(self) -> str:
        return self.label


class Report(Record):
    """One version of the case's report. A change is a new version; old ones stay."""

    class Status(models.TextChoices):
        PRELIMINARY = "preliminary", _("Preliminary")
        FINAL = "final", _("Final")
        AMENDED = "amended", _("Amended")

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="reports")
    version = models.PositiveIntegerField()
    is_current = models.BooleanField(default=True)
    status = models.CharField(max_length=12, choices=Status)
    diagnosis_line = models.CharField(
        max_length=300, blank=True, help_text="The diagnosis in one line; what a vote counts"
    )
    diagnosis_code = models.CharField(max_length=40, blank=True, db_index=True)
    diagnosis_system = models.CharField(
        max_length=40, blank=True, help_text="Code system: ICD-O-3, SNOMED CT …"
    )
    diagnosis_text = models.TextField(blank=True)
    microscopic_description = models.TextField(blank=True)
    gross_description = models.TextField(blank=True)
    comment = models.TextField(blank=True)
    signed_at = models.DateTimeField(null=True, blank=True)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True
    )
    # Weights: the diagnosis counts before the microscopy, gross description last.
    search_vector = models.GeneratedField(
        expression=SearchVector("diagnosis_line", "diagnosis_text", weight="A", config="english")
        + SearchVector("microscopic_description", "comment", weight="B", config="english")
        + SearchVector("gross_description", weight="D", config="english"),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    objects = CasePartQuerySet.as_manager()

    class Meta:
        ordering = ["-version"]
        constraints = [
            models.UniqueConstraint(fields=["case", "version"], name="report_version_is_unique"),
            models.UniqueConstraint(
                fields=["case"], condition=Q(is_current=True), name="report_one_current_per_case"
            ),
            models.CheckConstraint(condition=Q(version__gte=1), name="report_version_from_one"),
        ]
        indexes = [GinIndex(fields=["search_vector"], name="report_full_text")]

    def __str__(self) -> str:
        return f"{self.get_status_display()} report, version {self.version}"

    @property
    def is_signed(self) -> bool:
        """Return whether a pathologist stands behind it: final or amended."""
        return self.status in {self.Status.FINAL, self.Status.AMENDED}

    @property
    def full_text(self) -> str:
        """Return all sections, the diagnosis first, as a reader would see them."""
        sections = (
            ("Diagnosis", self.diagnosis_line),
            ("", self.diagnosis_text),
            ("Microscopy", self.microscopic_description),
            ("Comment", self.comment),
            ("Gross", self.gross_description),
        )
        return "\n".join(
            f"{name}: {text}" if name else text for name, text in sections if text.strip()
        )
