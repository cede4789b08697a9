"""What the OpenAPI schema says beyond the views: every error is a problem document."""

from typing import Any

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem document. Programs act on `code`; people read `detail`.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "errors": {"type": "object", "description": "By field, where fields are not valid"},
    },
    "required": ["type", "title", "status", "code", "detail"],
}


def add_problem_responses(result: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
    """Give each operation the problem document as its answer for any error."""
    result["components"]["schemas"]["Problem"] = _PROBLEM
    answer = {
        "description": "Refused or failed",
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        },
    }
    for path in result["paths"].values():
        for method, operation in path.items():
            if method in {"get", "post", "put", "patch", "delete", "head"}:
                operation["responses"].setdefault("default", answer)
    return result
