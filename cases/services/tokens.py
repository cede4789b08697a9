"""API tokens: made once, shown once, kept as a hash."""

import hashlib
import ipaddress
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from cases.errors import Conflict
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
    addresses: Iterable[str] = (),
    expires_at: datetime | None = None,
    replaces: ApiToken | None = None,
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
        addresses=sorted(set(addresses)),
        # Of a narrowed token all of whose departments are gone comes no wide one.
        is_narrowed=bool(departments) or bool(replaces and replaces.is_narrowed),
        replaces=replaces,
        expires_at=expires_at or timezone.now() + timedelta(days=365),
    )
    token.full_clean()
    token.save()
    token.departments.set(departments)
    access_event_record(
        user=created_by or user,
        action=Action.CREATE,
        target=token,
        detail={
            "scopes": token.scopes,
            **({"replaces": replaces.prefix} if replaces else {}),
        },
    )
    return token, key


def token_find(key: str, *, address: str | None = None) -> ApiToken | None:
    """Return the live token of this key, its owner narrowed to the token's departments.

    address: where the request comes from. A token with a list of addresses is found only from
    those; from elsewhere the attempt is on record, for then the key is in wrong hands.
    """
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
    if not _may_come_from(token, address):
        access_event_record(
            user=None,  # whoever it was
            action=Action.LOGIN_FAILED,
            target=token,
            reason="address is not on the token's list",
            detail={"token": token.prefix},
        )
        return None
    # Written at most once a minute: reading a list should not write a row each time.
    ApiToken.objects.filter(pk=token.pk).filter(
        Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - timedelta(minutes=1))
    ).update(last_used_at=now, last_used_from=address)
    narrowed = frozenset(token.departments.values_list("pk", flat=True))
    token.user.token_department_ids = narrowed if token.is_narrowed else None
    token.user.token_prefix = token.prefix
    return token


def _may_come_from(token: ApiToken, address: str | None) -> bool:
    if not token.addresses:
        return True
    try:
        asker = ipaddress.ip_address(address or "")
    except ValueError:
        return False  # a list holds nothing that is not known
    # ::ffff:10.1.2.3 is how a socket for both kinds names 10.1.2.3.
    asker = getattr(asker, "ipv4_mapped", None) or asker
    return any(asker in ipaddress.ip_network(network) for network in token.addresses)


@transaction.atomic
def token_rotate(
    *, token: ApiToken, user: Any, overlap: timedelta = timedelta(hours=24), days: int = 365
) -> tuple[ApiToken, str]:
    """Return a new token with the rights of this one, and its key; the old one ends soon.

    overlap: how long both work, so that the machine can be given the new key.
    """
    token = ApiToken.objects.select_for_update().get(pk=token.pk)
    now = timezone.now()
    if token.revoked_at is not None or token.expires_at <= now:
        raise Conflict("This token has ended. Make a new one.", code="token_ended")
    made = token_create(
        user=token.user,
        name=token.name,
        scopes=token.scopes,
        departments=token.departments.all(),
        addresses=token.addresses,
        expires_at=now + timedelta(days=days),
        replaces=token,
        created_by=user,
    )
    token.expires_at = min(token.expires_at, now + overlap)
    token.save(update_fields=["expires_at"])
    access_event_record(
        user=user, action=Action.CHANGE, target=token, detail={"fields": ["expires_at"]}
    )
    return made


def token_revoke(*, token: ApiToken, user: Any) -> None:
    """End a token now."""
    with transaction.atomic():
        ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(
            revoked_at=timezone.now()
        )
        access_event_record(user=user, action=Action.DELETE, target=token)
