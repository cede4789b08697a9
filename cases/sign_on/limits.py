"""How long a session lasts, from the times that are kept in it."""

import time
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from cases.sign_on import second_factor

BEGAN, SEEN = "began_at", "seen_at"
PRESENTING = "presenting_since"
"""In a session whose identifiers are hidden: since when, as ISO text."""
WRITE_SECONDS = 60
"""The last use is written no more often than this."""


def name_that_counts(request: HttpRequest | None, credentials: Mapping[str, Any] | None) -> str:
    """Return the user name under which failures to sign on are counted, however it was typed."""
    told: Any = (credentials or {}).get("username")
    if told is None and request is not None:
        told = request.POST.get("username")
    return str(told or "").strip().casefold()[:255]


def reason_to_end(session: Mapping[str, Any], now: int) -> str:
    """Return why the session must end: "old", "idle", or "" to let it go on."""
    began = session.get(BEGAN, now)
    if now - began >= settings.SESSION_COOKIE_AGE:
        return "old"
    if settings.SESSION_IDLE_SECONDS and now - session.get(SEEN, began) >= (
        settings.SESSION_IDLE_SECONDS
    ):
        return "idle"
    return ""


def is_plain(session: Mapping[str, Any]) -> bool:
    """Return whether no middleware would end, note or redirect anything in this session now.

    For what answers before the middleware does; all else is left to it.
    """
    now = int(time.time())
    if PRESENTING in session:
        return False
    if not {BEGAN, SEEN} <= set(session) or now - session[SEEN] >= WRITE_SECONDS:
        return False
    if settings.MFA_ROLES and not second_factor.is_kept_in(session):
        return False
    return not reason_to_end(session, now)
