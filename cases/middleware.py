"""Headers of pages that may show patient data, and where a request comes from."""

import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from cases.services.audit import origin_set, request_origin


class PatientDataHeadersMiddleware:
    """Keep pages of a signed-in user out of shared and disk caches, unless a view says more."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if "Cache-Control" not in response.headers and request.user.is_authenticated:
            response.headers["Cache-Control"] = "no-store, private"
        return response


class AuditOriginMiddleware:
    """Tell the audit by which door and from which address the acts of this request come."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        origin = request_origin(request)
        # Made here, never taken from the sender: it ties an answer to its events and logs.
        request_id = uuid.uuid4().hex
        origin_set(channel=origin["channel"], address=origin["address"], request_id=request_id)
        response = self.get_response(request)
        response.headers["X-Request-ID"] = request_id
        return response
