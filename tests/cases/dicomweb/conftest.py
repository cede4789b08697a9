"""A department whose scanner and viewer have tokens for DICOMweb."""

import pytest
from django.test import Client

from cases.services import tokens
from cases.services.reception import stop_check_server
from tests.cases.intake.conftest import (  # noqa: F401
    data_dir,
    department,
    other_technician,
    page,
    technician,
)
from tests.synthetic_slide import write_dicom_slide


def client_for(user, *scopes: str) -> Client:
    """Return a client with a token of the user."""
    scopes = scopes or ("dicomweb:read", "dicomweb:write")
    _token, key = tokens.token_create(user=user, name="t", scopes=scopes)
    return Client(headers={"Authorization": f"Bearer {key}"})


@pytest.fixture(scope="session", autouse=True)
def check_server():
    """End the warm process with the tests."""
    yield
    stop_check_server()


@pytest.fixture
def scanner(technician) -> Client:  # noqa: F811
    return client_for(technician)


@pytest.fixture
def slide(tmp_path):
    """Return the folder of a small DICOM slide: three levels, a label and an overview."""
    return write_dicom_slide(tmp_path / "slide", patient_id="M1", accession_number="S26-1")
