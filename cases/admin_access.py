"""What the administration shows to whom. Django's own permissions are not asked.

A system administrator runs the site and sees no clinical rows; a department administrator
sees the rows of the department and changes only its members and tokens.
"""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse

from cases import identity, permissions
from cases.models import Patient
from cases.services.audit import Action, access_event_record, access_events_listed


def administered(request: HttpRequest) -> frozenset[int]:
    """Return the departments that the user administers."""
    return permissions.departments_with(request.user, "manage_members")


class RoleAdmin(admin.ModelAdmin):
    """Base: nobody may do anything until a subclass says who may."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class AuditedChanges:
    """Mixin: what is saved or deleted here goes into the audit."""

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        self.audit(request, Action.CHANGE if change else Action.CREATE, obj, form.changed_data)

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        self.audit(request, Action.DELETE, obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        for obj in queryset:
            self.audit(request, Action.DELETE, obj)
        super().delete_queryset(request, queryset)

    def audit(
        self, request: HttpRequest, action: str, obj: Model, fields: Iterable[str] = ()
    ) -> None:
        """Record the act; of the values only which fields they were."""
        access_event_record(
            user=request.user,
            action=action,
            department_id=getattr(obj, "department_id", None),
            target=obj,
            detail={"fields": sorted(fields)} if fields else {},
        )


class ClinicalInline(admin.TabularInline):
    """Rows that are seen with their clinical row, to look at only."""

    extra = 0
    show_change_link = False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(administered(request))

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ClinicalAdmin(RoleAdmin):
    """Clinical rows, to look at only: changes go through the services, with their rules.

    Rows are those visible to the user who administers a department; looks are recorded.
    """

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(administered(request))

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = self.model._default_manager.visible_to(request.user)
        # What is searched and sorted by here are names.
        rows = identity.known_only(request.user, rows)
        ordering = self.get_ordering(request)
        return rows.order_by(*ordering) if ordering else rows

    def patient_of(self, obj: Model) -> Patient | None:
        """Return whose row it is."""
        return None

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        obj = self.get_object(request, object_id)
        if obj is not None:
            patient = self.patient_of(obj)
            access_event_record(
                user=request.user,
                action=Action.VIEW,
                department_id=patient.department_id if patient else None,
                patient_id=patient.pk if patient else None,
                target=obj,
                detail={"page": "administration"},
            )
        return super().change_view(request, object_id, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().changelist_view(request, *args, **kwargs)
        shown = getattr(response, "context_data", {}).get("cl")
        patients = [self.patient_of(obj) for obj in shown.result_list] if shown else []
        access_events_listed(
            user=request.user,
            object_type=self.model._meta.model_name,
            subjects=[(patient.pk, patient.department_id) for patient in patients if patient],
            detail={"page": "administration"},
        )
        return response
