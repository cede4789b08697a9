"""Bearer tokens for machines: `Authorization: Bearer ps_<prefix>_<secret>`."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import authentication, exceptions, permissions

from cases import row_scope
from cases.services import tokens


class ApiTokenAuthentication(authentication.BaseAuthentication):
    """Authenticate by an API token; the request then acts for the token's owner, narrowed."""

    def authenticate(self, request: Any) -> tuple[Any, Any] | None:
        scheme, _space, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = tokens.token_find(key.strip(), address=request.META.get("REMOTE_ADDR"))
        if token is None:
            # One answer for unknown, expired and revoked: nothing to learn by guessing.
            raise exceptions.AuthenticationFailed(_("This token is not valid."))
        # The middleware knew nobody: a token is read here.
        row_scope.user_set(token.user)
        return token.user, token

    def authenticate_header(self, request: Any) -> str:
        return "Bearer"


class HasTokenScope(permissions.BasePermission):
    """A token needs the scope that the view names for this method; people do not."""

    message = _("This token lacks the scope for this request.")

    def has_permission(self, request: Any, view: Any) -> bool:
        if request.auth is None:
            return True
        # Views name their scopes; one that names none is closed to tokens.
        name = "read_scope" if request.method in permissions.SAFE_METHODS else "write_scope"
        scope = getattr(view, name, None)
        return scope is not None and scope in request.auth.scopes


class ApiTokenScheme(OpenApiAuthenticationExtension):
    """Describes the token in the OpenAPI schema."""

    target_class = ApiTokenAuthentication
    name = "apiToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API token with scopes"}
