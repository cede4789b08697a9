"""Puts the portal's administration in the place of Django's own."""

from django.contrib.admin import apps


class PortalAdminConfig(apps.AdminConfig):
    default_site = "pathsearch_site.admin_site.PortalAdminSite"
