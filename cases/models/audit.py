"""The record of who looked at what."""

import uuid

from django.conf import settings
from django.db import models

from cases.querysets import AppendOnlyQuerySet


class AccessEvent(models.Model):
    """One act that an auditor may ask about. Written once, never changed."""

    class Action(models.TextChoices):
        LOGIN = "login", "Signed in"
        LOGIN_FAILED = "login_failed", "Sign-in failed"
        LOGOUT = "logout", "Signed out"
        VIEW = "view", "Viewed"
        SEARCH = "search", "Searched"
        SHOWN = "shown", "Shown in a result"
        CREATE = "create", "Created"
        CHANGE = "change", "Changed"
        DELETE = "delete", "Removed"
        EXPORT = "export", "Exported"
        SHARE = "share", "Shared"
        DENIED = "denied", "Denied"

    class Channel(models.TextChoices):
        PAGE = "page", "Page"
        API = "api", "API"
        DICOM = "dicom", "DICOM"
        TASK = "task", "Background task"
        COMMAND = "command", "Command line"
        FOLDER = "folder", "Watch folder"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    at = models.DateTimeField(auto_now_add=True, db_index=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    action = models.CharField(max_length=16, choices=Action)
    channel = models.CharField(max_length=10, choices=Channel)
    address = models.GenericIPAddressField(null=True)
    department_id = models.BigIntegerField(null=True)
    # Ids, not foreign keys: the record outlives what it speaks of.
    patient_id = models.UUIDField(null=True, db_index=True)
    object_type = models.CharField(max_length=40, blank=True)
    object_id = models.CharField(max_length=64, blank=True)
    detail = models.JSONField(default=dict, blank=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["-at"]
        indexes = [models.Index(fields=["user", "-at"])]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.action} {self.object_type} {self.object_id}"

    def save(self, *args, **kwargs) -> None:
        if not self._state.adding:
            raise TypeError("Access events are append-only")
        super().save(*args, **kwargs)

    def delete(self, *args, **kwargs):
        raise TypeError("Access events are append-only")
