"""Asking again who sits there, before an act that an unlocked screen must not allow.

    @login_required
    @require_recent_authentication
    def sensitive(request): ...

Somebody who proved who they are within `REAUTHENTICATION_MINUTES` passes. Others are sent to the
page `confirm_identity`, and from there back: to the page itself where it was opened, to the page
before it where a form was sent. So guard the page of a form as well as what it is sent to.
"""

import time
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from cases.errors import DomainError

_SESSION_KEY = "authenticated_at"


class AuthenticationNotRecent(DomainError):
    """The act needs somebody who has proved a short while ago who they are."""

    http_status = HTTPStatus.FORBIDDEN
    code = "authentication_not_recent"
    message = "Confirm who you are first: open the page, give your password, and do it again."


def authentication_note(request: HttpRequest, at: float | None = None) -> None:
    """Note that the user of this session proved just now, or at that time, who they are."""
    now = time.time()
    request.session[_SESSION_KEY] = int(now if at is None else min(at, now))


def is_recently_authenticated(request: HttpRequest) -> bool:
    """Return whether the user proved within the set minutes who they are."""
    if not request.user.is_authenticated:
        return False
    at = request.session.get(_SESSION_KEY)
    if at is None:
        return False
    return 0 <= time.time() - at <= settings.REAUTHENTICATION_MINUTES * 60


def safe_next(request: HttpRequest, address: str, default: str = "work_list") -> str:
    """Return the address when it lies on this site, else the default page's."""
    here = url_has_allowed_host_and_scheme(
        address, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return address if address and here else reverse(default)


def require_recent_authentication(view: Callable[..., Any]) -> Callable[..., Any]:
    """Let the view run only for somebody who proved a short while ago who they are.

    Scripts and htmx, which cannot follow to a page, get a 403 that says what to do.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if is_recently_authenticated(request):
            return view(request, *args, **kwargs)
        wants_page = "text/html" in request.headers.get("Accept", "text/html")
        if not wants_page or request.headers.get("HX-Request"):
            raise AuthenticationNotRecent()
        back = request.get_full_path()
        if request.method not in ("GET", "HEAD"):
            messages.warning(request, _("Nothing was done yet: confirm who you are, then do it."))
            back = safe_next(request, request.headers.get("Referer", ""))
        return HttpResponseRedirect(f"{reverse('confirm_identity')}?{urlencode({'next': back})}")

    return guarded
