"""Searches answer while indexes are rebuilt, models switched, or the replica is gone."""

import threading
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.db.utils import OperationalError

from cases.models import SlideImage
from cases.permissions import Role
from retrieval import replica
from retrieval.models import SearchQuery, SlideEmbedding
from retrieval.querysets import vector_index_ensure, vector_index_is_ready, vector_index_name
from retrieval.services import search
from retrieval.services.search import search_run
from tests.factories import DepartmentFactory, make_member
from tests.retrieval.many_slides import DIMENSION, add_slides, units
from tests.retrieval.search_cast import slides
from tests.retrieval.vectors import axis, between, make_model


@pytest.mark.django_db(transaction=True)
def test_searches_by_the_index_go_on_while_it_is_rebuilt(settings):
    settings.EXACT_SCAN_MAX = 0  # by the index
    model = make_model(dimension=DIMENSION)
    department = DepartmentFactory()
    add_slides(model, department, units(600, 3))
    anna = make_member(department, Role.PATHOLOGIST)
    asking = SlideImage.objects.earliest("pk")
    answers, failed, stop = [], [], threading.Event()

    def search_on() -> None:
        try:
            while not stop.is_set():
                query = search_run(anna, slide_image=asking, limit=10)
                answers.append(list(query.hits.values_list("slide_image_id", flat=True)))
        except Exception as error:
            failed.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=search_on)
    thread.start()
    out = StringIO()
    call_command("rebuild_search_index", stdout=out)
    call_command("rebuild_search_index", stdout=out)
    stop.set()
    thread.join()
    assert not failed
    assert len(answers) > 1
    assert len(answers[0]) == 10
    assert all(answer == answers[0] for answer in answers)
    for name in (vector_index_name(SlideEmbedding, model), "slide_embedding_cells"):
        assert out.getvalue().count(name) == 2


@pytest.mark.django_db(transaction=True)
def test_what_a_killed_build_left_is_built_again():
    model = make_model(dimension=DIMENSION)
    add_slides(model, DepartmentFactory(), units(20, 3))
    name = vector_index_name(SlideEmbedding, model)
    with connection.cursor() as cursor:
        # As a CREATE INDEX CONCURRENTLY leaves it that was killed.
        cursor.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(%s)", [name]
        )
    assert not vector_index_is_ready(SlideEmbedding, model)
    call_command("rebuild_search_index", stdout=StringIO())
    assert vector_index_is_ready(SlideEmbedding, model)
    vector_index_ensure(SlideEmbedding, model)


@pytest.fixture
def own_replica(monkeypatch, settings):
    """Let the only database be the replica too."""
    monkeypatch.setattr(replica, "ALIAS", "default")
    monkeypatch.setattr(replica, "_looked", (0.0, False))
    # Of one server, no copy follows anybody.
    monkeypatch.setattr(replica, "_LAG", "SELECT true, 0")
    settings.DATABASE_ROUTERS = ["retrieval.replica.ReplicaRouter"]


@pytest.mark.django_db
def test_candidates_are_read_from_a_fit_replica_only(own_replica, monkeypatch):
    read = []

    def gather():
        read.append(replica._reads_from.get())
        return len(read)

    assert replica.gathered_near(gather) == 1
    monkeypatch.setattr(replica, "_LAG", "SELECT true, 60")
    monkeypatch.setattr(replica, "_looked", (0.0, False))
    assert replica.gathered_near(gather) == 2
    assert read == ["default", None]
    assert replica._reads_from.get() is None


@pytest.mark.django_db
def test_a_replica_that_fails_costs_no_answer(own_replica, monkeypatch):
    model = make_model()
    department = DepartmentFactory()
    asked, near, far = slides(department, model, axis(0), between(0, 1, 0.9), axis(1))
    anna = make_member(department, Role.PATHOLOGIST)
    failed = []

    def broken():
        failed.append(True)
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(replica, "_reading", broken)
    query = search_run(anna, slide_image=asked)
    assert failed == [True]
    assert [hit.slide_image for hit in query.hits.order_by("rank")] == [near, far]
    search_run(anna, slide_image=asked)
    assert failed == [True]  # it is left alone for a while


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("moment", ["before it is stored", "before the commit"])
def test_a_slide_that_is_deleted_meanwhile_is_left_out(monkeypatch, moment):
    model = make_model()
    department = DepartmentFactory()
    asking, near, far = slides(department, model, axis(0), between(0, 1, 20), between(0, 1, 60))
    anna = make_member(department, Role.PATHOLOGIST)
    stored, went = search._stored, []

    def delete() -> None:
        SlideImage.objects.filter(pk=near.pk).delete()
        connections.close_all()

    def stored_late(*args, **fields):
        is_before = moment == "before it is stored"
        query = None if is_before else stored(*args, **fields)
        if not went:
            went.append(near.pk)
            # By another connection, as a deletion by the retention policy is.
            other = threading.Thread(target=delete)
            other.start()
            other.join()
        return query or stored(*args, **fields)

    monkeypatch.setattr(search, "_stored", stored_late)
    query = search_run(anna, slide_image=asking)
    assert went
    assert list(query.hits.values_list("slide_image_id", flat=True)) == [far.pk]
    assert SearchQuery.objects.count() == 1
