"""De-identified exports in the administration: to look at. Files and keys are not shown."""

from django.contrib import admin

from cases import models
from cases.admin_access import ClinicalAdmin


@admin.register(models.ExportProject)
class ExportProjectAdmin(ClinicalAdmin):
    fields = ["department", "name", "purpose", "created_by", "created_at", "closed_at"]
    readonly_fields = ["created_at"]
    list_display = ["name", "department", "created_by", "created_at", "closed_at"]
    search_fields = ["name"]


@admin.register(models.Export)
class ExportAdmin(ClinicalAdmin):
    fields = [
        "department",
        "project",
        "requested_by",
        "cohort",
        "with_diagnoses",
        "state",
        "reason_code",
        "reason",
        "slide_count",
        "patient_count",
        "instance_count",
        "size_bytes",
        "sha256",
        "expires_at",
    ]
    list_display = ["id", "state", "project", "requested_by", "created_at", "expires_at"]
    list_filter = ["state"]
    list_select_related = ["project", "requested_by"]

    def get_readonly_fields(self, request, obj=None) -> list[str]:
        return self.fields
