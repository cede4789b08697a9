"""Headers of pages that may show patient data."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse


class PatientDataHeadersMiddleware:
    """Keep pages of a signed-in user out of shared and disk caches, unless a view says more."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if "Cache-Control" not in response.headers and request.user.is_authenticated:
            response.headers["Cache-Control"] = "no-store, private"
        return response
