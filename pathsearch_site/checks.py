"""Things that make a site unusable, said at start-up and by `manage.py check`."""

import os
import shutil
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import Error, Warning, register


@register()
def data_dir_is_usable(**_kwargs: Any) -> list[Error | Warning]:
    """Return an error when the data folder cannot be written, a warning when it is nearly full."""
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    if not os.access(settings.DATA_DIR, os.W_OK):
        return [
            Error(
                f"The data folder {settings.DATA_DIR} cannot be written.",
                hint="Change its owner, or set PATHSEARCH_DATA_DIR to another folder.",
                id="pathsearch.E001",
            )
        ]
    free = shutil.disk_usage(settings.DATA_DIR).free
    if free < settings.DISK_RESERVE_BYTES:
        return [
            Warning(
                f"Only {free / 1024**3:.1f} GiB are free in the data folder: uploads are refused.",
                hint="Make room, or lower PATHSEARCH_DISK_RESERVE_GB.",
                id="pathsearch.W001",
            )
        ]
    return []


@register()
def leases_outlive_heartbeats(**_kwargs: Any) -> list[Error]:
    """Return an error when a lease would expire between two heartbeats of a healthy worker."""
    if settings.LEASE_SECONDS < 2:
        return [
            Error(
                "PATHSEARCH_LEASE_SECONDS must be at least 2.",
                hint="A healthy worker renews its lease several times in that span.",
                id="pathsearch.E002",
            )
        ]
    return []


@register()
def directory_can_be_asked(**_kwargs: Any) -> list[Error]:
    """Return an error when an LDAP directory is configured and what asks it is not installed."""
    if settings.SIGN_ON_DIRECTORY and find_spec("django_auth_ldap") is None:
        return [
            Error(
                "PATHSEARCH_SIGN_ON_FILE names a directory, but django-auth-ldap is missing.",
                hint="Install it by `make ldap`, or take the directory out of the file.",
                id="pathsearch.E003",
            )
        ]
    return []
