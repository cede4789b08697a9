"""Regions and measurements on a scan, by API v1."""

import pytest
from django.test import Client

from cases.models import AccessEvent, SlideRegion
from cases.permissions import Role
from tests.factories import DepartmentFactory, make_member, make_slide_image

pytestmark = pytest.mark.django_db

SQUARE = [[0, 0], [100, 0], [100, 100], [0, 100]]


@pytest.fixture(autouse=True)
def _locked(settings):
    settings.ROW_SECURITY = True


@pytest.fixture
def image():
    return make_slide_image(DepartmentFactory(), width_l0=1000, height_l0=800, mpp=0.5)


@pytest.fixture
def doctor(image) -> Client:
    return signed_in(image, Role.PATHOLOGIST)


def signed_in(image, role) -> Client:
    client = Client()
    client.force_login(make_member(image.department, role))
    return client


def address(image, region: dict | None = None) -> str:
    return f"/api/v1/slide-images/{image.pk}/regions/" + (f"{region['id']}/" if region else "")


def draw(client, image, kind="rectangle", points=SQUARE, **more):
    told = {"kind": kind, "points": points, **more}
    return client.post(address(image), told, content_type="application/json")


def test_a_region_is_kept_with_its_measures_and_is_on_record(image, doctor):
    answer = draw(doctor, image, name="Focus", note="Signet ring cells")
    assert answer.status_code == 201
    told = answer.json()
    assert told["points"] == SQUARE
    assert (told["length_um"], told["area_um2"]) == (200.0, 2500.0)
    assert told["is_mine"] is True
    line = draw(doctor, image, "line", [[0, 0], [30, 40]]).json()
    assert (line["length_um"], line["area_um2"]) == (25.0, None)
    bow = [[0, 0], [100, 100], [100, 0], [0, 90]]
    assert draw(doctor, image, "polygon", bow).json()["area_um2"] is None
    listed = doctor.get(address(image)).json()
    assert [one["kind"] for one in listed["results"]] == ["rectangle", "line", "polygon"]
    event = AccessEvent.objects.filter(object_type="slideregion").first()
    assert event.patient_id == image.slide.case.patient_id


@pytest.mark.parametrize(
    ("told", "status", "said"),
    [
        ({"points": [[0, 0], [2000, 0], [0, 9]], "kind": "polygon"}, 422, "outside"),
        ({"points": [[0, 0], [9, 9], [18, 18]], "kind": "polygon"}, 422, "no area"),
        ({"points": SQUARE, "kind": "line"}, 422, "2 to 2"),
        ({"points": "all", "kind": "line"}, 400, "points"),
        ({"points": SQUARE, "kind": "circle"}, 400, "kind"),
        ({"points": SQUARE, "kind": "rectangle", "name": "x" * 121}, 400, "name"),
    ],
)
def test_what_is_wrong_is_named(image, doctor, told, status, said):
    answer = doctor.post(address(image), told, content_type="application/json")
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert said in answer.content.decode()
    assert not SlideRegion.objects.exists()


def test_two_people_do_not_overwrite_each_other(image, doctor):
    region = draw(doctor, image).json()
    seen = {"name": "First", "updated_at": region["updated_at"]}
    first = doctor.patch(address(image, region), seen, content_type="application/json")
    assert first.json()["name"] == "First"
    late = {"name": "Second", "updated_at": region["updated_at"]}
    answer = doctor.patch(address(image, region), late, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (409, "changed")
    assert SlideRegion.objects.get().name == "First"


def test_only_who_drew_it_changes_it_and_an_administrator_may_remove_it(image, doctor):
    region = draw(doctor, image).json()
    colleague = signed_in(image, Role.TECHNICIAN)
    body = {"name": "Mine now"}
    answer = colleague.patch(address(image, region), body, content_type="application/json")
    assert answer.status_code == 403
    assert colleague.delete(address(image, region)).status_code == 403
    assert colleague.get(address(image)).json()["results"][0]["is_mine"] is False
    admin = signed_in(image, Role.DEPARTMENT_ADMINISTRATOR)
    assert admin.delete(address(image, region)).status_code == 204
    own = draw(doctor, image).json()
    assert doctor.delete(address(image, own)).status_code == 204
    assert not SlideRegion.objects.exists()


def test_a_researcher_and_a_presented_session_see_none(image, doctor):
    draw(doctor, image, name="Mrs Smith's focus")
    researcher = signed_in(image, Role.RESEARCHER)
    assert researcher.get(address(image)).json()["results"] == []
    assert draw(researcher, image).status_code == 403
    doctor.post("/presentation/", {"on": "1"})
    assert doctor.get(address(image)).json()["results"] == []


def test_a_slide_has_an_end_of_regions(image, doctor, monkeypatch):
    monkeypatch.setattr("cases.services.regions.REGIONS_MOST", 1)
    assert draw(doctor, image).status_code == 201
    assert draw(doctor, image).json()["code"] == "too_many_regions"
