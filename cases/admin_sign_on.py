"""The administration of sign-on: whose sessions are open, and factors that were lost."""

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from cases.admin_access import AuditedChanges
from cases.admin_dicom import SiteAdmin

for _model in (EmailAddress, Authenticator, UserSession, SocialAccount, SocialApp, SocialToken):
    admin.site.unregister(_model)


class EndedOnly(AuditedChanges, SiteAdmin):
    """Rows that the site's administrators look at and end."""

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_view_permission(request)


@admin.register(UserSession)
class UserSessionAdmin(EndedOnly):
    """Open sessions; deleting one ends it. The key of a session is never shown."""

    fields = ["user", "ip", "user_agent", "created_at", "last_seen_at"]
    list_display = ["user", "ip", "created_at", "last_seen_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "ip"]

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        # While its row is there, for the audit names it.
        obj._session_store().delete(obj.session_key)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        for obj in queryset:
            obj._session_store().delete(obj.session_key)
        super().delete_queryset(request, queryset)


@admin.register(Authenticator)
class AuthenticatorAdmin(EndedOnly):
    """Second factors: delete all of a person who lost theirs. What is secret is never shown."""

    fields = ["user", "type", "created_at", "last_used_at"]
    list_display = ["user", "type", "created_at", "last_used_at"]
    list_filter = ["type"]
    list_select_related = ["user"]
    search_fields = ["user__username"]
