"""A department with its members, and clients of the API."""

from types import SimpleNamespace

import pytest
from rest_framework.test import APIClient

from cases.models import ApiToken
from cases.permissions import Role
from cases.services.tokens import token_create
from tests.factories import DepartmentFactory, make_member


def client_with_token(user, *, scopes=tuple(ApiToken.Scope.values), departments=()) -> APIClient:
    """Return a client that acts by a token of this user."""
    _token, key = token_create(user=user, name="test", scopes=scopes, departments=departments)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client


@pytest.fixture
def site(db):
    """Two departments; `lis` writes for the first, `other` is a pathologist of the second."""
    north, south = DepartmentFactory(code="north"), DepartmentFactory(code="south")
    pathologist = make_member(north, Role.PATHOLOGIST)
    stranger = make_member(south, Role.PATHOLOGIST)
    return SimpleNamespace(
        north=north,
        south=south,
        pathologist=pathologist,
        stranger=stranger,
        lis=client_with_token(pathologist),
        other=client_with_token(stranger),
    )
