"""What the API says where no view of an app does: its docs, unknown routes, crashes."""

import sys
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import loader
from django.views import defaults
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.exceptions import NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pathsearch_site.database_down import RETRY_AFTER, is_unavailable
from pathsearch_site.exception_handler import problem_document


class _SchemaMadeOnce(SchemaGenerator):
    """The schema is the same for everybody and takes a second to make: once a process."""

    _made: dict[str, Any] | None = None

    def get_schema(self, request: Any = None, public: bool = False) -> dict[str, Any]:
        if not public:
            return super().get_schema(request, public)
        if _SchemaMadeOnce._made is None:
            _SchemaMadeOnce._made = super().get_schema(None, public)
        return _SchemaMadeOnce._made


class SchemaView(SpectacularAPIView):
    """The OpenAPI schema, open to all: it tells of the product, not of the site's data."""

    generator_class = _SchemaMadeOnce


class DocsView(SpectacularSwaggerSplitView):
    """The browsable docs. Page, style and script are files of this site: CSP stays strict."""

    template_name = "api_docs.html"


class UnknownRouteView(APIView):
    """Any other address under /api/: the same answer as for a missing object."""

    authentication_classes: list = []
    permission_classes = [AllowAny]

    @extend_schema(exclude=True)
    def _refuse(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        raise NotFound

    get = post = put = patch = delete = options = _refuse


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith(("/api/", "/dicomweb/"))


def _problem(status: int, code: str, detail: str) -> JsonResponse:
    return JsonResponse(
        problem_document(status, code, detail),
        status=status,
        content_type="application/problem+json",
    )


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that Django itself refused (too large, a wrong host)."""
    if _is_api(request):
        return _problem(400, "bad_request", "The server cannot read this request.")
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what is seen but not allowed."""
    if _is_api(request):
        return _problem(403, "not_allowed", str(exception) or "Your role does not allow this.")
    return defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for what is hidden or missing: the same."""
    if _is_api(request):
        return _problem(404, "not_found", "There is no such object, or you may not see it.")
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer for a crash, without a word of what crashed; the log has it."""
    if is_unavailable(sys.exc_info()[1]):
        return _database_down(request)
    if _is_api(request):
        return _problem(500, "server_error", "The server failed. The operator's log says why.")
    return defaults.server_error(request)


def _database_down(request: HttpRequest) -> HttpResponse:
    response: HttpResponse
    if _is_api(request):
        detail = "The database is out of reach. Nothing was changed; send the request again."
        response = _problem(503, "database_unavailable", detail)
    else:
        # Without the request: what the site adds to each page is in the database.
        response = HttpResponse(loader.render_to_string("503.html"), status=503)
    response.headers["Retry-After"] = str(RETRY_AFTER)
    response.headers["Cache-Control"] = "no-store"
    response.database_is_down = True
    return response
