"""Sessions: fixation, forged posts, redirects to elsewhere, guessed passwords and tokens."""

import re

import pytest
from django.urls import reverse

from tests.attacks.routes import routes
from tests.attacks.seed import PASSWORD
from tests.attacks.site import HOST, ORIGIN, AttackedSite, Reply

_CSRF = re.compile(rb'name="csrfmiddlewaretoken" value="([^"]+)"')
ELSEWHERE = (
    "https://evil.test/",
    "//evil.test/",
    "///evil.test/",
    "/\\evil.test/",
    "\\\\evil.test/",
    "https:evil.test",
    "http:///evil.test",
    "javascript:alert(1)",
    "\thttps://evil.test/",
    f"https://{HOST}@evil.test/",
    f"https://{HOST}.evil.test/",
)

# Posted by another site on purpose; the provider's signature stands for the token.
_ANSWERS_OF_PROVIDERS = {"saml_acs"}
_END_SESSIONS = {"logout", "account_logout", "admin:logout", "sessions_end", "session_end"}


def cookies_of(reply: Reply) -> dict[str, str]:
    """Return the cookies that an answer set."""
    pairs = (cookie.split(";")[0].split("=", 1) for cookie in reply.set_cookies)
    return dict(pairs)


def sign_in(
    site: AttackedSite, username: str, password: str, cookies: str = "", to: str = "", **headers
) -> Reply:
    """Sign in by the form as a browser does, with cookies that the attacker planted."""
    stranger = site.attacker("anonymous")
    page = stranger.ask("GET", reverse("login"), headers={"Cookie": cookies})
    given = cookies_of(page)
    token = _CSRF.search(page.body)
    assert token, page.text
    kept = "; ".join([*(f"{k}={v}" for k, v in given.items()), *([cookies] if cookies else [])])
    return stranger.post_form(
        reverse("login"),
        {
            "username": username,
            "password": password,
            "csrfmiddlewaretoken": token[1].decode(),
            "next": to,
        },
        Cookie=kept,
        Origin=ORIGIN,
        **headers,
    )


def username_of(site: AttackedSite, name: str) -> str:
    return next(kept["username"] for kept in site.world["actors"] if kept["name"] == name)


def test_a_planted_session_is_not_the_one_that_is_signed_in(site):
    planted = "a" * 32
    reply = sign_in(site, username_of(site, "technician"), PASSWORD, f"__Host-sessionid={planted}")
    assert reply.status == 302, reply.text
    fresh = cookies_of(reply)["__Host-sessionid"]
    assert fresh != planted
    stranger = site.attacker("anonymous")
    for session, status in ((planted, 302), (fresh, 200)):
        answer = stranger.ask("GET", "/", headers={"Cookie": f"__Host-sessionid={session}"})
        assert answer.status == status


def test_signing_out_ends_the_session_on_the_server(site):
    reply = sign_in(site, username_of(site, "technician"), PASSWORD)
    session = cookies_of(reply)["__Host-sessionid"]
    stranger, token = site.attacker("anonymous"), "b" * 32
    cookie = f"__Host-sessionid={session}; __Host-csrftoken={token}"
    headers = {"Cookie": cookie, "X-CSRFToken": token, "Origin": ORIGIN}
    assert stranger.post_form(reverse("logout"), {}, **headers).status == 302
    assert stranger.ask("GET", "/", headers={"Cookie": cookie}).status == 302


@pytest.mark.parametrize("to", ELSEWHERE)
def test_signing_in_leads_nowhere_else(site, to):
    reply = sign_in(site, username_of(site, "technician"), PASSWORD, to=to)
    assert reply.status == 302
    location = reply.headers["location"]
    assert location.startswith("/"), location
    assert not location.startswith(("//", "/\\")), location
    assert "evil" not in location.split("?")[0]


@pytest.mark.parametrize("name", ["next", "redirect_to", "url", "return", "back"])
def test_no_page_takes_an_address_to_go_to(site, name):
    actor = site.attacker("pathologist")
    for route in routes()[0]:
        if route.kinds or route.is_api:
            continue
        path = f"{route.path(site)}?{name}=https://evil.test/"
        reply = actor.ask("GET", path)
        where = reply.headers.get("location", "")
        assert not where.startswith(("https://evil", "//")), (path, where)


def test_a_forged_post_does_nothing(site, figures):
    """Every route that changes something refuses a post from another site's page."""
    good = site.attacker("pathologist")
    tried, wrong = 0, []
    for route in routes()[0]:
        if route.template.startswith("/dicomweb/") or route.name in {"admin:login", "login"}:
            continue
        if route.name in _ANSWERS_OF_PROVIDERS | _END_SESSIONS:
            continue
        path = route.path(site, "missing")
        for method in ("POST", "PUT", "PATCH", "DELETE") if route.is_api else ("POST",):
            if good.ask(method, path).status in (404, 405):
                path = route.path(site, "private")
            if good.ask(method, route.path(site, "missing")).status == 405:
                continue
            session = good.headers["Cookie"].split("; ")[0]
            forged = {
                "no token": {"Cookie": good.headers["Cookie"], "X-CSRFToken": ""},
                "another origin": {**good.headers, "Origin": "https://evil.test"},
                "a token of theirs": {"Cookie": session, "X-CSRFToken": "c" * 32},
            }
            stranger = site.attacker("anonymous")
            for how, headers in forged.items():
                tried += 1
                status = stranger.ask(method, path, headers=headers).status
                # What refuses anybody, or is not there, does nothing either.
                if status not in (401, 403, 404, 405):
                    wrong.append(f"{method} {path} with {how}: {status}")
    figures["forged posts tried"] = tried
    assert tried > 100
    assert not wrong, "\n".join(wrong)


def test_guessed_passwords_lock_the_name_at_the_address(site):
    name = username_of(site, "researcher")
    statuses = [
        sign_in(site, name, f"guess {n}", **{"X-Forwarded-For": "203.0.113.9"}).status
        for n in range(12)
    ]
    assert statuses[0] == 200
    assert statuses[-1] in (403, 429), statuses
    right = sign_in(site, name, PASSWORD, **{"X-Forwarded-For": "203.0.113.9"})
    assert right.status in (403, 429), "the right password opens a locked door"
    # The owner at another address is not locked out by who guesses.
    assert sign_in(site, name, PASSWORD, **{"X-Forwarded-For": "203.0.113.10"}).status == 302


def test_guessed_tokens_open_nothing(site):
    token = next(kept["authorization"] for kept in site.world["actors"] if kept["authorization"])
    prefix = token.split("_")[1]
    guesses = [f"Bearer ps_{prefix}_{'A' * 43}", token[:-1], token + "A", token.lower()]
    guesses += [f"Bearer ps_{prefix}_", "Bearer ps__", "Bearer \x00", "Bearer", "Bearer ' OR 1=1"]
    guesses += ["Basic " + "QQ==", "Token " + token.split(" ")[1]]
    guesses += [f"Bearer ps_{n:08x}_{'B' * 43}" for n in range(40)]
    stranger = site.attacker("anonymous")
    statuses = {
        stranger.ask("GET", "/api/v1/cases/", headers={"Authorization": guess}).status
        for guess in guesses
        if guess != token
    }
    assert statuses <= {400, 401, 403}, statuses


def test_who_is_anonymous_is_told_the_same_of_every_name(site):
    there = sign_in(site, username_of(site, "partner"), "wrong password")
    not_there = sign_in(site, "nobody-of-this-name", "wrong password")
    assert there.status == not_there.status

    def told(reply: Reply, name: str) -> bytes:
        return _CSRF.sub(b"", reply.body).replace(name.encode(), b"*")

    assert told(there, username_of(site, "partner")) == told(not_there, "nobody-of-this-name")
