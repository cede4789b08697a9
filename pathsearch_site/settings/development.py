"""Settings for `make run`: one machine, plain HTTP on loopback."""

from pathsearch_site.settings import env
from pathsearch_site.settings.base import *  # noqa: F403

DEBUG = env.boolean(
    "PATHSEARCH_DEBUG", False, "Show Django's error pages (never with patient data)"
)
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = True  # plain HTTP, on loopback alone
