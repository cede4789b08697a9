"""Signing in, failing to, and signing out, as the audit sees them."""

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver

from cases.recent_authentication import authentication_note
from cases.services.audit import Action, access_event_record


@receiver(user_logged_in)
def login_record(sender: Any, user: Any, request: Any = None, **kwargs: Any) -> None:
    """Record a sign-in, and when it was."""
    if request is not None and hasattr(request, "session"):
        authentication_note(request)
    access_event_record(user=user, action=Action.LOGIN)


@receiver(user_logged_out)
def logout_record(sender: Any, user: Any, **kwargs: Any) -> None:
    """Record a sign-out."""
    if user is not None:
        access_event_record(user=user, action=Action.LOGOUT)


@receiver(user_login_failed)
def login_failure_record(sender: Any, credentials: dict[str, Any], **kwargs: Any) -> None:
    """Record a failed sign-in to an account.

    A name that no account has is not kept: people type their password there by mistake.
    """
    name = credentials.get("username") or ""
    account = get_user_model().objects.filter(username=name).first()
    access_event_record(
        user=None,  # whoever it was
        action=Action.LOGIN_FAILED,
        target=account,
        detail={} if account else {"account": "unknown"},
    )
