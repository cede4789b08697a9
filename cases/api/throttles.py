"""How often one caller may ask."""

from typing import Any

from rest_framework.throttling import SimpleRateThrottle


class CallerThrottle(SimpleRateThrottle):
    """One rate per API token, or per user or address of a request without a token.

    The count lives in the web process's cache, so the limit of a site is the rate times its
    web processes: it stops a runaway script, it is not accounting.
    """

    scope = "caller"

    def get_cache_key(self, request: Any, view: Any) -> str:
        if request.auth is not None:
            ident = f"token-{request.auth.pk}"
        elif request.user and request.user.is_authenticated:
            ident = f"user-{request.user.pk}"
        else:
            ident = f"address-{self.get_ident(request)}"
        return self.cache_format % {"scope": self.scope, "ident": ident}


class OwnerThrottle(SimpleRateThrottle):
    """One rate for everything that acts for one user: all tokens and sessions together."""

    scope = "owner"

    def get_cache_key(self, request: Any, view: Any) -> str | None:
        if not (request.user and request.user.is_authenticated):
            return None  # the address counts already
        return self.cache_format % {"scope": self.scope, "ident": f"user-{request.user.pk}"}
