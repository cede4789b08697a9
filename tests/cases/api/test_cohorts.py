"""Cohorts by the API: curate, share, and what those see with whom one is shared."""

import pytest

from cases.models import Cohort
from cases.permissions import Role
from tests.cases.api.conftest import client_with_token
from tests.factories import DepartmentFactory, make_member, make_slide_image

URL = "/api/v1/cohorts/"


@pytest.fixture
def admin(site):
    return client_with_token(make_member(site.north, Role.DEPARTMENT_ADMINISTRATOR))


@pytest.fixture
def cohort(site, admin):
    made = admin.post(URL, {"department": "north", "name": "Teaching"}, format="json")
    assert made.status_code == 201, made.content
    return made.json()


def entries(client, cohort, query=""):
    answer = client.get(f"{URL}{cohort['id']}/entries/?{query}")
    assert answer.status_code == 200
    return {row["slide_image"]: row for row in answer.json()["results"]}


def add(client, cohort, *images):
    body = {"slide_images": [str(getattr(i, "pk", i)) for i in images], "note": "n"}
    return client.post(f"{URL}{cohort['id']}/entries/", body, format="json")


def share(client, cohort, *codes):
    return client.put(f"{URL}{cohort['id']}/share/", {"departments": list(codes)}, format="json")


def test_slides_enter_once_and_leave_with_a_reason(site, admin, cohort):
    one, two = make_slide_image(site.north), make_slide_image(site.north)
    assert add(admin, cohort, one, two).json()["added"] == 2
    again = add(admin, cohort, one).json()
    assert (again["added"], again["already_in"]) == (0, 1)
    entry = entries(admin, cohort)[str(one.pk)]["id"]
    url = f"{URL}{cohort['id']}/entries/remove/"
    no_reason = admin.post(url, {"entries": [entry], "reason": " "}, format="json")
    assert no_reason.status_code == 400
    removed = admin.post(url, {"entries": [entry], "reason": "Blurred"}, format="json")
    assert removed.json() == {"removed": 1}
    assert set(entries(admin, cohort, "removed=false")) == {str(two.pk)}
    assert entries(admin, cohort, "removed=true")[str(one.pk)]["removed_reason"] == "Blurred"
    assert admin.get(f"{URL}{cohort['id']}/").json()["entry_count"] == 1


def test_sharing_opens_and_closes_the_slides(site, admin, cohort):
    one, two = make_slide_image(site.north), make_slide_image(site.north)
    add(admin, cohort, one, two)
    entry = entries(admin, cohort)[str(two.pk)]["id"]
    admin.post(
        f"{URL}{cohort['id']}/entries/remove/",
        {"entries": [entry], "reason": "Private reason"},
        format="json",
    )
    DepartmentFactory(code="east")
    assert site.other.get(f"{URL}{cohort['id']}/").status_code == 404
    assert share(admin, cohort, "south", "east").json()["shared_with"] == ["east", "south"]
    seen = site.other.get(f"{URL}{cohort['id']}/").json()
    assert seen["shared_with"] == ["south"]
    assert seen["entry_count"] == 1
    assert set(entries(site.other, cohort)) == {str(one.pk)}
    assert add(site.other, cohort, one).status_code == 403
    assert share(site.other, cohort, "east").status_code == 403
    share(admin, cohort)
    assert site.other.get(f"{URL}{cohort['id']}/").status_code == 404
    assert site.other.get(f"{URL}{cohort['id']}/entries/").status_code == 404


def test_foreign_and_missing_slides_are_one_answer(site, admin, cohort):
    foreign = make_slide_image(site.south)
    hidden = add(admin, cohort, foreign)
    missing = add(admin, cohort, "00000000-0000-4000-8000-000000000000")
    assert hidden.status_code == 400
    assert hidden.json()["code"] == "unknown_slide_image"
    assert hidden.content == missing.content


def test_sharing_names_departments_that_exist(site, admin, cohort):
    assert share(admin, cohort, "nowhere").json()["code"] == "unknown_department"
    assert share(admin, cohort, "north").status_code == 400
    assert share(site.lis, cohort, "south").status_code == 403
    assert not Cohort.objects.get().shared_with.exists()


def test_a_name_is_given_once(site, admin, cohort):
    again = admin.post(URL, {"department": "north", "name": "Teaching"}, format="json")
    assert (again.status_code, again.json()["code"]) == (409, "cohort_name_taken")
    changed = admin.patch(f"{URL}{cohort['id']}/", {"description": "For juniors"}, format="json")
    assert (changed.json()["name"], changed.json()["description"]) == ("Teaching", "For juniors")
    foreign = admin.post(URL, {"department": "south", "name": "X"}, format="json")
    assert foreign.json()["code"] == "unknown_department"
