"""Every route x every role x own, shared, foreign and missing object: the status and the body.

The table is in tests/permissions/table.py, the cast and the objects in world.py.
"""

import re
from collections.abc import Iterator
from copy import copy

import pytest
from django.contrib import admin
from django.db import connection, transaction
from django.test import Client
from django.urls import get_resolver, reverse

from tests.permissions.admin_table import ADMIN, LETTERS, SITE_ROUTES
from tests.permissions.pixels import put_studies
from tests.permissions.row import Row
from tests.permissions.table import TABLE
from tests.permissions.world import BESIDE, PLACES, Actor, World, make_world

# Also tells pytest-django to make the test database before the module's world.
pytestmark = pytest.mark.django_db

# Values that differ from answer to answer for the same question.
_CSRF = re.compile(rb'(csrfmiddlewaretoken" value="|X-CSRFToken": ")[A-Za-z0-9]+')


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker) -> Iterator[World]:
    """Build the world once; it, and what requests do to it, are rolled back."""
    with django_db_blocker.unblock(), transaction.atomic():
        assert connection.settings_dict["NAME"].startswith("test_")
        world = make_world()
        put_studies(world)
        # Once, and here: what a test adds is rolled back with it.
        for actor in world.actors:
            for row in TABLE:
                world.client(actor, scopes_of(row))
        yield world
        transaction.set_rollback(True)


def expected_status(row: Row, actor: Actor, place: str) -> int:
    """Return what the table says."""
    if row.public:
        has_session = actor.user is not None and not actor.by_token
        return row.signed_in if has_session and row.signed_in else row.ok
    if actor.name == "anonymous" or (actor.by_token and not row.is_api):
        return 401 if row.is_api else 302
    if actor.token_lacks_scope:
        return 403
    allowed = actor.letter in row.roles and actor.letter != ""
    if (row.gate or not row.of) and not allowed:
        return 403 if actor.letter else row.nobody
    if not row.of:
        return row.ok
    if not actor.sees(row.of, place):
        return row.hidden
    if actor.name == "partner" and row.partner == "denied":
        return 403
    return row.ok if allowed else 403


class Answer:
    """A response with its body as one piece, and the texts that the request itself named."""

    def __init__(self, response, named: set[str]) -> None:
        self.status = response.status_code
        self.type = response.headers.get("Content-Type", "")
        self.location = response.headers.get("Location", "")
        self.named = named
        body = (
            b"".join(response.streaming_content)
            if getattr(response, "streaming", False)
            else response.content
        )
        self.body = _CSRF.sub(rb"\1", body)

    @property
    def text(self) -> str:
        """Return the body as text; pictures become noise that holds no marker."""
        return self.body.decode("utf-8", "replace")

    def without_named(self) -> bytes:
        """Return the body without what the request itself named."""
        body = self.body
        for text in sorted(self.named, key=len, reverse=True):
            if len(text) > 5:  # a number may stand for anything
                body = body.replace(text.encode(), b"*")
        return body


def ask(world: World, row: Row, actor: Actor, place: str) -> Answer:
    """Send the request of the row as the actor, and undo what it did."""
    kwargs = None
    if row.url:
        kwargs = row.url(world, place)
    elif row.of and not row.in_body and row.of != "department_pk":
        kwargs = {"pk": world.id(row.of, place)}
    address = reverse(row.name, kwargs=kwargs)
    own = {"P": "home", "T": "home", "R": "home", "D": "home", "": ""}[actor.letter]
    own = {"stranger": "away", "token narrowed": "away", "partner": "partner"}.get(actor.name, own)
    if row.query:
        asked_for = world.id(row.of, place) if row.of else ""
        address += "?" + row.query.format(own=own, id=asked_for)
    sent = {"headers": row.headers(world, place) if row.headers else {}}
    body = row.body(world, place) if row.body else None
    if isinstance(body, bytes):
        sent |= {"data": body, "content_type": row.content_type}
    elif row.body and row.form:
        sent |= {"data": body}
    elif row.body:
        sent |= {"data": body, "content_type": "application/json"}
    named = {str(value) for value in (kwargs or {}).values()} | _texts(body)
    if row.of:
        named.add(str(world.id(row.of, place)))
    with transaction.atomic():
        client = borrowed(world.client(actor, scopes_of(row)))
        response = getattr(client, row.method.lower())(address, **sent)
        answer = Answer(response, named)
        transaction.set_rollback(True)
    return answer


def borrowed(client: Client) -> Client:
    """Return the client for one request: signing out and messages stay with that request."""
    client = copy(client)
    client.cookies = copy(client.cookies)
    return client


def _texts(value) -> set[str]:
    if isinstance(value, dict):
        return set().union(*(_texts(item) for item in value.values()), set())
    if isinstance(value, list):
        return set().union(*(_texts(item) for item in value), set())
    return {value} if isinstance(value, str) and value else set()


def scopes_of(row: Row) -> frozenset[str]:
    """Return the scopes that the row's route asks of a token."""
    view = ROUTES[row.name]
    own = getattr(view, "initkwargs", {})  # an action of a view set may name its own
    view = getattr(view, "cls", view)
    names = ("read_scope", "write_scope")
    scopes = (own.get(name, getattr(view, name, None)) for name in names)
    return frozenset(scope for scope in scopes if scope)


def walk(patterns, namespaces=()) -> Iterator[tuple[str, object]]:
    """Return (name, callback) of every route, the admin's with their namespace."""
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            inner = (*namespaces, pattern.namespace) if pattern.namespace else namespaces
            yield from walk(pattern.url_patterns, inner)
        else:
            yield ":".join((*namespaces, pattern.name or "")), pattern.callback


ROUTES = {name: view for name, view in walk(get_resolver().url_patterns) if ":" not in name}


# Whose rights decide at slides of a shared case that the cohort does not hold.
_TRIED_BESIDE = {"pathologist", "partner", "stranger", "token"}


def places_of(world: World, row: Row, actor: Actor) -> list[str]:
    """Return where the row's object lies: each place that has one, and nowhere."""
    if not row.of:
        return [""]
    places = [place for place in PLACES if place in world.ids[row.of]]
    if actor.name == "anonymous" or actor.token_lacks_scope or (actor.by_token and not row.is_api):
        places = places[:1]  # refused before any object is looked for
    elif actor.name in _TRIED_BESIDE:
        places += [place for place in BESIDE if place in world.ids[row.of]]
    return [*places, "missing"]


def betrayed(world: World, actor: Actor, answer: Answer) -> set[str]:
    """Return texts of places that the actor must not know of and the request did not name."""
    return {
        text
        for place, texts in world.markers.items()
        if place not in actor.places
        for text in texts - answer.named
        if text in answer.text
    }


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.key)
def test_the_table(world, row):
    wrong = []
    for actor in world.actors:
        hidden = {}
        for place in places_of(world, row, actor):
            answer = ask(world, row, actor, place)
            expected = expected_status(row, actor, place)
            case = f"{actor.name}, {place or '-'}"
            if answer.status != expected:
                wrong.append(f"{case}: {answer.status} instead of {expected}")
            if leaks := betrayed(world, actor, answer):
                wrong.append(f"{case}: shows {sorted(leaks)}")
            if row.of and not actor.sees(row.of, place):
                hidden[answer.without_named()] = place
            if row.lists and answer.status == 200:
                wrong += [f"{case}: {text}" for text in listed_wrongly(world, row, actor, answer)]
            is_error = row.is_api and answer.status >= 400
            if is_error and answer.type != "application/problem+json":
                wrong.append(f"{case}: an error as {answer.type}")
        if len(hidden) > 1:
            wrong.append(f"{actor.name}: {sorted(hidden.values())} do not look alike")
    assert not wrong, "\n".join(wrong)


def listed_wrongly(world: World, row: Row, actor: Actor, answer: Answer) -> list[str]:
    """Return what is wrong with the set of ids that a list shows."""
    kind = row.lists.removeprefix("own ")
    should = {
        place
        for place in world.ids[kind]
        if actor.sees(kind, place) and (row.lists == kind or world.askers[place] == actor.user)
    }
    if row.by_name and actor.letter == "R":
        should = set()
    shown = {place for place, pk in world.ids[kind].items() if f"{pk}" in answer.text}
    if kind == "department":  # by code: three places, two departments
        should = {world.ids[kind][place] for place in should}
        shown = {world.ids[kind][place] for place in shown}
        if actor.name == "partner":
            should = set()  # its own has no place
    return [] if shown == should else [f"lists {sorted(shown)} instead of {sorted(should)}"]


def methods_of(view) -> set[str]:
    """Return the methods that an API route answers."""
    if hasattr(view, "actions"):
        return {method.upper() for method in view.actions} - {"HEAD"}
    cls = view.cls
    names = set(cls.http_method_names) - {"trace"}
    found = {name.upper() for name in names if hasattr(cls, name)}
    return found if cls.options.__module__ != "rest_framework.views" else found - {"OPTIONS"}


def test_the_table_is_complete():
    rows = {(row.name, row.method) for row in TABLE}
    named = {name for name, _method in rows}
    assert set(ROUTES) - named == set(), "routes without a row"
    assert named - set(ROUTES) == set(), "rows without a route"
    missing = {
        (name, method)
        for name, view in ROUTES.items()
        if "-" in name
        for method in methods_of(view)
        if (name, method) not in rows
    }
    assert missing == set(), "API methods without a row"


def admin_expected(label: str, page: str, actor: Actor, place: str) -> int:
    """Return what the administration answers a GET: 302 is the sign-in, or "no such row"."""
    row, letter = ADMIN[label], LETTERS.get(actor.name)
    if letter is None:
        return 302
    reaches = place in ("private", "shared") if letter == "D" else not row.is_clinical
    exists = place != "missing" and reaches
    if page == "changelist":
        return 200 if letter in row.view else 403
    if page == "add":
        return 200 if letter in row.add else 403
    if page == "delete":
        return 403 if letter not in row.delete else 200 if exists else 302
    if page == "history":  # looks for the row before it asks for the right
        return 302 if not exists else 200 if letter in row.view else 403
    return 403 if letter not in row.view else 200 if exists else 302


@pytest.mark.parametrize("label", ADMIN)
def test_the_administration(world, label):
    row, wrong = ADMIN[label], []
    base = "admin:" + label.replace(".", "_")
    for actor in world.actors:
        for page in ("changelist", "add", "history", "change", "delete"):
            with_object = page not in ("changelist", "add")
            places = [*(PLACES if row.kind else ()), "missing"] if with_object else [""]
            hidden = {}
            for place in places:
                pk = world.id(row.kind, place) if place else None
                address = reverse(f"{base}_{page}", args=[pk] if place else [])
                answer = get(world, actor, address, {str(pk)})
                expected = admin_expected(label, page, actor, place)
                case = f"{page}, {actor.name}, {place or '-'}"
                if answer.status != expected:
                    wrong.append(f"{case}: {answer.status} instead of {expected}")
                if leaks := betrayed(world, actor, answer):
                    wrong.append(f"{case}: shows {sorted(leaks)}")
                if actor.letter == "D" and "Name-of-away" in answer.text:
                    wrong.append(f"{case}: names another department")
                if answer.status != 200:
                    hidden[answer.without_named(), answer.location.replace(str(pk), "*")] = place
                if page == "changelist" and answer.status == 200 and row.is_clinical:
                    wrong += listed_wrongly(world, Row(base, lists=row.kind), actor, answer)
            if len(hidden) > 1:
                wrong.append(f"{page}, {actor.name}: {sorted(hidden.values())} do not look alike")
    assert not wrong, "\n".join(wrong)


def get(world: World, actor: Actor, address: str, named: set[str]) -> Answer:
    """Ask for a page as the actor, and undo what the look left."""
    with transaction.atomic():
        answer = Answer(borrowed(world.client(actor, frozenset())).get(address), named)
        transaction.set_rollback(True)
    return answer


@pytest.mark.parametrize("name", SITE_ROUTES)
def test_the_administrations_own_routes(world, name):
    kwargs, statuses = SITE_ROUTES[name]
    for actor in world.actors:
        answer = get(world, actor, reverse(f"admin:{name}", kwargs=kwargs), set())
        expected = statuses.get(LETTERS.get(actor.name), 302)
        assert answer.status == expected, actor.name


def test_the_administrations_table_is_complete():
    assert {model._meta.label_lower for model in admin.site._registry} == set(ADMIN)
    of_models = {
        f"{label.replace('.', '_')}_{page}"
        for label in ADMIN
        for page in ("changelist", "add", "history", "delete", "change")
    }
    of_models.add("auth_user_password_change")
    names = {name for name, _view in walk(get_resolver().url_patterns) if name.startswith("admin:")}
    # Without a name: the old address of a row, which redirects, and the 404 of the rest.
    assert names - {"admin:"} == {f"admin:{name}" for name in of_models | set(SITE_ROUTES)}
