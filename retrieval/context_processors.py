"""What every page of the portal shows of searches."""

from typing import Any

from django.http import HttpRequest

from retrieval import selectors


def searches(request: HttpRequest) -> dict[str, Any]:
    """Return how many new slides answer the user's saved searches, asked where it is shown."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    return {"new_matches": lambda: selectors.new_matches_of(user)}
