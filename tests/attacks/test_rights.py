"""Rights that end or are narrow: scopes of tokens, fields nobody may set, memberships that end."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest
from django.apps import apps

from tests.attacks.routes import Route, routes
from tests.attacks.site import AttackedSite, Attacker

# What a word of the API's paths belongs to; a token of another family must not pass.
FAMILY = {
    "patients": "cases",
    "cases": "cases",
    "slides": "cases",
    "slide-images": "cases",
    "reports": "cases",
    "boards": "cases",
    "consults": "cases",
    "departments": "cases",
    "unmatched": "uploads",
    "uploads": "uploads",
    "upload_new": "uploads",
    "tus": "uploads",
    "cohorts": "cohorts",
    "searches": "search",
    "index-status": "index",
    "exports": "exports",
    "export-projects": "exports",
    "dicomweb": "dicomweb",
    "hl7": "merges",
}
# Families with one scope for reading and writing.
_UNDIVIDED = {"uploads": "uploads:write", "search": "search", "merges": "patients:merge"}
# By the last word of the path, where that says more than the first.
_BY_LAST = {
    "attention": "search",
    "dicom-results": "dicomweb",
    "merge": "merges",
    "unmerge": "merges",
}
# For anybody; the others answer what is no route.
_OPEN = {"api_root", "api_schema", "api_docs"}
_OTHERS = 3
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def scope_for(route: Route, method: str) -> str | None:
    """Return the one scope that opens the route; None where no token does."""
    words = route.template.replace("/api/v1/", "/").strip("/").split("/")
    family = _BY_LAST.get(words[-1], FAMILY.get(words[0]))
    if family is None:
        return None
    right = "read" if method == "GET" else "write"
    return _UNDIVIDED.get(family, f"{family}:{right}")


def test_a_token_opens_what_its_scope_names_and_nothing_else(site, figures):
    """Each route is tried with the scope that should open it and with others, by turns."""
    tokens = {
        scope: Attacker(site.port, site.attacker("token").actor, {"Authorization": f"Bearer {key}"})
        for scope, key in site.world["tokens"].items()
    }
    turns = cycle(sorted(tokens))
    wrong, tried, opened = [], 0, set()
    for route in routes()[0]:
        if not route.is_api or route.name in _OPEN or "unknown" in route.name:
            continue
        path = route.path(site, "missing")
        for method in _METHODS:
            allowed = scope_for(route, method)
            if tokens.get(allowed, tokens["search"]).ask(method, path).status == 405:
                continue  # the method is not there, whoever asks
            siblings = {scope for scope in tokens if allowed and scope[:4] == allowed[:4]}
            for scope in sorted(siblings | {next(turns) for _ in range(_OTHERS)}):
                tried += 1
                if tokens[scope].ask(method, path).status in (401, 403, 405):
                    continue
                opened.add(scope)
                if scope != allowed:
                    wrong.append(f"{method} {route.template}: opened by {scope}, not {allowed}")
    figures["scopes x routes x methods, requests"] = tried
    assert tried > 300
    assert opened == set(tokens), "a scope that opens nothing was not tried"
    assert not wrong, "\n".join(wrong)


# --- mass assignment ---------------------------------------------------------------------------


def row_of(site: AttackedSite, kind: str, pk: str) -> tuple[str, dict[str, Any]] | None:
    """Return the table and the row, by column, of an object of the world."""
    for model in apps.get_models():
        table = model._meta.db_table
        if table.startswith(("cases_", "retrieval_")) and model.__name__.lower() == kind.replace(
            "_", ""
        ):
            found = site.ask_database(
                f'SELECT to_jsonb(t) FROM "{table}" t WHERE {model._meta.pk.column}::text = %s', pk
            )
            return (table, found[0][0]) if found else None
    return None


def writable(schema: dict[str, Any], template: str, method: str) -> set[str]:
    """Return the properties that the schema lets a request of this operation have."""
    for path, operations in schema["paths"].items():
        if path.rstrip("/").count("/") == template.rstrip("/").count("/") and all(
            mine == theirs or (mine.startswith("{") and theirs.startswith("{"))
            for mine, theirs in zip(path.split("/"), template.split("/"), strict=True)
        ):
            content = operations.get(method.lower(), {}).get("requestBody", {}).get("content", {})
            found: set[str] = set()
            for kind in content.values():
                name = kind["schema"].get("$ref", "").rsplit("/", 1)[-1]
                described = schema["components"]["schemas"].get(name, kind["schema"])
                found |= {
                    key
                    for key, value in described.get("properties", {}).items()
                    if not value.get("readOnly")
                }
            return found
    return set()


def test_no_request_sets_a_field_that_is_not_offered(site, figures):
    """Every column of the row, with another value, sent to every route that changes the object."""
    me = site.attacker("department_administrator")
    schema = site.attacker("anonymous").ask("GET", "/api/v1/schema/?format=json").json()
    foreign = {kind: places.get("foreign") for kind, places in site.world["ids"].items()}
    wrong, tried = [], 0
    for route in routes()[0]:
        if not route.template.startswith("/api/") or len(route.kinds) != 1:
            continue
        before = (
            row_of(site, route.kind, site.id(route.kind, "private"))
            if ("private" in site.world["ids"].get(route.kind, {}))
            else None
        )
        if before is None:
            continue
        table, row = before
        body: dict[str, Any] = {"is_staff": True, "is_superuser": True, "role": "pathologist"}
        for column, value in row.items():
            name = column.removesuffix("_id")
            other = foreign.get(name, foreign.get({"user": "account"}.get(name, name)))
            body[column] = body[name] = other if other is not None else _another(value)
        for method in ("PUT", "PATCH"):
            reply = me.ask(
                method,
                route.path(site, "private"),
                json.dumps(body, default=str).encode(),
                {"Content-Type": "application/json"},
            )
            if reply.status == 405:
                continue
            # Once more with what is not offered alone, so that no wrong value hides it.
            offered = writable(schema, route.template, method)
            hidden = {key: value for key, value in body.items() if key not in offered}
            me.send(method, route.path(site, "private"), hidden)
            tried += 2
            after = row_of(site, route.kind, site.id(route.kind, "private"))
            assert after is not None
            changed = {c for c in row if after[1][c] != row[c]} - {"updated_at"}
            unoffered = {c for c in changed if not {c, c.removesuffix("_id")} & offered}
            if unoffered:
                wrong.append(f"{method} {route.template} set {sorted(unoffered)} of {table}")
            row = after[1]
    figures["mass assignment, requests"] = tried
    assert tried >= 6
    assert not wrong, "\n".join(wrong)


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return "assigned" if isinstance(value, str) or value is None else value


# --- a membership that is taken away -------------------------------------------------------------

_GIVEN = """
UPDATE cases_membership SET user_id = (SELECT id FROM auth_user WHERE username = %s)
WHERE user_id = (SELECT id FROM auth_user WHERE username = %s) RETURNING id"""


@pytest.fixture
def leaver(site) -> Iterator[tuple[Attacker, Callable[[], None]]]:
    """Return the technician, and what takes the memberships away; given back at the end."""
    names = {kept["name"]: kept["username"] for kept in site.world["actors"]}
    mine, theirs = names["technician"], names["system_administrator"]
    taken: list[int] = []

    def leave() -> None:
        taken.extend(pk for (pk,) in site.ask_database(_GIVEN, theirs, mine))
        assert taken

    yield site.attacker("technician"), leave
    site.ask_database(
        "UPDATE cases_membership SET user_id = (SELECT id FROM auth_user WHERE username = %s)"
        " WHERE id = ANY (%s)",
        mine,
        taken,
    )


def own_pages(site: AttackedSite, attacker: Attacker) -> dict[str, bytes]:
    """Return what the actor may read of own objects, by address, with what it answers."""
    found = {}
    for route in routes()[0]:
        if not route.kinds or route.name.startswith("admin:"):
            continue
        if "private" not in site.world["ids"].get(route.kind, {}) or route.kind == "session":
            continue
        reply = attacker.ask("GET", route.path(site, "private"))
        if reply.status == 200:
            found[route.path(site, "private")] = reply.body
    return found


# One's own questions, views and searches stay one's own; what is in them does not.
_STAYS_OWN = ("/searches/", "/saved/", "/views/", "/search/")


def test_what_was_open_is_closed_when_the_membership_ends(site, leaver, figures):
    attacker, leave = leaver
    opened = own_pages(site, attacker)
    assert len(opened) > 20, sorted(opened)
    leave()
    wrong = []
    private = site.world["markers"]["private"]
    clinical = [m for m in private if not m.startswith(("View-", "Saved-", "Browser-"))]
    for path in opened:
        reply = attacker.ask("GET", path)
        if reply.status == 200 and not any(part in path for part in _STAYS_OWN):
            wrong.append(f"{path} answers 200 after the membership ended")
        shown = [m for m in clinical if m in reply.text and m not in path]
        if shown:
            wrong.append(f"{path} shows {shown}")
    figures["pages that were open when a membership ended"] = len(opened)
    assert not wrong, "\n".join(wrong)


def test_no_request_that_began_after_the_removal_is_answered(site, leaver):
    """Asked without a pause from four sides while the membership is taken away."""
    attacker, leave = leaver
    pixels = [path for path in own_pages(site, attacker) if path.endswith("/frames/2")]
    assert pixels
    paths = [
        f"/cases/{site.id('case', 'private')}/",
        f"/api/v1/cases/{site.id('case', 'private')}/",
        f"/slides/{site.id('slide_image', 'private')}/",
        pixels[0],
    ]
    seen: list[tuple[str, float, int]] = []
    stop = threading.Event()

    def hammer(path: str) -> None:
        asking = site.attacker("technician")
        while not stop.is_set():
            began = time.monotonic()
            seen.append((path, began, asking.ask("GET", path).status))

    threads = [threading.Thread(target=hammer, args=[path]) for path in paths]
    for thread in threads:
        thread.start()
    time.sleep(1)
    leave()
    removed = time.monotonic()
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    for path in paths:
        assert any(p == path and at < removed and status == 200 for p, at, status in seen), path
        assert any(p == path and at > removed for p, at, status in seen), path
    late = {(p, status) for p, at, status in seen if at > removed and status == 200}
    assert not late
