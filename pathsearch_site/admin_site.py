"""The administration: for who runs the site and for who runs a department."""

from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from cases import permissions


class PortalAdminSite(AdminSite):
    """Lets in by role, not by `is_staff`, and signs in at the portal's own door."""

    site_header = "PathSearch administration"
    site_title = "PathSearch"
    index_title = "Administration"

    def has_permission(self, request: HttpRequest) -> bool:
        return permissions.may_administer(request.user)

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.user.is_authenticated:
            return redirect("work_list")
        return redirect(f"{reverse('login')}?next={reverse('admin:index')}")
