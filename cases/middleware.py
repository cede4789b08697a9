"""Headers of pages that may show patient data, where a request comes from, and what it may see."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from django.http import FileResponse, HttpRequest, HttpResponse

from cases import row_scope
from cases.services.audit import origin_set, request_origin
from cases.sign_on.limits import PRESENTING


class PatientDataHeadersMiddleware:
    """Keep pages of a signed-in user out of shared and disk caches, unless a view says more."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if "Cache-Control" not in response.headers and request.user.is_authenticated:
            response.headers["Cache-Control"] = "no-store, private"
        return response


# For what is not a page: should a browser show it as one, it runs and loads nothing.
FILE_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"


class FilePolicyMiddleware:
    """Give each answer that is no page (a file, a picture, DICOM, JSON) a policy that runs nothing.

    Below the middleware of django-csp, which leaves a policy that is there.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not response.headers.get("Content-Type", "text/html").startswith("text/html"):
            response.headers.setdefault("Content-Security-Policy", FILE_POLICY)
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


class RowScopeMiddleware:
    """Say to the database whose request it is: `cases.row_security` lets in no other rows.

    And whether the session is presented: `cases.identity` then veils all rows.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        before = row_scope.said()
        since = request.session.get(PRESENTING)
        if since:
            request.user.presenting_since = datetime.fromisoformat(since)
        row_scope.user_set(request.user)
        try:
            response = self.get_response(request)
            # What is read while the answer goes out is read after this has returned.
            if response.streaming and not isinstance(response, FileResponse):
                kept = row_scope.said()
                pieces = response.streaming_content
                wrap = _each_async if response.is_async else _each
                response.streaming_content = wrap(pieces, kept)
            return response
        finally:
            row_scope.said_again(before)


def _each(pieces: Iterable[Any], scope: Any) -> Iterator[Any]:
    source = iter(pieces)
    while True:
        with row_scope.restored(scope):
            piece = next(source, None)
        if piece is None:
            return
        yield piece


async def _each_async(pieces: AsyncIterator[Any], scope: Any) -> AsyncIterator[Any]:
    source = aiter(pieces)
    while True:
        with row_scope.restored(scope):
            piece = await anext(source, None)
        if piece is None:
            return
        yield piece
