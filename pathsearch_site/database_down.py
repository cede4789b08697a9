"""While Postgres restarts: reads are tried once more, then a page says what to do."""

import time
from collections.abc import Callable

from django.db import connections
from django.db.utils import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse

# What a browser or another system is told to wait, in seconds.
RETRY_AFTER = 10
# A server that was restarted takes about so long to let anyone in.
_WAIT_SECONDS = 1.0
_SAFE = {"GET", "HEAD", "OPTIONS"}
# Too many connections; shutting down, crashed, starting up (PostgreSQL, Appendix A).
_STATES = {"53300", "57P01", "57P02", "57P03"}


def is_unavailable(error: BaseException | None) -> bool:
    """Return whether the database could not be reached, rather than refused a statement."""
    if isinstance(error, InterfaceError):
        return True  # the connection was closed under us
    if not isinstance(error, OperationalError):
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    return state is None or state.startswith("08") or state in _STATES


class DatabaseDownMiddleware:
    """Try a request that changes nothing once more, when the database was away."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not getattr(response, "database_is_down", False) or request.method not in _SAFE:
            return response
        connections.close_all()
        time.sleep(_WAIT_SECONDS)
        return self.get_response(request)
