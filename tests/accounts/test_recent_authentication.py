"""A sensitive act asks again who sits there, once the last proof is old."""

import time

import pytest
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path, reverse

from cases.models import AccessEvent
from cases.recent_authentication import require_recent_authentication
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

PASSWORD = "correct horse battery"


@login_required
@require_recent_authentication
def sensitive(request):
    return HttpResponse("done")


urlpatterns = [path("sensitive/", sensitive), path("", include("pathsearch_site.urls"))]


@pytest.fixture
def user():
    return UserFactory()


@pytest.fixture
def client(user):
    client = Client()
    client.force_login(user)
    return client


def age(client, seconds):
    """Make the last proof of the session this old."""
    session = client.session
    session["authenticated_at"] = int(time.time()) - seconds
    session.save()


def test_a_fresh_sign_in_is_proof_enough(client):
    assert client.get("/sensitive/").content == b"done"


def test_an_old_one_is_asked_again_and_comes_back(client, settings):
    age(client, settings.REAUTHENTICATION_MINUTES * 60 + 1)
    answer = client.get("/sensitive/?a=1")
    assert answer["Location"] == reverse("confirm_identity") + "?next=%2Fsensitive%2F%3Fa%3D1"
    page = client.get(answer["Location"])
    assert b'name="next" value="/sensitive/?a=1"' in page.content
    key = client.session.session_key
    answer = client.post(
        reverse("confirm_identity"), {"next": "/sensitive/?a=1", "password": PASSWORD}
    )
    assert answer["Location"] == "/sensitive/?a=1"
    assert client.session.session_key != key
    assert client.get("/sensitive/").content == b"done"
    event = AccessEvent.objects.get(detail__confirmed_by="password")
    assert event.action == "login"


def test_a_wrong_password_proves_nothing_and_is_on_record(client, user):
    age(client, 86400)
    answer = client.post(reverse("confirm_identity"), {"password": "wrong"})
    assert answer.status_code == 200
    assert "That is not your password." in answer.content.decode()
    assert client.get("/sensitive/").status_code == 302
    event = AccessEvent.objects.get(action="login_failed")
    assert event.object_id == str(user.pk)


def test_the_right_password_of_another_proves_nothing(client):
    other = UserFactory(password="another horse battery")
    age(client, 86400)
    client.post(
        reverse("confirm_identity"),
        {"password": "another horse battery", "username": other.username},
    )
    assert client.get("/sensitive/").status_code == 302


def test_a_sent_form_is_not_done_and_goes_back_to_its_page(client):
    age(client, 86400)
    answer = client.post("/sensitive/", headers={"Referer": "http://testserver/cohorts/"})
    assert answer["Location"].endswith("?next=http%3A%2F%2Ftestserver%2Fcohorts%2F")
    answer = client.post("/sensitive/", headers={"Referer": "https://elsewhere.example/"})
    assert answer["Location"].endswith("?next=%2F")


@pytest.mark.parametrize("headers", [{"HX-Request": "true"}, {"Accept": "application/json"}])
def test_scripts_get_a_refusal_that_says_what_to_do(client, headers):
    age(client, 86400)
    answer = client.post("/sensitive/", headers=headers)
    assert answer.status_code == 403
    assert b"authentication_not_recent" in answer.content


@pytest.mark.parametrize("elsewhere", ["https://elsewhere.example/", "//elsewhere.example", "a\\b"])
def test_it_leads_nowhere_else(client, elsewhere):
    answer = client.post(reverse("confirm_identity"), {"password": PASSWORD, "next": elsewhere})
    assert "elsewhere" not in answer["Location"]


def test_guessing_locks_like_the_sign_in(client, user, settings):
    settings.AXES_ENABLED = True
    for _ in range(settings.AXES_FAILURE_LIMIT):
        answer = client.post(reverse("confirm_identity"), {"password": "wrong"})
    assert answer.status_code == 429
    age(client, 86400)
    client.post(reverse("confirm_identity"), {"password": PASSWORD})
    assert client.get("/sensitive/").status_code == 302
