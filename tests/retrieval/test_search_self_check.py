"""The self-check finds an index that lost half of its rows; what was measured is what is used."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse

from retrieval.models import SearchCosts, SearchSelfCheck, SlideEmbedding
from retrieval.querysets import vector_index_name
from retrieval.querysets_planned import costs_of, plans_forget
from retrieval.services import search_costs
from retrieval.services.search_self_check import RECALL_LEAST, self_checks_run
from retrieval.tasks import search_self_check_task
from tests.factories import DepartmentFactory
from tests.retrieval.many_slides import DIMENSION, add_slides, units
from tests.retrieval.vectors import make_model

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_remembered():
    plans_forget()
    yield
    plans_forget()


def sql(statement: str, *values) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def check_recall(**options) -> str:
    out = StringIO()
    call_command("check_recall", stdout=out, **options)
    return out.getvalue()


def test_an_index_that_lost_half_of_its_rows_is_an_alert(settings, client):
    settings.EXACT_SCAN_MAX = 0  # the index answers
    settings.METRICS_TOKEN = "monitor"
    department, model = DepartmentFactory(code="big"), make_model(dimension=DIMENSION)
    name = vector_index_name(SlideEmbedding, model)
    ready = "UPDATE pg_index SET indisready = %s WHERE indexrelid = %s::regclass"
    sql(ready, False, name)  # writers pass the index by
    add_slides(model, department, units(1200, 1))
    sql(ready, True, name)
    add_slides(model, department, units(1200, 2))
    sql("ANALYZE retrieval_slideembedding")

    with pytest.raises(CommandError, match="1 departments are under"):
        check_recall(department="big")
    broken = SearchSelfCheck.objects.get()
    assert broken.is_alert
    assert broken.recall < RECALL_LEAST
    assert broken.by_way == {"index": broken.asked}
    of = f'{{department="big",model="{model.name}"}}'
    assert f"pathsearch_search_recall_alert{of} 1.0" in read_metrics(client)

    sql(f'REINDEX INDEX "{name}"')
    assert "ALERT" not in check_recall()
    mended = SearchSelfCheck.objects.first()
    assert mended.recall >= 0.98
    assert not mended.is_alert
    assert mended.by_way == {"index": mended.asked}
    assert f"pathsearch_search_recall_alert{of} 0.0" in read_metrics(client)


def read_metrics(client) -> str:
    answer = client.get(reverse("metrics"), headers={"Authorization": "Bearer monitor"})
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize(("token", "given"), [("", "Bearer "), ("monitor", "Bearer other")])
def test_metrics_are_not_there_without_their_token(settings, client, token, given):
    settings.METRICS_TOKEN = token
    assert client.get(reverse("metrics"), headers={"Authorization": given}).status_code == 404
    assert client.get(reverse("metrics")).status_code == 404


def test_each_department_is_checked_in_its_own_sight():
    model = make_model(dimension=DIMENSION)
    small, other, empty = (DepartmentFactory(code=code) for code in ("small", "other", "empty"))
    add_slides(model, small, units(12, 3))
    add_slides(model, other, units(12, 3))  # twins, which would take the first places
    found = self_checks_run()
    assert [row.department for row in found] == [small, other]
    assert [row.recall for row in found] == [1.0, 1.0]
    assert not SearchSelfCheck.objects.filter(department=empty).exists()
    assert search_self_check_task() == 0
    with pytest.raises(CommandError, match="No department"):
        check_recall(department="none")


def test_measured_costs_are_what_the_plan_uses(monkeypatch):
    model = make_model(dimension=DIMENSION)
    with pytest.raises(CommandError, match="0 slides are indexed"):
        call_command("measure_search")
    add_slides(model, DepartmentFactory(), units(1500, 4))
    sql("ANALYZE retrieval_slideembedding")
    monkeypatch.setattr(search_costs, "SLIDES_LEAST", 1500)
    out = StringIO()
    call_command("measure_search", questions=3, stdout=out)
    row = SearchCosts.objects.get(model=model)
    assert row.slides == 1500
    assert row.exact_us > 0
    assert row.visit_us > 0
    assert set(row.ef_search) == {"400", "1000"}
    assert all(ef >= int(answers) for answers, ef in row.ef_search.items())
    used = costs_of(model)
    assert (used.exact_us, used.visit_us, used.walk_us) == (
        row.exact_us,
        row.visit_us,
        row.walk_us,
    )
    assert f"{row.exact_us:.2f} us a row" in out.getvalue()
