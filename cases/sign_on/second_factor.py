"""Whose roles ask for a second factor, and whether this session had one."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY as USER_KEY
from django.http import HttpRequest

from cases.permissions import Role, departments_of

_SESSION_KEY = "second_factor_of"


def is_required(user: Any) -> bool:
    """Return whether one of the user's roles asks for a second factor."""
    wanted = set(settings.MFA_ROLES)
    if not wanted:
        return False
    if user.is_superuser and Role.SYSTEM_ADMINISTRATOR in wanted:
        return True
    departments_of(user)  # reads the memberships once for the whole request
    return any(role in wanted for _department, role in user._membership_pairs)


def note(request: HttpRequest, user: Any) -> None:
    """Note that this user gave a second factor in this session."""
    request.session[_SESSION_KEY] = str(user.pk)


def forget(request: HttpRequest) -> None:
    """Note that the user has no second factor any more."""
    request.session.pop(_SESSION_KEY, None)


def was_given(request: HttpRequest) -> bool:
    """Return whether the user of this session gave a second factor in it."""
    return request.session.get(_SESSION_KEY) == str(request.user.pk)


def is_kept_in(session: Mapping[str, Any]) -> bool:
    """Return whether the signed-in user of this session gave a second factor in it."""
    return session.get(_SESSION_KEY) == session.get(USER_KEY, "")
