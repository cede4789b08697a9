"""Two patients of the north with a case each, a third, and one of the south."""

from types import SimpleNamespace

import pytest

from cases.permissions import Role
from tests.cases.api.conftest import client_with_token
from tests.factories import CaseFactory, DepartmentFactory, PatientFactory, make_member


@pytest.fixture(autouse=True)
def _locked(settings):
    """Both locks are on, as on a site."""
    settings.ROW_SECURITY = True


@pytest.fixture
def site(db):
    north, south = DepartmentFactory(code="north"), DepartmentFactory(code="south")
    patients = {
        mrn: PatientFactory(department=north, mrn=mrn, family_name="Doe", given_name=mrn)
        for mrn in ("A1", "B2", "C3")
    }
    admin = make_member(north, Role.DEPARTMENT_ADMINISTRATOR)
    return SimpleNamespace(
        north=north,
        south=south,
        a=patients["A1"],
        b=patients["B2"],
        c=patients["C3"],
        case_a=CaseFactory(department=north, patient=patients["A1"], accession_number="S-A"),
        case_b=CaseFactory(department=north, patient=patients["B2"], accession_number="S-B"),
        foreign=PatientFactory(department=south, mrn="B2", mrn_issuer=north.mrn_issuer),
        admin=admin,
        adt=client_with_token(admin, scopes=["patients:merge"]),
        lis=client_with_token(make_member(north, Role.TECHNICIAN)),
    )
