"""The administration of a department's own terms."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from cases.admin_access import AuditedChanges, RoleAdmin, administered
from cases.models import Department
from retrieval.models import DepartmentTerm


@admin.register(DepartmentTerm)
class DepartmentTermAdmin(AuditedChanges, RoleAdmin):
    """Abbreviations and synonyms of a department; the next search knows them."""

    list_display = ["form", "meaning", "department", "created_by", "created_at"]
    list_select_related = ["department", "created_by"]
    search_fields = ["form", "meaning"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = super().get_queryset(request)
        return rows.filter(department__in=administered(request))

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "department":
            kwargs["queryset"] = Department.objects.filter(pk__in=administered(request))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        if not change:
            obj.created_by = request.user
        super().save_model(request, obj, form, change)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(administered(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(administered(request))

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(administered(request))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(administered(request))
