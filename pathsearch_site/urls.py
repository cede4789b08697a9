"""Every route of the site: pages of both apps, the API, the admin, health."""

from django.contrib import admin
from django.urls import include, path
from django.views.i18n import set_language

urlpatterns = [
    path("", include("cases.urls")),
    path("", include("retrieval.urls")),
    path("api/", include("pathsearch_site.api_urls")),
    path("dicomweb/", include("cases.dicomweb.urls")),
    path("admin/", admin.site.urls),
    path("language/", set_language, name="set_language"),
]

# Under /api/ and /dicomweb/ these answer with problem+json, elsewhere with the pages of templates/.
handler400 = "pathsearch_site.api_views.bad_request"
handler403 = "pathsearch_site.api_views.permission_denied"
handler404 = "pathsearch_site.api_views.not_found"
handler500 = "pathsearch_site.api_views.server_error"
