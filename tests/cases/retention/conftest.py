"""A department that keeps cases for ten years, two who decide, and cases of that age."""

from datetime import date
from pathlib import Path

import pytest

from cases.models import Case
from cases.permissions import Role
from cases.services import retention, retention_run
from tests.cases.intake.conftest import (  # noqa: F401  (fixtures)
    data_dir,
    deliver,
    department,
    technician,
)
from tests.factories import make_member
from tests.synthetic_slide import write_dicom_slide

LONG_AGO = date(2001, 5, 6)


@pytest.fixture(autouse=True)
def _locked(settings):
    """Both locks are on, as on a site."""
    settings.ROW_SECURITY = True


@pytest.fixture
def keeping(department):  # noqa: F811
    department.retention_years = 10
    department.save()
    return department


@pytest.fixture
def anna(keeping):
    return make_member(keeping, Role.DEPARTMENT_ADMINISTRATOR, username="anna")


@pytest.fixture
def ben(keeping):
    return make_member(keeping, Role.DEPARTMENT_ADMINISTRATOR, username="ben")


@pytest.fixture
def old_case(keeping, deliver, tmp_path):  # noqa: F811
    """Return a function that takes a slide in and makes its case as old as asked."""

    def _old_case(number: str = "S01-1", *, received_on=LONG_AGO, seed: int = 1, **form) -> Case:
        folder: Path = tmp_path / f"in-{number}"
        write_dicom_slide(folder, seed=seed, accession_number=number, **form)
        (item,) = deliver(folder).items.all()
        assert item.state == "accepted", (item.reason_code, item.reason)
        case = item.slide_image.slide.case
        Case.objects.filter(pk=case.pk).update(received_on=received_on)
        case.refresh_from_db()
        return case

    return _old_case


@pytest.fixture
def delete(anna, ben):
    """Return a function that proposes, approves and runs the deletion of a case."""

    def _delete(case: Case, *, run: bool = True):
        (deletion,) = retention.deletions_propose(
            user=anna, cases=[case.pk], why="Ten years are over"
        ).made
        retention.deletion_approve(user=ben, deletion=deletion)
        if run:
            retention_run.deletion_run(deletion.pk)
        deletion.refresh_from_db()
        return deletion

    return _delete
