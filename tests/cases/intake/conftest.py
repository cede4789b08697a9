"""A department with a technician, a data folder of its own, and the short way in."""

from pathlib import Path

import pytest
from django.test import Client

from cases.models import SlideUpload
from cases.permissions import Role
from cases.services import processing, tokens, uploads
from tests.factories import DepartmentFactory, make_member


@pytest.fixture(autouse=True)
def data_dir(settings, tmp_path) -> Path:
    """Return the data folder of this test alone."""
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    return settings.DATA_DIR


@pytest.fixture
def department(db):
    # The issuers that tests.synthetic_slide writes by default.
    return DepartmentFactory(code="lung", mrn_issuer="hospital", accession_issuer="lis")


@pytest.fixture
def technician(department):
    return make_member(department, Role.TECHNICIAN)


@pytest.fixture
def other_technician(db):
    other = DepartmentFactory(code="skin", mrn_issuer="hospital", accession_issuer="lis")
    return make_member(other, Role.TECHNICIAN)


@pytest.fixture
def deliver(department, technician, django_capture_on_commit_callbacks):
    """Return a function that takes a folder or file in and processes it."""

    def _deliver(folder: Path, *, user=None, to=None, **form) -> SlideUpload:
        with django_capture_on_commit_callbacks(execute=True):
            upload = uploads.upload_local_folder(
                user=user or technician,
                department=to or department,
                folder=folder,
                source=SlideUpload.Source.COMMAND,
                **form,
            )
            processing.upload_process(upload.pk)
        upload.refresh_from_db()
        return upload

    return _deliver


@pytest.fixture
def page(technician) -> Client:
    """Return a browser in which the technician is signed in."""
    client = Client()
    client.force_login(technician)
    return client


@pytest.fixture
def api(department, technician) -> Client:
    """Return a client with an upload token of the technician."""
    _token, key = tokens.token_create(user=technician, name="scanner", scopes=["uploads:write"])
    return Client(headers={"Authorization": f"Bearer {key}"})


def only_item(upload: SlideUpload):
    """Return the one item of an upload."""
    (item,) = upload.items.all()
    return item


def stored(data_dir: Path, folder: str) -> set[str]:
    """Return the names in a folder of the data folder."""
    path = data_dir / folder
    return {entry.name for entry in path.iterdir()} if path.is_dir() else set()
