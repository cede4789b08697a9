"""One's own account: what one may do, where one is signed in, and ending that."""

from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from cases.services.audit import Action, access_event_record
from cases.sign_on import second_factor
from cases.sign_on.browsers import browser_name


@login_required
@require_safe
def my_account(request: HttpRequest) -> HttpResponse:
    """Show the account, its roles, its second factors, sessions and tokens."""
    sessions = UserSession.objects.purge_and_list(request.user)
    sessions.sort(key=lambda session: session.last_seen_at, reverse=True)
    for session in sessions:
        session.browser = browser_name(session.user_agent)
    factors = set(Authenticator.objects.filter(user=request.user).values_list("type", flat=True))
    return render(
        request,
        "registration/account.html",
        {
            "memberships": request.user.memberships.select_related("department"),
            "sessions": sessions,
            "current": request.session.session_key,
            "has_factor": bool(factors - {Authenticator.Type.RECOVERY_CODES}),
            "factor_is_required": second_factor.is_required(request.user),
            "tokens": request.user.api_tokens.filter(revoked_at__isnull=True),
        },
    )


@login_required
@require_POST
def session_end(request: HttpRequest, pk: int) -> HttpResponse:
    """End one of one's own sessions, from the next request in it on."""
    session = get_object_or_404(UserSession, pk=pk, user=request.user)
    _end(request, session)
    messages.success(request, _("That session has ended."))
    return redirect("my_account")


@login_required
@require_POST
def sessions_end(request: HttpRequest) -> HttpResponse:
    """End all of one's sessions but this one."""
    others = UserSession.objects.filter(user=request.user).exclude(
        session_key=request.session.session_key
    )
    for session in others:
        _end(request, session)
    messages.success(request, _("All other sessions have ended."))
    return redirect("my_account")


def _end(request: HttpRequest, session: UserSession) -> None:
    access_event_record(
        user=request.user,
        action=Action.LOGOUT,
        target=request.user,
        reason="session ended by its user",
        detail={"address": session.ip},
    )
    session.end()
