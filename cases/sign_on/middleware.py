"""Ends sessions that are idle or old, and asks certain roles for a second factor."""

import time
from collections.abc import Callable

from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from cases.services.audit import Action, access_event_record
from cases.sign_on import second_factor
from cases.sign_on.adapters import UNKNOWN_ADDRESS
from cases.sign_on.limits import BEGAN, SEEN, WRITE_SECONDS, reason_to_end

Response = Callable[[HttpRequest], HttpResponse]

# Elements that ask for themselves again: nobody need sit there.
_POLLING = frozenset({"export-status", "upload-status", "indexing-table"})


class SessionLimitsMiddleware:
    """End a session that was not used for a while, or that began long ago.

    The last use is written at most once a minute, so that looking at tiles costs no writes.
    """

    def __init__(self, get_response: Response) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.user.is_authenticated:
            self._check(request)
        key = request.session.session_key if request.user.is_authenticated else None
        response = self.get_response(request)
        if key and request.user.is_authenticated and request.session.session_key != key:
            # The key is renewed when one proves again who one is: the list must follow.
            UserSession.objects.filter(session_key=key).update(
                session_key=request.session.session_key
            )
        return response

    def _check(self, request: HttpRequest) -> None:
        session, now = request.session, int(time.time())
        session.setdefault(BEGAN, now)
        why = reason_to_end(session, now)
        if why:
            access_event_record(
                user=request.user,
                action=Action.LOGOUT,
                target=request.user,
                reason=f"session {why}",
            )
            UserSession.objects.filter(session_key=session.session_key).delete()
            # Not logout(), which would record a sign-out that nobody asked for.
            session.flush()
            request.user = AnonymousUser()
            messages.info(request, _("Your session has ended. Please sign in again."))
        elif request.headers.get("HX-Trigger") not in _POLLING and (
            now - session.get(SEEN, 0) >= WRITE_SECONDS
        ):
            session[SEEN] = now
            UserSession.objects.filter(session_key=session.session_key).update(
                last_seen_at=timezone.now(), ip=request.META.get("REMOTE_ADDR") or UNKNOWN_ADDRESS
            )


class SecondFactorMiddleware:
    """Let roles that need a second factor nowhere but to setting one up, until they have one."""

    def __init__(self, get_response: Response) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_view: object) -> HttpResponse | None:
        if not request.user.is_authenticated or second_factor.was_given(request):
            return None
        route = request.resolver_match.view_name or ""
        if (
            route in _OPEN
            or route.startswith("mfa_")
            or not second_factor.is_required(request.user)
        ):
            return None
        if request.path.startswith(("/api/", "/dicomweb/")):
            return JsonResponse(
                {
                    "type": "about:blank",
                    "title": "Forbidden",
                    "status": 403,
                    "code": "second_factor_required",
                    "detail": "Your role asks for a second factor: set one up on your account.",
                },
                status=403,
                content_type="application/problem+json",
            )
        messages.warning(
            request,
            _("Your role asks for a second factor. Set one up here; everything else opens then."),
        )
        return HttpResponseRedirect(reverse("mfa_index"))


_OPEN = frozenset({"login", "logout", "confirm_identity", "password", "my_account", "healthz"})
