"""A department that exports, with a project and the short way from files to an archive."""

import zipfile
from pathlib import Path

import pytest

from cases.models import Export, SlideImage
from cases.permissions import Role
from cases.services import export_run, exports
from cases.services.export_projects import export_project_open
from tests.cases.intake.conftest import (  # noqa: F401  (fixtures)
    data_dir,
    deliver,
    department,
    technician,
)
from tests.factories import make_member


@pytest.fixture
def administrator(department):  # noqa: F811
    return make_member(department, Role.DEPARTMENT_ADMINISTRATOR)


@pytest.fixture
def researcher(department):  # noqa: F811
    return make_member(department, Role.RESEARCHER)


@pytest.fixture
def project(department, administrator):  # noqa: F811
    return export_project_open(user=administrator, department=department, name="Study one")


@pytest.fixture
def take_in(deliver):  # noqa: F811
    """Return a function that takes a folder in and gives its one slide image."""

    def _take_in(folder: Path, **form) -> SlideImage:
        (item,) = deliver(folder, **form).items.all()
        assert item.state == "accepted", (item.reason_code, item.reason)
        return item.slide_image

    return _take_in


@pytest.fixture
def make_export(researcher, project):
    """Return a function that exports slide images and gives the finished row."""

    def _make(*images: SlideImage, of=None, by=None, **options) -> Export:
        export = exports.export_request(
            user=by or researcher, project=of or project, slide_images=images, **options
        )
        export_run.export_run(export.pk)
        export.refresh_from_db()
        return export

    return _make


def unpacked(export: Export, folder: Path) -> list[Path]:
    """Return the DICOM files of a finished export, unpacked."""
    with zipfile.ZipFile(exports.export_file(export)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder, [n for n in archive.namelist() if n.endswith(".dcm")])
    return sorted(folder.rglob("*.dcm"))
