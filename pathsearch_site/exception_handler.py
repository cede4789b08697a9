"""Domain errors and DRF errors as problem+json (RFC 9457), each with a stable `code`."""

from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from cases.errors import DomainError


def problem_json(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the problem document for an error, or None for one that is a bug."""
    headers: dict[str, str] = {}
    extra: dict[str, Any] = {}
    if isinstance(error, DomainError):
        status, code, detail = error.http_status, error.code, error.message
    elif isinstance(error, Http404):
        status, code, detail = 404, "not_found", "There is no such object, or you may not see it."
    elif isinstance(error, PermissionDenied):
        status, code, detail = 403, "not_allowed", str(error) or "Your role does not allow this."
    elif isinstance(error, ValidationError):
        status, code, detail = 400, "invalid", "; ".join(error.messages)
    elif isinstance(error, exceptions.ValidationError):
        status, code, detail = 400, "invalid", "Some fields are not valid."
        extra["errors"] = error.detail
    elif isinstance(error, exceptions.APIException):
        status = error.status_code
        code = str(error.get_codes()) if isinstance(error.get_codes(), str) else "error"
        detail = str(error.detail)
        if isinstance(error, exceptions.NotFound):
            detail = "There is no such object, or you may not see it."
        if getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = error.auth_header
        if getattr(error, "wait", None):
            headers["Retry-After"] = str(int(error.wait))
    elif isinstance(error, RecursionError):
        status, code, detail = 400, "nested_too_deeply", "The body is nested too deeply to be read."
    else:
        return None
    set_rollback()
    body = {**problem_document(status, code, detail), **extra}
    return Response(body, status=status, headers=headers, content_type="application/problem+json")


def problem_document(status: int, code: str, detail: str) -> dict[str, Any]:
    """Return the members that every problem document has."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "code": code,
        "detail": detail,
    }
