"""API tokens: made once, shown once, kept as a hash."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from cases.models import ApiToken, Department
from cases.services.audit import Action, access_event_record


def _sha256(key: str) -> str:
    # The key has 256 bits of its own, so a slow password hash would add nothing.
    return hashlib.sha256(key.encode()).hexdigest()


@transaction.atomic
def token_create(
    *,
    user: Any,
    name: str,
    scopes: Iterable[str],
    departments: Iterable[Department] = (),
    expires_at: datetime | None = None,
    created_by: Any = None,
) -> tuple[ApiToken, str]:
    """Return the token and its key, which is not kept: show it now. Expires after a year."""
    prefix = secrets.token_hex(4)
    departments = list(departments)
    key = f"ps_{prefix}_{secrets.token_urlsafe(32)}"
    token = ApiToken(
        user=user,
        name=name,
        prefix=prefix,
        key_sha256=_sha256(key),
        scopes=sorted(set(scopes)),
        is_narrowed=bool(departments),
        expires_at=expires_at or timezone.now() + timedelta(days=365),
    )
    token.full_clean()
    token.save()
    token.departments.set(departments)
    access_event_record(
        user=created_by or user,
        action=Action.CREATE,
        target=token,
        detail={"scopes": token.scopes},
    )
    return token, key


def token_find(key: str) -> ApiToken | None:
    """Return the live token of this key, its owner narrowed to the token's departments."""
    parts = key.split("_", 2)
    if len(parts) != 3 or parts[0] != "ps":
        return None
    now = timezone.now()
    token = (
        ApiToken.objects.select_related("user")
        .filter(prefix=parts[1], revoked_at__isnull=True, expires_at__gt=now, user__is_active=True)
        .first()
    )
    if token is None or not secrets.compare_digest(token.key_sha256, _sha256(key)):
        return None
    # Written at most once a minute: reading a list should not write a row each time.
    ApiToken.objects.filter(pk=token.pk).filter(
        Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - timedelta(minutes=1))
    ).update(last_used_at=now)
    narrowed = frozenset(token.departments.values_list("pk", flat=True))
    token.user.token_department_ids = narrowed if token.is_narrowed else None
    token.user.token_prefix = token.prefix
    return token


def token_revoke(*, token: ApiToken, user: Any) -> None:
    """End a token now."""
    with transaction.atomic():
        ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(
            revoked_at=timezone.now()
        )
        access_event_record(user=user, action=Action.DELETE, target=token)
