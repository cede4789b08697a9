"""The administration of DICOM nodes: who may send, and what they were promised."""

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from cases import models, permissions
from cases.admin_access import AuditedChanges, RoleAdmin


class SiteAdmin(RoleAdmin):
    """Rows of the site, no clinical ones: shown to who runs it."""

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.is_system_administrator(request.user)


@admin.register(models.DicomPeer)
class DicomPeerAdmin(AuditedChanges, SiteAdmin):
    """The allowlist of the DICOM door: a node that is not here cannot open an association."""

    list_display = ["ae_title", "address", "port", "department", "is_active"]
    list_filter = ["is_active", "department"]
    search_fields = ["ae_title", "address"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_view_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_view_permission(request)


@admin.register(models.StorageCommitment)
class StorageCommitmentAdmin(SiteAdmin):
    """What was asked, and whether it was answered."""

    list_display = ["transaction_uid", "peer", "state", "attempts", "error", "created_at"]
    list_filter = ["state", "peer"]
