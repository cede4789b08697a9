"""Presentation mode: whoever shows the screen to others shows nobody's name on it."""

import time

import pytest
from django.test import Client
from django.urls import reverse

from cases import models
from cases.sign_on.limits import BEGAN, PRESENTING, SEEN, is_plain
from tests.permissions.identified import FAMILY, SECRETS
from tests.permissions.world import World
from tests.test_deidentified_view import _named, client_of, walk, world  # noqa: F401

pytestmark = pytest.mark.django_db

PRESENTER = "Rumpelmayer"
# What colleagues wrote, and who they are; of one's own account one's name is a part.
BESIDE = (PRESENTER, "Board-", "Note-", "Cohort-private", "Purpose-private", "Project-private")
OWN_ACCOUNT = ("/account/", "/confirm/", "/password/")


@pytest.fixture
def presenter(world: World) -> Client:  # noqa: F811
    user = next(actor.user for actor in world.actors if actor.name == "department_administrator")
    type(user).objects.filter(pk=user.pk).update(last_name=PRESENTER)
    models.Cohort.objects.filter(name="Cohort-private").update(created_by=user)
    models.BoardMeeting.objects.filter(title="Board-private").update(note="Note-private")
    client = client_of(world, "department_administrator")
    client.post(reverse("presentation"), {"on": "1"})
    return client


def test_no_answer_says_whose_a_slide_is(world, presenter):  # noqa: F811
    said, beside = {}, {}
    for path, text in walk(world, presenter):
        said |= dict.fromkeys(_named(text), path)
        if not path.startswith(OWN_ACCOUNT):
            beside |= {word: path for word in BESIDE if word in text}
    assert (said, beside) == ({}, {})
    presenter.post(reverse("presentation"), {})
    shown = {word for _path, text in walk(world, presenter) for word in [*_named(text), *BESIDE]
             if word in SECRETS or word in text}  # fmt: skip
    assert shown == {*SECRETS, *BESIDE}


def test_it_holds_for_the_session_alone(world, presenter):  # noqa: F811
    other = client_of(world, "department_administrator")
    page = reverse("case", kwargs={"pk": world.id("case", "private")})
    assert FAMILY in other.get(page).content.decode()
    hidden = presenter.get(page).content.decode()
    assert FAMILY not in hidden and "Presentation: identifiers are hidden" in hidden


def test_what_shows_or_changes_names_waits(world, presenter):  # noqa: F811
    image, cohort = world.id("slide_image", "private"), world.id("cohort", "private")
    label = reverse("slide_label", kwargs={"pk": image})
    assert presenter.get(label).status_code == 403
    assert presenter.get(reverse("audit")).status_code == 403
    assert presenter.get(reverse("upload_new")).status_code == 403
    assert presenter.get(reverse("admin:index")).status_code == 302
    address = f"/api/v1/cohorts/{cohort}/"
    change = {"data": {"description": "x"}, "content_type": "application/json"}
    assert presenter.patch(address, **change).status_code == 403
    presenter.post(reverse("presentation"), {})
    assert presenter.get(label).status_code == 200
    assert presenter.patch(address, **change).status_code == 200


def test_it_goes_back_without_what_was_typed(presenter):
    for asked, back in (
        ("https://testserver/?text=Zwetschgenbaum", "/"),
        ("https://testserver/cohorts/#x", "/cohorts/"),
        ("https://evil.example/cohorts/", "/cohorts/"),
        ("https://testserver//evil.example/", "/"),
        ("https://[", "/"),
        ("", "/"),
    ):
        headers = {"Referer": asked}
        answer = presenter.post(reverse("presentation"), {"on": "1"}, headers=headers)
        assert (answer.status_code, answer.headers["Location"]) == (302, back)


def test_words_of_before_are_not_shown_and_new_ones_are(world, presenter):  # noqa: F811
    presenter.post(reverse("presentation"), {})
    ask = {"data": {"text": "Hubermeier"}, "content_type": "application/json"}
    before = presenter.post("/api/v1/searches/", **ask).json()["search"]["id"]
    presenter.post(reverse("presentation"), {"on": "1"})
    after = presenter.post("/api/v1/searches/", **ask).json()["search"]["id"]
    assert presenter.get(f"/searches/{before}/").status_code == 404
    assert presenter.get(f"/searches/{after}/").status_code == 200
    history = presenter.get(reverse("searches")).content.decode()
    assert before not in history and after in history


def test_the_quick_door_leaves_such_a_session_to_django(settings):
    settings.MFA_ROLES = ()
    now = int(time.time())
    assert is_plain({BEGAN: now, SEEN: now})
    assert not is_plain({BEGAN: now, SEEN: now, PRESENTING: "2026-01-01T00:00:00+00:00"})
