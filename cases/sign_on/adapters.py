"""What allauth asks of the house: who may come in, how secrets are kept, how to ask again."""

import base64
import hashlib
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from cases.recent_authentication import is_recently_authenticated
from cases.services.audit import Action, access_event_record

UNKNOWN_ADDRESS = "0.0.0.0"  # noqa: S104  (a socket has no address)


class AccountAdapter(DefaultAccountAdapter):
    """Accounts are made by administrators or at the first sign-on by the hospital's provider."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        return not is_recently_authenticated(context.request)

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        if not user.is_authenticated:
            return []
        return [
            {
                "id": "confirm_identity",
                "description": _("Confirm who you are"),
                "url": reverse("confirm_identity"),
            }
        ]

    def get_client_ip(self, request: HttpRequest) -> str:
        # As the audit sees it; behind a proxy the server sets it from the proxy's header.
        return request.META.get("REMOTE_ADDR") or UNKNOWN_ADDRESS

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send nothing: the site has no mail server of its own."""


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    """People who sign on at the hospital's provider are known by its id for them alone.

    Neither a user name nor a mail address joins them to an account that is here already.
    """

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        return provider_of(sociallogin).get("creates_accounts", True)

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        sociallogin.email_addresses = []

    def populate_user(self, request: HttpRequest, sociallogin: Any, data: dict[str, Any]) -> Any:
        # What is told is kept: without NUL and the like, which the database cannot hold.
        account = sociallogin.account
        account.extra_data, account.uid = _printable(account.extra_data), _printable(account.uid)
        clean = _printable(data)
        return super().populate_user(request, sociallogin, clean)

    def on_authentication_error(self, request: HttpRequest, provider: Any, **more: Any) -> None:
        access_event_record(
            user=None,
            action=Action.LOGIN_FAILED,
            detail={"provider": provider.app.provider_id, "error": str(more.get("error") or "")},
        )


def _printable(told: Any) -> Any:
    if isinstance(told, str):
        return "".join(c for c in told if c.isprintable())
    if isinstance(told, dict):
        return {str(key): _printable(value) for key, value in told.items()}
    if isinstance(told, list):
        return [_printable(value) for value in told]
    return told


def provider_of(sociallogin: Any) -> dict[str, Any]:
    """Return the configuration of the provider by which somebody signs on."""
    wanted = sociallogin.provider.app.provider_id
    return next(one for one in settings.SIGN_ON_PROVIDERS if one["id"] == wanted)


class MFAAdapter(DefaultMFAAdapter):
    """Second factors; their secrets are encrypted in the database."""

    def get_totp_issuer(self) -> str:
        return f"PathSearch {context.request.get_host()}"

    def get_totp_label(self, user: Any) -> str:
        return user.get_username()

    def encrypt(self, text: str) -> str:
        return _fernet().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return _fernet().decrypt(encrypted_text.encode()).decode()


def _fernet() -> MultiFernet:
    """Return the cipher of the site's key; older keys still read what they wrote."""
    return MultiFernet(
        [Fernet(_key_of(key)) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    )


def _key_of(secret: str) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(b"second-factor:" + secret.encode()).digest())
