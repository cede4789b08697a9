"""Two departments with their people, and a real small slide with a label in the first."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from cases.models import Department, SlideImage
from cases.permissions import Role
from cases.services import slide_readers
from tests.factories import DepartmentFactory, make_member, make_slide_image
from tests.synthetic_slide import write_dicom_slide, write_tiff_slide

WIDTH, HEIGHT = 1024, 768


@dataclass
class Cast:
    """Who is there: `north` owns what the tests look at, `south` must not see it."""

    north: Department
    south: Department

    def client(self, department: Department | None, role: Role) -> Client:
        """Return the signed-in browser of a new member."""
        client = Client()
        client.force_login(make_member(department, role))
        return client


@pytest.fixture
def cast(db) -> Cast:
    return Cast(DepartmentFactory(code="north"), DepartmentFactory(code="south"))


@pytest.fixture(autouse=True)
def _closed_readers():
    yield
    slide_readers._cache.clear()


def _store(slide_image: SlideImage) -> Path:
    return settings.DATA_DIR / slide_image.path


@pytest.fixture
def tiff_slide(cast) -> SlideImage:
    """Return a slide image of the north whose file is a pyramidal TIFF."""
    image = make_slide_image(cast.north, width_l0=WIDTH, height_l0=HEIGHT)
    image.path = f"slides/{image.pk}/slide.tiff"
    image.save()
    write_tiff_slide(_store(image), seed=1)
    return image


@pytest.fixture
def dicom_slide(cast) -> SlideImage:
    """Return a slide image of the north whose files are a DICOM series with a label."""
    image = make_slide_image(
        cast.north,
        width_l0=WIDTH,
        height_l0=HEIGHT,
        source_format=SlideImage.Format.DICOM,
        has_label_image=True,
    )
    image.path = f"slides/{image.pk}"
    image.save()
    write_dicom_slide(_store(image), seed=1, label=True)
    return image
