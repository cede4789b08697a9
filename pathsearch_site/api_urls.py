"""API v1: one router over the viewsets of both apps, its schema and its docs."""

from django.urls import include, path
from django.views.generic import RedirectView

from pathsearch_site.api_views import DocsView, SchemaView, UnknownRouteView

urlpatterns = [
    path("v1/", RedirectView.as_view(pattern_name="api_docs"), name="api_root"),
    path("v1/schema/", SchemaView.as_view(), name="api_schema"),
    path("v1/docs/", DocsView.as_view(url_name="api_schema"), name="api_docs"),
    path("v1/", include("cases.api.urls")),
    path("v1/", include("retrieval.api.urls")),
    path("", UnknownRouteView.as_view(), name="api_unknown"),
    path("<path:rest>", UnknownRouteView.as_view(), name="api_unknown_route"),
]
