"""Neighbours, votes, choices and counts: not only no leak, but exactly the visible set."""

from collections.abc import Iterator

import pytest
from django.db import transaction

from cases.models import Cohort
from tests.permissions.world import PLACES, WORD, Actor, World, make_world

pytestmark = pytest.mark.django_db

CLINICAL = ("pathologist", "technician", "researcher", "stranger", "partner", "token narrowed")


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker) -> Iterator[World]:
    with django_db_blocker.unblock(), transaction.atomic():
        world = make_world()
        for actor in world.actors:
            world.client(actor, frozenset())
        yield world
        transaction.set_rollback(True)


@pytest.fixture(params=CLINICAL)
def actor(request, world) -> Actor:
    return next(actor for actor in world.actors if actor.name == request.param)


def visible(world: World, actor: Actor, kind: str) -> set[str]:
    """Return the places of the kind that the actor sees."""
    return {place for place in world.ids[kind] if actor.sees(kind, place)}


def ids(world: World, kind: str, places: set[str]) -> set[str]:
    return {str(world.ids[kind][place]) for place in places}


def check_answer(world: World, actor: Actor, answer: dict, expected: set[str]) -> None:
    """Check hits and vote of an API answer against the places that may be in it."""
    hits = answer["hits"]
    assert {hit["slide_image"] for hit in hits} == ids(world, "slide_image", expected)
    assert [hit["rank"] for hit in hits] == list(range(1, len(hits) + 1))
    # beside and removed are slides of the shared case
    owners = {place if place in PLACES else "shared" for place in expected}
    signed = {f"Diagnosis-{place}" for place in owners - {"private"}}
    if actor.letter == "R":  # the patient's name has the place in it, too
        signed = {"Diagnosis-[…]"} if signed else set()
    vote = answer["vote"]
    assert {line["label"] for line in vote["lines"]} == signed
    assert vote["patients"] == len(signed)
    assert vote["without_diagnosis"] <= len(owners - {"shared", "foreign"})
    assert {rank for line in vote["lines"] for rank in line["ranks"]} <= {h["rank"] for h in hits}


def ask(world: World, actor: Actor, **question) -> dict:
    client = world.client(actor, frozenset())
    answer = client.post("/api/v1/searches/", question, content_type="application/json")
    assert answer.status_code == 201, answer.content
    return answer.json()


def test_neighbours_of_a_slide(world, actor):
    everything = visible(world, actor, "slide_image")
    for place in everything:
        answer = ask(world, actor, slide_image=str(world.id("slide_image", place)))
        # Without the slide's own patient, which beside, removed and shared have in common.
        same = {"shared", "beside", "removed"} if place not in ("private", "foreign") else {place}
        check_answer(world, actor, answer, everything - same)


def test_words(world, actor):
    answer = ask(world, actor, text=WORD)
    check_answer(world, actor, answer, visible(world, actor, "slide_image"))
    hidden = set(PLACES) - visible(world, actor, "report")
    for place in hidden:
        assert ask(world, actor, text=f'"Text-{place}"')["hits"] == []
        assert ask(world, actor, text=WORD, diagnosis_code=f"Code-{place}")["hits"] == []
        assert ask(world, actor, text=WORD, stain=f"Stain-{place}")["hits"] == []


def test_a_stored_answer_is_cut_to_its_reader(world):
    """The stored hits are slides of every department; each reader gets their own."""
    by_name = {actor.name: actor for actor in world.actors}
    for name, place in (("pathologist", "shared"), ("partner", "shared"), ("stranger", "foreign")):
        reader = by_name[name]
        client = world.client(reader, frozenset())
        expected = visible(world, reader, "slide_image")
        answer = client.get(f"/api/v1/searches/{world.id('search', place)}/").json()
        assert {hit["slide_image"] for hit in answer["hits"]} == ids(world, "slide_image", expected)
        page = client.get(f"/searches/{world.id('search', place)}/").content.decode()
        shown = {p for p, pk in world.ids["slide_image"].items() if f"slide-{pk}" in page}
        assert shown == expected


@pytest.mark.parametrize("page", ["/", "/search/"])
def test_choices_of_filters(world, actor, page):
    if actor.by_token:
        pytest.skip("pages take no tokens")
    text = world.client(actor, frozenset()).get(page).content.decode()
    for name, kind in (("Stain", "slide"), ("Organ", "specimen")):
        offered = {place for place in world.ids[kind] if f'value="{name}-{place}"' in text}
        assert offered == visible(world, actor, kind), name


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("patients", "patient"),
        ("cases", "case"),
        ("slides", "slide"),
        ("slide-images", "slide_image"),
        ("reports", "report"),
        ("cohorts", "cohort"),
        ("index-status", "index"),
    ],
)
def test_counts(world, actor, route, kind):
    body = world.client(actor, frozenset()).get(f"/api/v1/{route}/").json()
    expected = ids(world, kind, visible(world, actor, kind))
    assert {row["id"] for row in body["results"]} == expected
    assert body["count"] == len(expected)


def test_when_sharing_ends_all_of_it_is_gone(world):

    partner = next(actor for actor in world.actors if actor.name == "partner")
    client = world.client(partner, frozenset())
    image, case = world.id("slide_image", "shared"), world.id("case", "shared")
    addresses = [
        f"/cases/{case}/",
        f"/slides/{image}/",
        f"/slides/{image}/thumbnail.jpeg",
        f"/searches/{world.id('search', 'shared')}/",
        f"/cohorts/{world.id('cohort', 'shared')}/",
    ]
    assert {client.get(address).status_code for address in addresses} == {200}
    Cohort.objects.get(pk=world.id("cohort", "shared")).shared_with.clear()
    assert {client.get(address).status_code for address in addresses} == {404}
    assert client.get("/api/v1/cases/").json()["count"] == 0
    assert ask(world, partner, text=WORD)["hits"] == []
