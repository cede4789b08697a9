"""Rows sent as they are kept: the same as Django's, in the same scope, with the same errors."""

import numpy as np
import pytest
from django.db import DataError, connection, transaction

from cases.permissions import Role
from cases.row_scope import acting_for_user
from retrieval.binary_rows import binary_rows
from retrieval.models import SlideEmbedding
from tests.factories import DepartmentFactory, make_member
from tests.retrieval.many_slides import many_slides, units
from tests.retrieval.vectors import make_model

pytestmark = pytest.mark.django_db

DIMENSION = 16


@pytest.fixture
def two():
    """Return a model and two departments with five slides each."""
    model = make_model(dimension=DIMENSION)
    departments = [DepartmentFactory() for _ in range(2)]
    many_slides(model, departments, units(10, 1, DIMENSION))
    return model, departments


def test_they_are_what_django_reads(two):
    rows = SlideEmbedding.objects.order_by("pk").values_list(
        "pk", "slide_image_id", "mosaic", "codec_id", "cells"
    )
    expected = [(pk, image, bytes(data), *rest) for pk, image, data, *rest in rows]
    assert len(expected) == 10
    assert binary_rows(rows) == expected
    assert binary_rows(SlideEmbedding.objects.none().values_list("pk")) == []


def test_row_security_holds_for_them(two, settings):
    settings.ROW_SECURITY = True
    _model, departments = two
    forgotten = SlideEmbedding.objects.values_list("department_id")  # no visible_to
    with acting_for_user(make_member(departments[0], Role.PATHOLOGIST)):
        assert binary_rows(forgotten) == [(departments[0].pk,)] * 5


def test_errors_are_djangos_own(two):
    rows = SlideEmbedding.objects.extra(select={"broken": "1 / (id - id)"}).values_list("broken")
    with pytest.raises(DataError), transaction.atomic():
        binary_rows(rows)
    assert connection.is_usable()


def test_the_nearest_come_with_their_mosaics(two):
    model, departments = two
    rows = SlideEmbedding.objects.visible_to(make_member(departments[1], Role.PATHOLOGIST))
    vector = units(1, 2, DIMENSION)[0]
    near = rows.nearest_mosaics(model=model, vector=vector, limit=3)
    expected = rows.nearest(model=model, vector=vector, limit=3, key="slide_image_id")
    everything = rows.mosaics(model=model, vector=vector, slide_image_ids=[n.key for n in expected])
    assert sorted(near) == sorted(n.key for n in expected)
    assert sorted(near.values(), key=lambda m: m.slide_image_id) == everything
    assert np.allclose(sorted(m.similarity for m in near.values())[-1], expected[0].similarity)
