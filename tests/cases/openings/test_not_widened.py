"""An opened case is on its own pages, and in no other answer of the site."""

from datetime import timedelta

import pytest
from django.utils import timezone

from cases.models import Case, Consult, EmergencyAccess
from tests.permissions.row import Row
from tests.permissions.table import TABLE
from tests.permissions.world import World
from tests.test_permissions import ask, betrayed, world  # noqa: F401

pytestmark = pytest.mark.django_db

# Where the case is named to who opened it, or was asked about it: on purpose.
_NAMED = {"emergency", "consults", "consults-list"}


def opened(world: World, how: str):  # noqa: F811
    """Open the foreign case to the pathologist; return them as an actor."""
    actor = next(actor for actor in world.actors if actor.name == "pathologist")
    case = Case.objects.get(pk=world.id("case", "foreign"))
    until = timezone.now() + timedelta(hours=1)
    told = {"case": case, "department": case.department}
    if how == "emergency":
        EmergencyAccess.objects.create(
            **told, user=actor.user, patient=case.patient, identifier="1",
            reason_code="other", reason="A test.", expires_at=until,
        )  # fmt: skip
    else:
        asker = next(actor for actor in world.actors if actor.name == "stranger").user
        Consult.objects.create(
            **told, asked_by=asker, to_user=actor.user, question="What?", until=until
        )
    return actor


def asked_of_the_site() -> list[Row]:
    """Return the rows that read something, and every way to ask a search."""
    return [
        row
        for row in TABLE
        if not row.public and (row.method == "GET" or "search" in row.name or "map" in row.name)
    ]


@pytest.mark.parametrize("how", ["emergency", "consult"])
def test_no_other_page_list_search_count_or_export_names_it(world, settings, monkeypatch, how):  # noqa: F811
    settings.ROW_SECURITY = True
    # The bar, which is on each page, has the address of the case.
    monkeypatch.setattr("cases.context_processors._emergencies", lambda user: [])
    actor = opened(world, how)
    leaks, tried = [], 0
    for row in asked_of_the_site():
        places = [place for place in ("private", "shared") if place in world.ids.get(row.of, {})]
        if row.name in _NAMED or (row.of and not places):
            continue
        for place in places or [""]:
            tried += 1
            told = betrayed(world, actor, ask(world, row, actor, place))
            leaks += [f"{row.key} {place}: {sorted(told)}"] if told else []
    assert tried > 100
    assert leaks == []


@pytest.mark.parametrize("how", ["emergency", "consult"])
def test_the_check_can_fail(world, settings, how):  # noqa: F811
    """What is named above is known to be open: its own page names it."""
    settings.ROW_SECURITY = True
    actor = opened(world, how)
    row = next(row for row in TABLE if row.name == "case")
    answer = ask(world, row, actor, "foreign")
    assert answer.status == 200
    assert betrayed(world, actor, answer)


@pytest.mark.parametrize("how", ["emergency", "consult"])
def test_nothing_of_it_can_be_changed_or_taken_along(world, settings, how):  # noqa: F811
    """Whatever writes says 403, or what it says of a case that is not there."""
    settings.ROW_SECURITY = True
    actor = opened(world, how)
    done, tried = [], 0
    for row in TABLE:
        is_read = row.method == "GET" or row.name.startswith("search") or row.public
        if is_read or row.of not in _OF_A_CASE:
            continue
        tried += 1
        status = ask(world, row, actor, "foreign").status
        if status not in {403, row.hidden}:
            done.append(f"{row.key}: {status}")
    assert tried >= 6
    assert done == []


_OF_A_CASE = {"case", "slide", "slide_image", "report", "patient", "index", "accession"}
