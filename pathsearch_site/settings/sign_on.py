"""The hospital's own sign-on, read from one file: providers, and which group is which role.

    {"providers": [{"kind": "oidc", "id": "hospital", "name": "St. Elsewhere", …}],
     "directory": {"id": "ldap", "server_url": "ldaps://ldap.example.org", …},
     "groups": [{"group": "path-north", "department": "north", "role": "pathologist"}]}

docs/sign-on.md describes each member.
"""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pathsearch_site.settings import accounts, env

_SHARED = {"kind", "id", "name", "groups_claim", "creates_accounts", "second_factor"}
_OF_KIND = {
    "oidc": {"server_url", "client_id", "secret", "secret_file", "scopes", "uid_claim"},
    "saml": {"idp", "attribute_mapping", "advanced", "sp"},
}
_OF_DIRECTORY = {
    "creates_accounts": True,
    "bind_dn": "",
    "bind_password": "",
    "bind_password_file": "",
    "start_tls": False,
    "ca_file": "",
    "person_filter": "(uid=%(user)s)",
    "name_attribute": "uid",
    "uid_attribute": "entryUUID",
    "group_filter": "(objectClass=groupOfNames)",
    "group_kind": "groupOfNames",
    "group_name_attribute": "cn",
}
_ACTIVE_DIRECTORY = {
    "person_filter": "(&(objectClass=user)(sAMAccountName=%(user)s))",
    "name_attribute": "sAMAccountName",
    "uid_attribute": "objectGUID",
    "group_filter": "(objectClass=group)",
}
_GROUP_KINDS = {"groupOfNames", "groupOfUniqueNames", "posix", "activeDirectory"}

Providers = list[dict[str, Any]]


def read_sign_on(path: str) -> tuple[Providers, list[dict[str, Any]], dict[str, Any] | None]:
    """Return the file's providers, groups and directory; nothing where there is none."""
    if not path:
        return [], [], None
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
        providers, groups = told.get("providers", []), told.get("groups", [])
        for provider in providers:
            kind = provider["kind"]
            unknown = set(provider) - _SHARED - _OF_KIND[kind]
            missing = {"id", "name"} - set(provider)
            if unknown or missing:
                raise ValueError(f"provider: {sorted(unknown | missing)} unknown or missing")
        for group in groups:
            if not {"group", "role"} <= set(group) <= {"group", "role", "department", "provider"}:
                raise ValueError(f"group: {group}")
        directory = _directory(told.get("directory"))
        ids = [one["id"] for one in (*providers, *([directory] if directory else []))]
        if len(ids) != len(set(ids)):
            raise ValueError("two providers have the same id")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise env.SettingError(f"PATHSEARCH_SIGN_ON_FILE {path}: {error!r}") from error
    return providers, groups, directory


def _directory(told: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the LDAP directory with all its members, the password read from its file."""
    if not told:
        return None
    is_active_directory = told.get("group_kind") == "activeDirectory"
    whole = _OF_DIRECTORY | (_ACTIVE_DIRECTORY if is_active_directory else {}) | told
    needed = {"id", "server_url", "people", "groups"}
    wrong = (set(told) - set(_OF_DIRECTORY) - needed) | (needed - set(told))
    if wrong:
        raise ValueError(f"directory: {sorted(wrong)} unknown or missing")
    if whole["group_kind"] not in _GROUP_KINDS:
        raise ValueError(f"directory: group_kind is one of {sorted(_GROUP_KINDS)}")
    where = urlsplit(whole["server_url"])
    is_secret = where.scheme == "ldaps" or whole["start_tls"]
    if not is_secret and where.hostname not in {"127.0.0.1", "::1", "localhost"}:
        raise ValueError("directory: passwords go by ldaps:// or start_tls alone")
    if whole["bind_password_file"]:
        text = Path(whole["bind_password_file"]).read_text(encoding="utf-8")
        whole["bind_password"] = text.strip()
    return whole


def allauth_providers(providers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the providers as django-allauth's setting has them."""
    oidc, saml = [], []
    for provider in providers:
        app = {"provider_id": provider["id"], "name": provider["name"]}
        if provider["kind"] == "oidc":
            file = provider.get("secret_file")
            secret = Path(file).read_text(encoding="utf-8").strip() if file else ""
            settings = {"server_url": provider["server_url"], "oauth_pkce_enabled": True}
            if "scopes" in provider:
                settings["scope"] = provider["scopes"]
            if "uid_claim" in provider:
                settings["uid_field"] = provider["uid_claim"]
            secret = secret or provider.get("secret", "")
            app |= {"client_id": provider["client_id"], "secret": secret, "settings": settings}
            oidc.append(app)
        else:
            advanced = {
                "want_assertion_signed": True,
                "reject_idp_initiated_sso": True,
                "strict": True,
                **provider.get("advanced", {}),
            }
            settings = {"idp": provider["idp"], "advanced": advanced}
            settings |= {k: provider[k] for k in ("attribute_mapping", "sp") if k in provider}
            # allauth names a SAML provider in its addresses by the client id.
            saml.append({**app, "client_id": provider["id"], "settings": settings})
    return {"openid_connect": {"APPS": oidc}, "saml": {"APPS": saml}}


SIGN_ON_PROVIDERS, SIGN_ON_GROUPS, SIGN_ON_DIRECTORY = read_sign_on(
    env.string(
        "PATHSEARCH_SIGN_ON_FILE",
        "",
        "JSON file with the hospital's OIDC and SAML providers, its LDAP directory and their "
        "groups; empty: none",
    )
)
AUTHENTICATION_BACKENDS = [
    *accounts.AUTHENTICATION_BACKENDS,
    *(["cases.sign_on.directory.DirectoryBackend"] if SIGN_ON_DIRECTORY else []),
]
SOCIALACCOUNT_PROVIDERS = allauth_providers(SIGN_ON_PROVIDERS)
SOCIALACCOUNT_ADAPTER = "cases.sign_on.adapters.SocialAccountAdapter"
SOCIALACCOUNT_AUTO_SIGNUP = True
# A link, for the browser would hold a form to this site's own addresses (CSP form-action). The
# answer is bound to the browser that asked by its state either way.
SOCIALACCOUNT_LOGIN_ON_GET = True
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False  # an address proves nobody
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
SOCIALACCOUNT_QUERY_EMAIL = False
