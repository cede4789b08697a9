"""All routes x all methods x all actors x own, shared, foreign and missing objects, all generated.

The permission table says what each route answers. Here nobody says anything: the answer for a
hidden object must be the one for an object that does not exist, no answer may hold a text of a
place that its reader must not know of, nothing foreign may change, and nothing may crash.
"""

import json
import re
from urllib.parse import quote

import pytest

from tests.attacks.judge import faults, leaks, plain
from tests.attacks.routes import Route, routes
from tests.attacks.site import AttackedSite, Attacker
from tests.permissions.admin_table import ADMIN, LETTERS

# Open to everybody, with the reason why.
PUBLIC = {
    "healthz": "for monitors; says nothing but that the site is up",
    "metrics": "asks for a token of its own",
    "login": "the door",
    "account_login": "the door, by the name that allauth calls it",
    "account_logout": "ends nothing where there is nothing",
    "mfa_login_webauthn": "the door, by passkey",
    "socialaccount_login_cancelled": "says that nobody signed in",
    "socialaccount_login_error": "says that signing in elsewhere failed",
    "account_inactive": "says to the owner of a closed account that it is closed",
    "logout": "ends nothing where there is nothing",
    "api_root": "leads to the docs",
    "api_schema": "of the product, not of the site's data",
    "api_docs": "of the product, not of the site's data",
}
# Ends the attacker's own session, and is tried in test_sessions.py.
_ENDS_SESSION = {"logout", "account_logout", "admin:logout", "sessions_end", "session_end"}
# Where a hidden object is answered otherwise than a missing one, and why that is right.
ANSWERS_FOR_HIDDEN: dict[str, str] = {}
_CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PLACES = ("private", "shared", "foreign")
ROUTES, MISSING_VALUES = routes()


def test_every_parameter_of_every_route_has_a_value():
    assert not MISSING_VALUES, "\n".join(MISSING_VALUES)
    assert len(ROUTES) > 100


def sees(attacker: Attacker, route: Route, place: str) -> bool:
    """Return whether the object of the route in this place exists for the actor."""
    actor = attacker.actor
    if route.admin_label in ADMIN:
        row, letter = ADMIN[route.admin_label], LETTERS.get(actor.name)
        if letter in {"S", "U"}:
            return letter in row.view
        return letter == "D" and place in ("private", "shared")
    return actor.sees(route.kind, place)


def places_of(site: AttackedSite, route: Route) -> list[str]:
    """Return where there is an object of the route."""
    if not route.kinds:
        return [""]
    known = site.world["ids"].get(route.kind, {})
    return [place for place in _PLACES if place in known]


@pytest.fixture(scope="module")
def attackers(site) -> list[Attacker]:
    return [site.attacker(actor.name) for actor in site.actors]


# Everybody else is sent to the sign-in of the administration, as these two are.
_AT_THE_ADMINISTRATION = {"anonymous", "pathologist", *LETTERS}


def trying(attackers: list[Attacker], route: Route) -> list[Attacker]:
    """Return who tries the route."""
    if not route.admin_label:
        return attackers
    return [one for one in attackers if one.actor.name in _AT_THE_ADMINISTRATION]


def methods_of(route: Route) -> tuple[str, ...]:
    """Return the methods that change something: pages and the administration know POST alone."""
    return _CHANGING if route.is_api else ("POST",)


def name_of(route: Route) -> str:
    return f"{route.name} {route.template}"


class Case:
    """One question of one actor, and what is wrong with its answer."""

    def __init__(self, site: AttackedSite, attacker: Attacker, route: Route, method: str) -> None:
        self.site, self.attacker, self.route, self.method = site, attacker, route, method
        self.wrong: list[str] = []

    def ask(self, *places: str):
        """Ask for the object there; return what tells answers apart."""
        path = self.route.path(self.site, *places)
        body, headers = None, {}
        if self.method in _CHANGING:
            body, headers = b"{}", {"Content-Type": "application/json"}
            if not self.route.is_api:
                body, headers = b"x=1", {"Content-Type": "application/x-www-form-urlencoded"}
        reply = self.attacker.ask(self.method, path, body, headers)
        actor = self.attacker.actor
        where = f"{self.method} {path} as {actor.name}"
        said = faults(reply, signed_in=actor.user is not None and not actor.by_token)
        # A message of an earlier request may come with this answer, of what that one named.
        self.attacker.named += f" {path}"
        found = leaks(self.site, self.attacker, reply, self.attacker.named)
        if self.route.admin_label == "cases.accessevent":
            found = [text for text in found if not _UUID.fullmatch(text)]  # it names objects by id
        if found:
            said.append(f"shows {found}")
        if actor.name == "anonymous" and self.route.name not in PUBLIC and reply.status < 300:
            said.append(f"answers {reply.status} to anybody")
        self.wrong += [f"{where}: {one}" for one in said]
        known = self.site.world["ids"]
        ids = [
            self.site.id(kind, place)
            for _parameter, kind in self.route.kinds
            for place in places
            if kind in known and (place in known[kind] or place == "missing")
        ]
        location = reply.headers.get("location", "").replace(quote(path, safe=""), "*")
        for one in (path, *ids):
            location = location.replace(one, "*") if len(one) > 5 else location
        return where, (reply.status, location, plain(reply, path, *ids))


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_reading(site, attackers, figures, route):
    wrong, asked = [], 0
    for attacker in trying(attackers, route):
        case = Case(site, attacker, route, "GET")
        if route.kinds:
            _where, missing = case.ask("missing")
            asked += 1
        places = places_of(site, route)
        visible = [place for place in places if route.kinds and sees(attacker, route, place)]
        for place in places:
            if place in visible[1:]:
                continue  # one look at what is one's own says how it looks
            where, answer = case.ask(place or "missing")
            asked += 1
            if not route.kinds or place in visible:
                continue
            if answer != missing and route.name not in ANSWERS_FOR_HIDDEN:
                case.wrong.append(f"{where}: {answer[:2]}, not as for a missing one {missing[:2]}")
        if len(route.kinds) > 1 and sees(attacker, route, "private"):
            # Somebody else's child below one's own parent.
            where, answer = case.ask("private", "foreign")
            _where, missing = case.ask("private", "missing")
            asked += 2
            if answer != missing:
                case.wrong.append(f"{where}: {answer[:2]} where its child is foreign")
        wrong += case.wrong
    count(figures, route, asked)
    assert not wrong, "\n".join(wrong)


def count(figures: dict, route: Route, asked: int) -> None:
    """Add to the figures."""
    tried = figures.setdefault("routes tried", set())
    if isinstance(tried, set):
        tried.add(route.template)
    figures["routes x actors x objects, requests"] = (
        figures.get("routes x actors x objects, requests", 0) + asked
    )


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_changing(site, attackers, figures, route):
    if route.name in _ENDS_SESSION:
        pytest.skip("ends the session; test_sessions.py")
    wrong, asked = [], 0
    places = [place for place in places_of(site, route) if place]
    for method in methods_of(route):
        probe = Case(site, attackers[0], route, method)
        if probe.ask("missing")[1][0] == 405:
            continue
        for attacker in trying(attackers, route):
            hidden = [place for place in places if not sees(attacker, route, place)]
            if not hidden and attacker.actor.user is not None:
                continue
            case = Case(site, attacker, route, method)
            _where, missing = case.ask("missing")
            for place in hidden:
                where, answer = case.ask(place)
                if answer != missing and route.name not in ANSWERS_FOR_HIDDEN:
                    case.wrong.append(f"{where}: {answer[:2]}, not as for a missing {missing[:2]}")
            asked += 1 + len(hidden)
            wrong += case.wrong
    count(figures, route, asked)
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module", autouse=True)
def nothing_changes(site, figures):
    """Compare every row of every foreign object before and after all of it."""
    before = site.rows_of({"foreign"})
    assert len(before) > 10, before
    yield
    assert site.rows_of({"foreign"}) == before
    # Whose session had ended would have been refused everything, and proved nothing.
    for actor in site.actors:
        if actor.user and not actor.by_token:
            assert site.attacker(actor.name).ask("GET", "/password/").status == 200, actor.name
    tried = figures["routes tried"]
    figures["routes tried"] = len(tried) if isinstance(tried, set) else tried
    figures["actors"] = len(site.actors)
    figures["tables whose foreign rows stayed as they were"] = len(before)


def test_the_log_holds_no_patient(site):
    text = site.log.read_text(encoding="utf-8", errors="replace")
    shown = {
        json.dumps(marker)
        for markers in site.world["markers"].values()
        for marker in markers
        if not _UUID.fullmatch(marker) and marker in text
    }
    assert not shown
