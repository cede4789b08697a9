"""How patients, cases, slides and reports look in API v1."""

from typing import Any

from rest_framework import serializers

from cases.api.fields import DepartmentCodeField
from cases.models import Block, Case, Department, Patient, Report, Slide, SlideImage, Specimen
from cases.services.reports import CONTENT_FIELDS

_TIMES = ("created_at", "updated_at")


class DepartmentSerializer(serializers.ModelSerializer):
    class Meta:
        model = Department
        fields = ("code", "name", "mrn_issuer", "accession_issuer")


class PatientSerializer(serializers.ModelSerializer):
    department = serializers.CharField(source="department.code", read_only=True)

    class Meta:
        model = Patient
        fields = (
            "id",
            "department",
            "mrn",
            "mrn_issuer",
            "family_name",
            "given_name",
            "birth_date",
            "sex",
            "merged_into",
            *_TIMES,
        )
        read_only_fields = ("mrn", "mrn_issuer", "merged_into")


class BlockSerializer(serializers.ModelSerializer):
    class Meta:
        model = Block
        fields = ("id", "label", "description")


class SpecimenSerializer(serializers.ModelSerializer):
    blocks = BlockSerializer(many=True, read_only=True)

    class Meta:
        model = Specimen
        fields = ("id", "label", "organ", "procedure", "description", "blocks")


class SlideSerializer(serializers.ModelSerializer):
    """The glass; `images` are the scans of it that the caller may see."""

    department = serializers.CharField(source="case.department.code", read_only=True)
    accession_number = serializers.CharField(source="case.accession_number", read_only=True)
    images = serializers.PrimaryKeyRelatedField(many=True, read_only=True)

    class Meta:
        model = Slide
        fields = (
            "id",
            "department",
            "case",
            "accession_number",
            "specimen",
            "block",
            "label",
            "label_barcode",
            "stain",
            "images",
            *_TIMES,
        )


class SlideImageSerializer(serializers.ModelSerializer):
    department = serializers.CharField(source="department.code", read_only=True)
    case = serializers.UUIDField(source="slide.case_id", read_only=True)
    accession_number = serializers.CharField(source="slide.case.accession_number", read_only=True)
    stain = serializers.CharField(source="slide.stain", read_only=True)

    class Meta:
        model = SlideImage
        fields = (
            "id",
            "department",
            "case",
            "accession_number",
            "slide",
            "stain",
            "source_format",
            "vendor",
            "content_sha256",
            "study_instance_uid",
            "series_instance_uid",
            "size_bytes",
            "width_l0",
            "height_l0",
            "level_count",
            "mpp",
            "mpp_source",
            "objective_power",
            "scanner",
            "scanned_at",
            "is_fluorescence",
            "is_synthetic",
            *_TIMES,
        )


class ReportSerializer(serializers.ModelSerializer):
    department = serializers.CharField(source="case.department.code", read_only=True)
    accession_number = serializers.CharField(source="case.accession_number", read_only=True)

    class Meta:
        model = Report
        fields = (
            "id",
            "department",
            "case",
            "accession_number",
            "version",
            "is_current",
            "status",
            *CONTENT_FIELDS,
            "signed_at",
            *_TIMES,
        )


class CaseListSerializer(serializers.ModelSerializer):
    """A case in a list."""

    department = serializers.CharField(source="department.code", read_only=True)
    patient = PatientSerializer(read_only=True)

    class Meta:
        model = Case
        fields = (
            "id",
            "department",
            "accession_number",
            "accession_issuer",
            "received_on",
            "patient",
            *_TIMES,
        )


class CaseSerializer(CaseListSerializer):
    """A case with its parts, as far as the caller may see them."""

    specimens = SpecimenSerializer(many=True, read_only=True)
    slides = SlideSerializer(many=True, read_only=True)
    reports = ReportSerializer(many=True, read_only=True)

    class Meta(CaseListSerializer.Meta):
        fields = (
            *CaseListSerializer.Meta.fields,
            "clinical_history",
            "specimens",
            "slides",
            "reports",
        )


_MAX_PARTS = 500


def _unique_labels(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Refuse a list of parts in which a label stands twice: which of them is meant?"""
    labels = [row["label"] for row in rows]
    if len(labels) != len(set(labels)):
        raise serializers.ValidationError("A label is given twice.", code="unique")
    return rows


class _PartSerializer(serializers.ModelSerializer):
    """A part in a message: found by its label, which the service compares, not the database."""

    def get_unique_together_validators(self) -> list[Any]:
        return []


class BlockWriteSerializer(_PartSerializer):
    class Meta:
        model = Block
        fields = ("label", "description")


class SpecimenWriteSerializer(_PartSerializer):
    blocks = BlockWriteSerializer(many=True, required=False, max_length=_MAX_PARTS)

    class Meta:
        model = Specimen
        fields = ("label", "organ", "procedure", "description", "blocks")

    def validate_blocks(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return _unique_labels(rows)


class SlideWriteSerializer(_PartSerializer):
    specimen = serializers.CharField(
        max_length=40, required=False, help_text="Label of its specimen"
    )
    block = serializers.CharField(max_length=40, required=False, help_text="Label of its block")

    class Meta:
        model = Slide
        fields = ("label", "label_barcode", "stain", "specimen", "block")


class PatientWriteSerializer(_PartSerializer):
    class Meta:
        model = Patient
        fields = ("mrn", "mrn_issuer", "family_name", "given_name", "birth_date", "sex")
        extra_kwargs = {
            "mrn_issuer": {
                "required": False,
                "allow_blank": True,
                "help_text": "Empty: the department's own",
            }
        }


class CaseWriteSerializer(serializers.ModelSerializer):
    """A case with its patient and parts. What is absent stays as it is on record."""

    patient = PatientWriteSerializer()
    specimens = SpecimenWriteSerializer(many=True, required=False, max_length=_MAX_PARTS)
    slides = SlideWriteSerializer(many=True, required=False, max_length=_MAX_PARTS)

    class Meta:
        model = Case
        fields = ("received_on", "clinical_history", "patient", "specimens", "slides")

    def validate_specimens(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return _unique_labels(rows)

    def validate_slides(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return _unique_labels(rows)


class NewCaseSerializer(CaseWriteSerializer):
    """The same with the keys that otherwise stand in the address."""

    department = DepartmentCodeField()

    class Meta(CaseWriteSerializer.Meta):
        fields = (
            "department",
            "accession_number",
            "accession_issuer",
            *CaseWriteSerializer.Meta.fields,
        )
        extra_kwargs = {
            "accession_issuer": {
                "required": False,
                "allow_blank": True,
                "help_text": "Empty: the department's own",
            }
        }

    def get_unique_together_validators(self) -> list[Any]:
        # The service finds the case on record; a second message is no error.
        return []


class ReportWriteSerializer(serializers.ModelSerializer):
    """A new version of a report; fields that are absent are empty in it."""

    case = serializers.UUIDField(help_text="Id of the case")

    class Meta:
        model = Report
        fields = ("case", "status", *CONTENT_FIELDS, "signed_at")
