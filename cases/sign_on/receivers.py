"""Second factors as the audit sees them: set up, taken away, used, failed."""

from typing import Any

from allauth.account.signals import user_logged_in
from allauth.mfa.models import Authenticator
from allauth.mfa.signals import (
    authentication_failed,
    authenticator_added,
    authenticator_removed,
    authenticator_reset,
    authenticator_used,
)
from django.dispatch import receiver
from django.http import HttpRequest

from cases.recent_authentication import authentication_note
from cases.services.audit import Action, access_event_record
from cases.services.memberships import memberships_follow_groups
from cases.sign_on import second_factor
from cases.sign_on.adapters import provider_of

_PRIMARY = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]


@receiver(authenticator_added)
def factor_added(request: HttpRequest, user: Any, authenticator: Any, **kwargs: Any) -> None:
    """Record a new factor; setting it up proves that it is at hand."""
    if authenticator.type in _PRIMARY:
        second_factor.note(request, user)
    _record(Action.CREATE, user, authenticator)


@receiver(authenticator_removed)
def factor_removed(request: HttpRequest, user: Any, authenticator: Any, **kwargs: Any) -> None:
    """Record that a factor is gone; without any, the session has none either."""
    if not Authenticator.objects.filter(user=user, type__in=_PRIMARY).exists():
        second_factor.forget(request)
    _record(Action.DELETE, user, authenticator)


@receiver(authenticator_reset)
def factor_renewed(user: Any, authenticator: Any, **kwargs: Any) -> None:
    """Record new recovery codes."""
    _record(Action.CHANGE, user, authenticator)


@receiver(authenticator_used)
def factor_used(request: HttpRequest, user: Any, authenticator: Any, **kwargs: Any) -> None:
    """Note the factor in the session, and record its use."""
    second_factor.note(request, user)
    access_event_record(
        user=user,
        action=Action.LOGIN,
        target=user,
        detail={
            "factor": authenticator.type,
            "again": bool(kwargs.get("reauthenticated")),
            "passkey": bool(kwargs.get("passwordless")),
        },
    )


@receiver(authentication_failed)
def factor_failed(user: Any, authenticator: Any = None, **kwargs: Any) -> None:
    """Record a wrong code or key."""
    access_event_record(
        user=None,  # whoever it was
        action=Action.LOGIN_FAILED,
        target=user,
        detail={"factor": authenticator.type if authenticator else "unknown"},
    )


def _record(action: str, user: Any, authenticator: Any) -> None:
    access_event_record(
        user=user, action=action, target=user, detail={"factor": authenticator.type}
    )


@receiver(user_logged_in)
def signed_on(request: HttpRequest, user: Any, sociallogin: Any = None, **kwargs: Any) -> None:
    """Let memberships follow the groups that the hospital's provider tells."""
    if sociallogin is None:
        return
    provider = provider_of(sociallogin)
    claims = _claims(sociallogin.account.extra_data)
    groups = claims.get(provider.get("groups_claim", "groups")) or []
    groups = [groups] if isinstance(groups, str) else groups
    memberships_follow_groups(
        user=user, provider=provider["id"], groups=[str(group) for group in groups]
    )
    if provider.get("second_factor"):
        second_factor.note(request, user)
    # Who was signed on at the provider all day has not proved anything just now.
    at = claims.get("auth_time")
    if isinstance(at, int | float):
        authentication_note(request, at)
    access_event_record(
        user=user, action=Action.LOGIN, target=user, detail={"provider": provider["id"]}
    )


def _claims(told: dict[str, Any]) -> dict[str, Any]:
    """Return what an OIDC provider tells in the token and on asking, or SAML's attributes."""
    return {**told, **(told.get("id_token") or {}), **(told.get("userinfo") or {})}
