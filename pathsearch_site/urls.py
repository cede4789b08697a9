"""Every route of the site: pages of both apps, the API, the admin, health."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("cases.urls")),
    path("", include("retrieval.urls")),
    path("api/v1/", include("pathsearch_site.api_urls")),
    path("admin/", admin.site.urls),
]
