"""A search's plan, and all that is stored of it, is the same with and without hidden slides."""

import re

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cases import openings
from cases.models import SlideImage
from cases.permissions import Role
from retrieval.engine.search_plan import COMPARE_ALL
from retrieval.models import SlideEmbedding
from retrieval.querysets_planned import plans_forget
from retrieval.services.search import search_run
from tests.factories import DepartmentFactory, make_member
from tests.retrieval.many_slides import DIMENSION, add_slides, units
from tests.retrieval.vectors import make_model

pytestmark = pytest.mark.django_db


def asked(user, key):
    """Return answer, stored plan, notices and the statements' kinds of one search."""
    plans_forget()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    slide_image = SlideImage.objects.get(pk=key)
    user._membership_pairs = None  # read anew, as in a new request
    openings.forget(user)
    with CaptureQueriesContext(
        connection,
    ) as statements:
        query = search_run(user, slide_image=slide_image, limit=10)
    answer = [
        (hit.slide_image_id, hit.rank, hit.score, hit.image_similarity, hit.image_rank, hit.pairs)
        for hit in query.hits.order_by("rank")
    ]
    seconds = {name for name, value in query.timings.items() if isinstance(value, float)}
    plan = {name: value for name, value in query.timings.items() if name not in seconds}
    # Whole statements but for values, which are keys of this search, and names of savepoints.
    kinds = [
        re.sub(r"'[^']*'|\"s\d+_x\d+\"|\b\d+(\.\d+)?\b", "?", statement["sql"])
        for statement in statements
    ]
    return answer, plan, seconds, query.notices, kinds


def test_hidden_neighbours_change_neither_answer_nor_plan_nor_statements():
    model = make_model(dimension=DIMENSION)
    own, hidden = DepartmentFactory(), DepartmentFactory()
    vectors = units(40, 5)
    add_slides(model, own, vectors)
    anna = make_member(own, Role.PATHOLOGIST)
    asking = SlideEmbedding.objects.filter(department=own).earliest("pk").slide_image_id
    alone = asked(anna, asking)
    # Twins of the question itself, and so many that every estimate changes.
    add_slides(model, hidden, np.repeat(vectors, 50, axis=0))
    beside = asked(anna, asking)
    assert len(alone[0]) == 10
    assert alone[1]["compared"] == 30  # the other three patients' slides
    for one, other in zip(alone, beside, strict=True):
        assert one == other


@pytest.mark.parametrize("exact_scan_max", [-1, 0])
def test_in_a_large_scope_the_answer_is_the_same_beside_hidden_twins(settings, exact_scan_max):
    """Here the way is planned from estimates of all rows; what is answered must not follow."""
    settings.EXACT_SCAN_MAX = exact_scan_max
    model = make_model(dimension=DIMENSION)
    own, hidden = DepartmentFactory(), DepartmentFactory()
    vectors = units(COMPARE_ALL + 100, 6)
    add_slides(model, own, vectors)
    anna = make_member(own, Role.PATHOLOGIST)
    asking = SlideEmbedding.objects.filter(department=own).earliest("pk").slide_image_id
    alone, *_ = asked(anna, asking)
    add_slides(model, hidden, np.repeat(vectors[:400], 5, axis=0))
    beside, *_ = asked(anna, asking)
    assert len(alone) == 10
    assert alone == beside
