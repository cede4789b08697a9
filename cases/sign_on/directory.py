"""Signing on with the password of the hospital's LDAP directory (an extra: requirements-ldap.lock).

django-auth-ldap binds, searches and reads groups; here is who that person is on this site. A
person is known by the entry's own unchanging id: an account of the site with the same name is
never taken over, and a renamed entry keeps its account.
"""

from typing import Any

import ldap
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest
from django_auth_ldap import backend, config

from cases.models import DirectoryAccount
from cases.services.audit import Action, access_event_record
from cases.services.memberships import memberships_follow_groups

NETWORK_SECONDS, ANSWER_SECONDS = 5, 10

GROUP_KINDS = {
    "groupOfNames": config.GroupOfNamesType,
    "groupOfUniqueNames": config.GroupOfUniqueNamesType,
    "posix": config.PosixGroupType,
    "activeDirectory": config.NestedActiveDirectoryGroupType,
}


class DirectoryBackend(backend.LDAPBackend):
    """Who the directory lets in, with the account and the memberships that follow from it."""

    @property
    def settings(self) -> Any:
        """Return what django-auth-ldap asks, from the site's one sign-on file."""
        if self._settings is None:
            self._settings = backend.LDAPSettings(
                self.settings_prefix, _settings_of(settings.SIGN_ON_DIRECTORY)
            )
        return self._settings

    def authenticate_ldap_user(self, ldap_user: Any, password: str) -> Any:
        """Return the user whose entry takes the password, or None; groups are followed then."""
        with transaction.atomic():
            user = super().authenticate_ldap_user(ldap_user, password)
            if user is None or not user.is_active:
                return None
            try:
                groups = ldap_user.group_names
            except ldap.LDAPError as error:
                # Nobody signs on with the rights of the last time, nor loses them by this.
                backend.ldap_error.send(type(self), request=ldap_user._request, exception=error)
                return None
            DirectoryAccount.objects.get_or_create(
                user=user, defaults={"entry": self._entry_of(ldap_user)}
            )
            provider = settings.SIGN_ON_DIRECTORY["id"]
            memberships_follow_groups(user=user, provider=provider, groups=groups)
        return user

    def get_or_build_user(self, username: str, ldap_user: Any) -> tuple[Any, bool]:
        """Return (the account of this entry, whether it is new)."""
        known = (
            DirectoryAccount.objects.filter(entry=self._entry_of(ldap_user))
            .select_related("user")
            .first()
        )
        if known:
            return known.user, False
        model = get_user_model()
        told = _text(ldap_user.attrs.get(settings.SIGN_ON_DIRECTORY["name_attribute"]))
        name = (told or username).lower()
        if model.objects.filter(username__iexact=name).exists():
            raise ldap_user.AuthenticationFailed("an account of the site has this name")
        return model(username=name), True

    def get_user(self, user_id: Any) -> Any:
        """Return the user of a session; asking the directory is for signing on alone."""
        return get_user_model().objects.filter(pk=user_id, is_active=True).first()

    @staticmethod
    def _entry_of(ldap_user: Any) -> str:
        entry = _text(ldap_user.attrs.get(settings.SIGN_ON_DIRECTORY["uid_attribute"]))
        if not entry:
            raise ldap_user.AuthenticationFailed("the entry has no id")
        return f"{settings.SIGN_ON_DIRECTORY['id']}:{entry}"


@receiver(backend.ldap_error, sender=DirectoryBackend)
def directory_failed(request: HttpRequest | None, exception: Exception, **kwargs: Any) -> None:
    """Tell the page that it was the directory, not the password; keep it in the access log."""
    if request is not None:
        request.directory_is_down = True  # type: ignore[attr-defined]
    access_event_record(
        user=None,
        action=Action.LOGIN_FAILED,
        detail={"provider": settings.SIGN_ON_DIRECTORY["id"], "error": type(exception).__name__},
    )


def _text(values: Any) -> str:
    """Return the first value as text; what is no text (an objectGUID), as hexadecimal digits."""
    value = values[0] if values else ""
    return value.hex() if isinstance(value, bytes) else "".join(c for c in value if c.isprintable())


def _settings_of(told: dict[str, Any]) -> dict[str, Any]:
    options = {
        ldap.OPT_NETWORK_TIMEOUT: NETWORK_SECONDS,
        ldap.OPT_TIMEOUT: ANSWER_SECONDS,
        ldap.OPT_REFERRALS: 0,
        ldap.OPT_X_TLS_REQUIRE_CERT: ldap.OPT_X_TLS_DEMAND,
    }
    if told.get("ca_file"):
        options[ldap.OPT_X_TLS_CACERTFILE] = told["ca_file"]
    # Last: the options of TLS before it hold for connections made from here on.
    options[ldap.OPT_X_TLS_NEWCTX] = 0
    attributes = ["*", told["uid_attribute"]]
    subtree = ldap.SCOPE_SUBTREE
    return {
        "SERVER_URI": told["server_url"],
        "START_TLS": told.get("start_tls", False),
        "CONNECTION_OPTIONS": options,
        "BIND_DN": told.get("bind_dn", ""),
        "BIND_PASSWORD": told.get("bind_password", ""),
        "USER_SEARCH": config.LDAPSearch(
            told["people"], subtree, told["person_filter"], attributes
        ),
        "USER_ATTRLIST": attributes,
        "USER_ATTR_MAP": {"first_name": "givenName", "last_name": "sn"},
        "GROUP_SEARCH": config.LDAPSearch(told["groups"], subtree, told["group_filter"]),
        "GROUP_TYPE": GROUP_KINDS[told["group_kind"]](name_attr=told["group_name_attribute"]),
        "NO_NEW_USERS": not told.get("creates_accounts", True),
    }
