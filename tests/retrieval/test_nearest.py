"""Distance SQL: a restricted user's neighbours are those of an exact search in their scope."""

import numpy as np
import pytest
from django.db import connection

from cases.models import Department, SlideImage
from cases.permissions import Role
from retrieval.models import SlideEmbedding
from retrieval.querysets import vector_index_ensure, vector_index_name
from tests.factories import DepartmentFactory, make_member
from tests.retrieval.many_slides import many_slides, units
from tests.retrieval.vectors import make_model

pytestmark = pytest.mark.django_db

DIMENSION = 32
SLIDES = 20_000
DEPARTMENTS = 50


def random_units(count: int, seed: int) -> np.ndarray:
    return units(count, seed, DIMENSION)


def test_one_row_in_fifty_through_hnsw_equals_exact_search(settings):
    model = make_model(dimension=DIMENSION)
    departments = [DepartmentFactory() for _ in range(DEPARTMENTS)]
    anna = make_member(departments[7], Role.PATHOLOGIST)
    with connection.cursor() as cursor:  # made anew below: quicker than row by row
        cursor.execute(f"DROP INDEX {vector_index_name(SlideEmbedding, model)}")
    many_slides(model, departments, random_units(SLIDES, 1))
    connection.check_constraints()
    vector_index_ensure(SlideEmbedding, model)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE retrieval_slideembedding")
    rows = SlideEmbedding.objects.visible_to(anna)
    assert rows.count() == SLIDES // DEPARTMENTS
    settings.EXACT_SCAN_MAX = 0  # HNSW is forced
    recalls = []
    for query in random_units(10, 2):
        ask = {"model": model, "vector": query, "limit": 20, "key": "slide_image_id"}
        exact = rows.nearest(**ask, exact=True)
        found = rows.nearest(**ask)
        assert len(found) == 20  # filtered ANN without an iterative scan returns a handful
        assert [n.similarity for n in found] == sorted((n.similarity for n in found), reverse=True)
        recalls.append(len({n.key for n in found} & {n.key for n in exact}) / 20)
        assert found[0] == exact[0]
    assert np.mean(recalls) >= 0.95
    assert set(Department.objects.filter(slide_images__in=[n.key for n in found])) == {
        departments[7]
    }


def test_the_index_is_what_answers_where_it_should():
    """The spelling of the expression decides: a cast that differs is a scan of the table."""
    model = make_model(dimension=DIMENSION)
    departments = [DepartmentFactory() for _ in range(2)]
    many_slides(model, departments, random_units(3000, 3))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE retrieval_slideembedding")
    plans = {}
    original = SlideEmbedding.objects.none().__class__._fetch

    def explained(self, distance, limit, columns):
        rows = self.annotate(_distance=distance).order_by("_distance").values_list(*columns)
        plans[len(plans)] = rows[:limit].explain()
        return original(self, distance, limit, columns)

    rows = SlideEmbedding.objects.visible_to(make_member(departments[0], Role.PATHOLOGIST))
    ask = {"model": model, "vector": random_units(1, 4)[0], "limit": 5, "key": "slide_image_id"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(rows), "_fetch", explained)
        rows.nearest(**ask, exact=False)
        rows.nearest(**ask, exact=True)
    name = vector_index_name(SlideEmbedding, model)
    assert name in plans[0]
    assert name not in plans[1]


def test_too_few_from_the_index_means_an_exact_scan(monkeypatch, settings):
    model = make_model(dimension=DIMENSION)
    department = DepartmentFactory()
    many_slides(model, [department], random_units(30, 5))
    rows = SlideEmbedding.objects.visible_to(make_member(department, Role.PATHOLOGIST))
    settings.EXACT_SCAN_MAX = 0
    monkeypatch.setattr(type(rows), "_by_index", lambda self, *args: [])
    ask = {"model": model, "vector": random_units(1, 6)[0], "limit": 7, "key": "slide_image_id"}
    assert rows.nearest(**ask) == rows.nearest(**ask, exact=True)
    assert len(rows.nearest(**ask)) == 7


def test_models_of_other_widths_share_the_table():
    wide = make_model(dimension=DIMENSION)
    department = DepartmentFactory()
    many_slides(wide, [department], random_units(20, 7))
    wide.is_active = False
    wide.save()
    narrow = make_model(dimension=8)
    image = SlideImage.objects.first()
    SlideEmbedding.objects.create(
        slide_image=image,
        department=department,
        model=narrow,
        vector=np.eye(8)[0].tolist(),
        mosaic=b"",
        places=[],
    )
    rows = SlideEmbedding.objects.visible_to(make_member(department, Role.PATHOLOGIST))
    for exact in (True, False):
        found = rows.nearest(
            model=narrow, vector=np.eye(8)[0], limit=5, key="slide_image_id", exact=exact
        )
        assert [(n.key, n.similarity) for n in found] == [(image.pk, pytest.approx(1))]
