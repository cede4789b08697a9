"""Settings for a hospital's server: HTTPS only, behind a proxy that ends TLS."""

from pathsearch_site.settings import env
from pathsearch_site.settings.base import *  # noqa: F403
from pathsearch_site.settings.base import MFA_ROLES, MFA_ROLES_ARE_AUTO

if MFA_ROLES_ARE_AUTO:
    MFA_ROLES = ["system_administrator", "auditor"]

SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
LANGUAGE_COOKIE_SECURE = True
SESSION_COOKIE_NAME = "__Host-sessionid"
CSRF_COOKIE_NAME = "__Host-csrftoken"
SECURE_SSL_REDIRECT = env.boolean(
    "PATHSEARCH_SSL_REDIRECT", True, "Redirect plain HTTP to HTTPS (production)"
)
SECURE_HSTS_SECONDS = 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
# The proxy must set this header itself and drop a client's own.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
