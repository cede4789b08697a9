"""One statement that says who asks, and which instances of what they name they may have.

Built from `visible_to`'s own rule and from the same tables that `permissions.departments_of`
and `tokens.token_find` read, compiled once per process: each request runs it, so a right that
is taken away ends with the next frame. Whatever it cannot confirm is left to the usual way.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db.models import Exists, ExpressionWrapper, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.fields import BooleanField
from django.db.models.functions import JSONObject, Now

from cases.models import ApiToken, DerivedInstance, Membership, SlideInstance
from cases.permissions import CAPABILITIES, CLINICAL_ROLES

# Stand for the request's values while the statement is compiled.
STUDY, SERIES, SOP, WHO, SESSION = "<study>", "<series>", "<sop>", "<who>", "<session>"
_USER = -73_000_001
"""The same for a user's id, which must be a number."""

COLUMNS = (
    "pk",
    "sop_instance_uid",
    "flavor",
    "transfer_syntax_uid",
    "frame_count",
    "sha256",
    "slide_image_id",
    "sees_label",
    "has_derived",
    "is_veiled",
)
ROWS_MAX = 1000
"""More instances than this are left to Django."""
# As often as tokens.token_find writes it: not when it was written within this time.
_USED_FRESH = timedelta(minutes=1)


def _instances(members: QuerySet[Membership], roles: Callable[[Any], QuerySet]) -> QuerySet:
    """Return the instance asked for, if somebody with these memberships may know of it."""
    rows = SlideInstance.objects.all()
    departments: Any = members.filter(role__in=CLINICAL_ROLES).values("department_id")
    derived = DerivedInstance.objects.filter(slide_image=OuterRef("slide_image_id"))
    return rows.filter(rows._visible(departments), slide_image__study_instance_uid=STUDY).annotate(
        sees_label=Exists(roles(CAPABILITIES["view_label"])),
        has_derived=Exists(derived),
        # Whoever may not know all patients: Django finds out whom.
        is_veiled=Exists(members.filter(role__in=CLINICAL_ROLES - CAPABILITIES["view_identity"])),
    )


def _members_of_token() -> QuerySet[Membership]:
    return Membership.objects.filter(
        Q(user__api_tokens__is_narrowed=False)
        | Q(user__api_tokens__departments=F("department_id")),
        department__isnull=False,
        user__api_tokens__prefix=WHO,
    )


def _by_token() -> QuerySet:
    token = ApiToken.objects.filter(
        prefix=WHO, revoked_at__isnull=True, expires_at__gt=Now(), user__is_active=True
    ).values(
        told=JSONObject(
            key_sha256="key_sha256",
            user="user_id",
            scopes="scopes",
            addresses="addresses",
            is_fresh=ExpressionWrapper(
                Q(last_used_at__gt=Now() - _USED_FRESH), output_field=BooleanField()
            ),
        )
    )

    def with_role(roles: Any) -> QuerySet:
        return _members_of_token().filter(department=OuterRef("department_id"), role__in=roles)

    return _instances(_members_of_token(), with_role).annotate(who=Subquery(token))


def _by_session() -> QuerySet:
    members = Membership.objects.filter(user_id=_USER, department__isnull=False)
    session = Session.objects.filter(session_key=SESSION, expire_date__gt=Now())
    user = get_user_model().objects.filter(pk=_USER, is_active=True)

    def with_role(roles: Any) -> QuerySet:
        return members.filter(department=OuterRef("department_id"), role__in=roles)

    return _instances(members, with_role).annotate(
        who=Subquery(user.values(told=JSONObject(hashed="password"))),
        session=Subquery(session.values("session_data")),
    )


@cache
def _compiled(kind: str, level: str) -> tuple[str, tuple[Any, ...]]:
    query = _by_token() if kind == "token" else _by_session()
    if level != "study":
        query = query.filter(slide_image__series_instance_uid=SERIES)
    if level == "instance":
        query = query.filter(sop_instance_uid=SOP)
    more = ("who",) if kind == "token" else ("who", "session")
    # In the order in which objects.find lists them.
    query = query.values_list(*COLUMNS, *more)[:ROWS_MAX]
    return query.query.sql_with_params()


def compile_statements() -> None:
    """Compile both, which may ask the database for its version: not in an event loop."""
    for kind in ("token", "session"):
        for level in ("study", "series", "instance"):
            _compiled(kind, level)


def statement(kind: str, **values: Any) -> tuple[str, Sequence[Any]]:
    """Return SQL and parameters: one row for each instance of what is asked for.

    kind: "token" or "session". values: study, series and sop as far as they are asked for, and
    prefix, or session and user.
    """
    series, sop = values.get("series"), values.get("sop")
    sql, parameters = _compiled(kind, "instance" if sop else "series" if series else "study")
    filled = {
        STUDY: values["study"],
        SERIES: series,
        SOP: sop,
        WHO: values.get("prefix"),
        SESSION: values.get("session"),
        _USER: values.get("user"),
    }
    return sql, [filled.get(one, one) if isinstance(one, (str, int)) else one for one in parameters]
