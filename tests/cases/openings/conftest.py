"""A case of the north with a readable slide, and people of the south."""

import pytest

from cases.models import Case, SlideImage
from tests.cases.pages.conftest import Cast, _closed_readers, cast, tiff_slide  # noqa: F401
from tests.factories import ReportFactory


@pytest.fixture(autouse=True)
def _locked(settings):
    """Both locks are on, as on a site."""
    settings.ROW_SECURITY = True


@pytest.fixture
def case(tiff_slide: SlideImage) -> Case:  # noqa: F811
    found = tiff_slide.slide.case
    ReportFactory(case=found, diagnosis_line="Signet ring cell carcinoma")
    return found
