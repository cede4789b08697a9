"""What a page shows when the rules refuse something, and what the audit keeps of it."""

from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from cases.errors import DomainError
from cases.services.audit import Action, access_event_record


class ErrorPagesMiddleware:
    """Show a domain error as a page (a line of text where no page was asked for).

    A 403 for somebody who is signed in goes into the audit, from pages and API alike.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code == HTTPStatus.FORBIDDEN and request.user.is_authenticated:
            match = request.resolver_match
            access_event_record(
                user=request.user,
                action=Action.DENIED,
                detail={
                    "method": request.method,
                    "route": match.view_name if match else "",
                    "object": {key: str(value) for key, value in match.kwargs.items()}
                    if match
                    else {},
                },
            )
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, DomainError):
            return None
        if "text/html" in request.headers.get("Accept", ""):
            return render(request, "errors/domain.html", {"error": error}, status=error.http_status)
        return HttpResponse(
            f"{error.code}: {error.message}\n",
            content_type="text/plain; charset=utf-8",
            status=error.http_status,
            headers={"Cache-Control": "no-store"},
        )
