"""Signing in as people do: by the form, and by codes that an app would show."""

import time

import pytest
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from tests.factories import UserFactory

PASSWORD = "correct horse battery"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture(autouse=True)
def fresh_counts():
    """Forget the counts of failed attempts, and the codes already used."""
    cache.clear()


@pytest.fixture
def user(db):
    return UserFactory()


def signed_in(user, **headers) -> Client:
    """Return a client that signed in by the form."""
    client = Client(headers=headers)
    answer = client.post(reverse("login"), {"username": user.username, "password": PASSWORD})
    assert answer.status_code == 302
    return client


def age(client, seconds, key="authenticated_at"):
    """Make a time kept in the session this old."""
    session = client.session
    session[key] = int(time.time()) - seconds
    session.save()


def code_now(secret=SECRET) -> str:
    """Return what an authenticator app shows now."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30))


def give_app(user) -> list[str]:
    """Give the user an authenticator app; return the recovery codes."""
    TOTP.activate(user, SECRET)
    return RecoveryCodes.activate(user).generate_codes()
