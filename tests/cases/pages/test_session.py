"""Signing in and out, refusals, health: what is shown and what is recorded."""

import pytest
from django.db import DatabaseError
from django.test import Client
from django.urls import reverse

from cases.models import AccessEvent
from cases.permissions import Role
from cases.views import health
from tests.factories import make_member

PASSWORD = "correct horse battery"


def actions() -> list[str]:
    return list(AccessEvent.objects.order_by("at").values_list("action", flat=True))


def test_it_signs_in_and_out_and_records_both(client, cast):
    user = make_member(cast.north, Role.PATHOLOGIST)
    response = client.post(reverse("login"), {"username": user.username, "password": PASSWORD})
    assert response["Location"] == reverse("work_list")
    assert client.get(reverse("logout")).status_code == 405
    assert client.post(reverse("logout"))["Location"] == reverse("login")
    assert client.get(reverse("work_list")).status_code == 302
    assert actions() == ["login", "logout"]
    assert {event.user for event in AccessEvent.objects.all()} == {user}
    assert {event.channel for event in AccessEvent.objects.all()} == {"page"}


def test_it_records_a_failure_without_what_was_typed(client, cast):
    user = make_member(cast.north, Role.PATHOLOGIST)
    for name in (user.username, "my-secret-password"):
        response = client.post(reverse("login"), {"username": name, "password": "wrong"})
        assert response.status_code == 200
    known, unknown = AccessEvent.objects.order_by("at")
    assert known.action == unknown.action == "login_failed"
    assert known.object_id == str(user.pk)
    assert "my-secret-password" not in str(unknown.detail)


def test_it_does_not_send_elsewhere_after_signing_in(client, cast):
    user = make_member(cast.north, Role.PATHOLOGIST)
    response = client.post(
        reverse("login"),
        {"username": user.username, "password": PASSWORD, "next": "https://elsewhere.example/"},
    )
    assert response["Location"] == reverse("work_list")


def test_signing_in_needs_the_forms_token(cast):
    user = make_member(cast.north, Role.PATHOLOGIST)
    strict = Client(enforce_csrf_checks=True)
    response = strict.post(reverse("login"), {"username": user.username, "password": PASSWORD})
    assert response.status_code == 403


def test_a_refusal_is_a_page_and_is_recorded(cast):
    client = cast.client(cast.north, Role.TECHNICIAN)
    response = client.get(reverse("cohort_new"))
    assert response.status_code == 403
    assert b"Your role does not allow this" in response.content
    event = AccessEvent.objects.get(action="denied")
    assert event.detail["route"] == "cohort_new"


def test_a_wrong_address_is_a_calm_page(cast):
    response = cast.client(cast.north, Role.TECHNICIAN).get("/no/such/page/")
    assert response.status_code == 404
    assert b"Nothing here that you may see" in response.content


def test_pages_are_kept_out_of_caches_and_run_no_inline_script(cast):
    response = cast.client(cast.north, Role.PATHOLOGIST).get(reverse("work_list"))
    assert "no-store" in response["Cache-Control"]
    policy = response["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    text = response.content.decode()
    assert " style=" not in text
    assert "onclick" not in text


def test_health_tells_only_whether_it_serves(client, db, monkeypatch):
    assert client.get(reverse("healthz")).json() == {"status": "ok", "database": "ok"}

    class Broken:
        def cursor(self):
            raise DatabaseError("password of postgres at 10.0.0.1")

    monkeypatch.setattr(health, "connection", Broken())
    response = client.get(reverse("healthz"))
    assert response.status_code == 503
    assert b"10.0.0.1" not in response.content


@pytest.mark.parametrize("name", ["work_list", "cohorts", "cohort_new"])
def test_pages_ask_who_is_there(client, db, name):
    assert client.get(reverse(name))["Location"].startswith(reverse("login"))
