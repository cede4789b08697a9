"""The administration of what is known of the recall and the speed of searches; to look at."""

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from cases import permissions
from cases.admin_access import RoleAdmin
from retrieval.models import SearchCosts, SearchSelfCheck


class _LookedAt(RoleAdmin):
    """Figures of the whole site: for who runs it."""

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.is_system_administrator(request.user)


@admin.register(SearchSelfCheck)
class SearchSelfCheckAdmin(_LookedAt):
    """The nightly comparison with exact search, newest first."""

    list_display = ["checked_at", "department", "model", "recall", "worst", "asked", "is_alert"]
    list_filter = ["is_alert", "department", "model"]
    list_select_related = ["department", "model"]


@admin.register(SearchCosts)
class SearchCostsAdmin(_LookedAt):
    """What `measure_search` found."""

    list_display = ["model", "slides", "exact_us", "visit_us", "walk_us", "measured_at"]
    list_select_related = ["model"]
