"""Sessions end when idle, when old, and when their user says so."""

import pytest
from django.test import Client
from django.urls import reverse

from cases.models import AccessEvent
from tests.accounts.conftest import PASSWORD, age, signed_in
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0"


def is_in(client) -> bool:
    return client.get(reverse("my_account")).status_code == 200


def test_an_idle_session_ends_and_says_so(user, settings):
    client = signed_in(user)
    assert is_in(client)
    age(client, settings.SESSION_IDLE_SECONDS - 5, "seen_at")
    assert is_in(client)  # and that was a use
    age(client, settings.SESSION_IDLE_SECONDS + 1, "seen_at")
    answer = client.get(reverse("my_account"), follow=True)
    assert answer.redirect_chain[0][0].startswith(reverse("login"))
    assert "Your session has ended" in answer.content.decode()
    event = AccessEvent.objects.get(action="logout")
    assert (event.user, event.reason) == (user, "session idle")


def test_a_page_that_asks_for_itself_again_is_no_use(user, settings):
    client = signed_in(user)
    assert is_in(client)
    age(client, 600, "seen_at")
    client.get(reverse("my_account"), headers={"HX-Trigger": "indexing-table"})
    seen = client.session["seen_at"]
    client.get(reverse("my_account"))
    assert client.session["seen_at"] > seen


def test_a_session_in_use_ends_after_its_hours(user, settings):
    client = signed_in(user)
    assert is_in(client)
    age(client, settings.SESSION_COOKIE_AGE + 1, "began_at")
    assert not is_in(client)
    assert AccessEvent.objects.get(action="logout").reason == "session old"


def test_the_limits_hold_for_the_api_too(user, settings):
    client = signed_in(user)
    assert client.get("/api/v1/cases/").status_code == 200
    age(client, settings.SESSION_IDLE_SECONDS + 1, "seen_at")
    assert client.get("/api/v1/cases/").status_code == 401


def test_use_is_written_once_a_minute_alone(user, django_assert_max_num_queries):
    client = signed_in(user)
    assert is_in(client)
    seen = client.session["seen_at"]
    age(client, 30, "seen_at")
    assert is_in(client)
    assert client.session["seen_at"] == seen - 30 or client.session["seen_at"] < seen
    age(client, 61, "seen_at")
    assert is_in(client)
    assert client.session["seen_at"] >= seen


def test_the_account_lists_sessions_and_ends_one(user):
    here, there = signed_in(user), signed_in(user, **{"User-Agent": FIREFOX})
    page = here.get(reverse("my_account")).content.decode()
    assert "Firefox on Windows" in page
    assert page.count("this one") == 1
    assert there.session.session_key not in page
    other = user.usersession_set.get(session_key=there.session.session_key)
    assert here.post(reverse("session_end", args=[other.pk])).status_code == 302
    assert not is_in(there)
    assert is_in(here)
    assert AccessEvent.objects.filter(reason="session ended by its user").count() == 1


def test_all_others_end_at_once(user):
    here, there, elsewhere = (signed_in(user) for _ in range(3))
    here.post(reverse("sessions_end"))
    assert [is_in(client) for client in (here, there, elsewhere)] == [True, False, False]


def test_another_ones_session_is_not_there(user):
    victim = UserFactory()
    theirs = signed_in(victim)
    session = victim.usersession_set.get()
    answer = signed_in(user).post(reverse("session_end", args=[session.pk]))
    assert answer.status_code == 404
    assert is_in(theirs)


def test_a_new_password_ends_the_other_sessions_and_is_on_record(user):
    here, there = signed_in(user), signed_in(user)
    new = "quite another horse"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert here.post(reverse("password"), form).status_code == 302
    assert is_in(here)
    assert not is_in(there)
    assert AccessEvent.objects.filter(action="change", detail__fields=["password"]).exists()
    # The list follows the new key of this session.
    assert "this one" in here.get(reverse("my_account")).content.decode()


@pytest.mark.parametrize("bad", ["short", "password1234", "1234567890123"])
def test_weak_passwords_are_refused(user, bad):
    client = signed_in(user)
    form = {"old_password": PASSWORD, "new_password1": bad, "new_password2": bad}
    assert client.post(reverse("password"), form).status_code == 200
    user.refresh_from_db()
    assert user.check_password(PASSWORD)


def test_a_session_given_beforehand_is_not_kept(user):
    client = Client()
    client.get(reverse("login"))
    session = client.session
    session["planted"] = 1
    session.save()
    client.cookies["sessionid"] = before = session.session_key
    client.post(reverse("login"), {"username": user.username, "password": PASSWORD})
    assert client.session.session_key != before
