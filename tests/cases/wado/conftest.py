"""A department that takes slides in, and those who read them over DICOMweb."""

import pytest
from django.test import Client

from cases.permissions import Role
from cases.services import tokens
from tests.cases.intake.conftest import data_dir, deliver, department, technician  # noqa: F401
from tests.factories import make_member


def reader(user, **token) -> Client:
    """Return a client with a token of the user that reads DICOMweb."""
    _token, key = tokens.token_create(user=user, name="viewer", scopes=["dicomweb:read"], **token)
    return Client(headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def pathologist(department) -> Client:  # noqa: F811
    return reader(make_member(department, Role.PATHOLOGIST))


@pytest.fixture
def researcher(department) -> Client:  # noqa: F811
    """May see slides and no labels."""
    return reader(make_member(department, Role.RESEARCHER))
