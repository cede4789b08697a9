"""A researcher asks every route for their department's objects: no answer says whose they are.

The routes are read from the resolver, so a new one is walked from the day it appears. The
pathologist's walk is the control: it must find every secret, or this test could find none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse

from cases import identity, models
from cases.permissions import Role
from cases.row_scope import acting_for_user
from cases.wsi.deidentify.texts import GONE
from tests.attacks.routes import Route, routes
from tests.factories import DepartmentFactory, PatientFactory, make_member
from tests.permissions import identified
from tests.permissions.identified import ACCESSION, BARCODE, FAMILY, GIVEN, MRN, SECRETS, SURGEON
from tests.permissions.pixels import put_studies
from tests.permissions.world import MISSING, World, make_world

pytestmark = pytest.mark.django_db

WALKED = ("private", "shared")
# End the session. (The administration is for who manages members: tests/test_permissions.py.)
_SKIPPED = {"logout", "account_logout", "admin:logout", "sessions_end", "session_end"}


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker) -> Iterator[World]:
    with django_db_blocker.unblock(), transaction.atomic():
        world = make_world()
        put_studies(world)
        for number, place in enumerate(WALKED, start=1):
            identified.identify(world, place, number)
        yield world
        transaction.set_rollback(True)


@dataclass(frozen=True)
class _Site:
    """What a route asks of a site: the ids of objects."""

    world: World
    own: dict[str, Any]

    def id(self, kind: str, place: str) -> Any:
        if kind in self.own:
            return str(self.own[kind])
        return str(self.world.ids.get(kind, {}).get(place, MISSING))


def client_of(world: World, name: str) -> Client:
    actor = next(actor for actor in world.actors if actor.name == name)
    client = Client()
    client.force_login(actor.user)
    return client


def text_of(response: Any) -> str:
    streams = getattr(response, "streaming", False)
    body = b"".join(response.streaming_content) if streams else response.content
    return f"{body.decode('utf-8', 'replace')}\n{dict(response.headers)}"


def ask(client: Client, path: str, **query: str) -> str:
    with transaction.atomic():
        text = text_of(client.get(path, query))
        transaction.set_rollback(True)
    return text


def walk(world: World, client: Client) -> Iterator[tuple[str, str]]:
    """Yield (where, answer) of everything that can be asked for."""
    slide = str(world.id("slide_image", "shared"))
    with transaction.atomic():
        own = {}
        for question in ({"text": "carcinoma"}, {"slide_image": slide}):
            posted = client.post("/api/v1/searches/", question, content_type="application/json")
            assert posted.status_code == 201
            yield f"search {question}", text_of(posted)
            own["search"] = posted.json()["search"]["id"]
            yield "its page", text_of(client.get(f"/searches/{own['search']}/"))
            yield "its export", text_of(client.get(f"/searches/{own['search']}/export.csv"))
        found, missing = routes()
        assert not missing
        for route in found:
            if route.name not in _SKIPPED and not route.name.startswith("admin:"):
                yield from _walk_route(client, route, world, own)
        transaction.set_rollback(True)


def _walk_route(
    client: Client, route: Route, world: World, own: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    for place in WALKED if route.kinds else WALKED[:1]:
        for mine in {}, own:
            path = route.path(_Site(world, mine), place)
            yield path, ask(client, path)
            if path.startswith("/dicomweb/"):
                yield f"{path} all", ask(client, path, includefield="all")
            if not any(kind == "search" for _parameter, kind in route.kinds):
                break


def test_no_answer_says_whose_a_slide_is(world):
    said = {
        name: path
        for path, text in walk(world, client_of(world, "researcher"))
        for name in _named(text)
    }
    assert said == {}
    control = {
        name
        for _path, text in walk(world, client_of(world, "pathologist"))
        for name in _named(text)
    }
    assert set(SECRETS) - control == set()


def _named(text: str) -> list[str]:
    return [name for name, secret in SECRETS.items() if secret.casefold() in text.casefold()]


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ("/api/v1/patients/", "mrn", f"{MRN[:-1]}1"),
        ("/api/v1/patients/", "accession", f"{ACCESSION[:-1]}1"),
        ("/api/v1/cases/", "accession", f"{ACCESSION[:-1]}1"),
        ("/api/v1/cases/", "received_after", "2023-08-17"),
        ("/api/v1/cases/", "updated_since", "2020-01-01T00:00:00Z"),
        ("/api/v1/slides/", "label_barcode", BARCODE),
        ("/api/v1/slide-images/", "scanned_after", "2020-01-01T00:00:00Z"),
        ("/api/v1/slide-images/", "mrn", f"{MRN[:-1]}1"),
        ("/api/v1/reports/", "signed_after", "2020-01-01T00:00:00Z"),
        ("/api/v1/index-status/", "accession_number", f"{ACCESSION[:-1]}1"),
        ("/dicomweb/studies", "PatientName", f"{FAMILY}*"),
        ("/dicomweb/studies", "00080020", "20230101-20231231"),
        ("/dicomweb/series", "PatientID", f"{MRN[:-1]}1"),
        ("/dicomweb/instances", "PatientBirthDate", "19310429"),
        ("/dicomweb/instances", "00400512", BARCODE),
    ],
)
def test_nobody_is_found_by_what_identifies(world, path, key, value):
    def found(name: str) -> int:
        rows = client_of(world, name).get(path, {key: value}).json()
        return rows["count"] if isinstance(rows, dict) else len(rows)

    assert found("researcher") == 0
    assert found("pathologist") > 0


@pytest.mark.parametrize("text", [FAMILY, "Zwetschgenbaun", GIVEN[:5], MRN, ACCESSION])
def test_the_work_list_finds_nobody(world, text):
    shown = client_of(world, "researcher").get("/", {"text": text}).content.decode()
    cases = [str(world.id("case", place)) for place in WALKED]
    assert not any(case in shown for case in cases)
    assert any(c in client_of(world, "pathologist").get("/", {"text": text}).content.decode()
               for c in cases)  # fmt: skip


@pytest.mark.parametrize(
    "text", [FAMILY, f'"{FAMILY}"', f"carcinoma -{FAMILY}", f'"Mrs {FAMILY}"', SURGEON]
)
def test_words_find_nobody(world, text):
    """Reports are found, or not, as if they said no names."""

    def hits(name: str) -> set[str]:
        client = client_of(world, name)
        answer = client.post("/api/v1/searches/", {"text": text}, content_type="application/json")
        return {hit["slide_image"] for hit in answer.json()["hits"]}

    named = {str(world.id("slide_image", place)) for place in WALKED}
    assert named & hits("researcher") == (named if text.startswith("carcinoma") else set())
    if '"' in text:  # the words as they stand are the report's, for who may read them
        assert named <= hits("pathologist")


def test_orders_tell_nothing(world):
    client = client_of(world, "researcher")
    for path, order in (
        ("/api/v1/patients/", "family_name"),
        ("/api/v1/cases/", "received_on"),
        ("/api/v1/cases/", "accession_number"),
    ):
        rows = [client.get(path, {"ordering": o}).json()["results"] for o in (order, f"-{order}")]
        assert rows[0] == rows[1] == sorted(rows[0], key=lambda row: row["id"])


def test_the_work_list_offers_no_such_order(world):
    for name, offered in (("researcher", False), ("pathologist", True)):
        page = client_of(world, name).get("/").content.decode()
        assert ("order=received" in page, "order=patient" in page) == (offered, offered)
        assert "order=diagnosis" in page


def test_pseudonyms_and_intervals_stay(world):
    """The same names each time; days between two dates of a patient are what they were."""
    path = f"/api/v1/cases/{world.id('case', 'private')}/"
    first, again = (client_of(world, "researcher").get(path).json() for _ in range(2))
    assert first == again
    plain = client_of(world, "pathologist").get(path).json()
    assert first["patient"]["mrn"].startswith("P") and first["patient"]["birth_date"] is None
    assert first["accession_number"].startswith("C")

    def days(case: dict[str, Any]) -> int:
        from datetime import date

        signed = date.fromisoformat(case["reports"][0]["signed_at"][:10])
        return (signed - date.fromisoformat(case["received_on"])).days

    assert days(first) == days(plain) == 4
    assert 366 <= (_day(plain) - _day(first)).days <= 3650
    text = first["reports"][0]["diagnosis_text"]
    assert "Carcinoma with clear margins." in text and GONE in text


def _day(case: dict[str, Any]) -> Any:
    from datetime import date

    return date.fromisoformat(case["received_on"])


def test_a_veiled_row_is_never_saved(world):
    user = next(actor.user for actor in world.actors if actor.name == "researcher")
    with acting_for_user(user):
        patient = models.Patient.objects.get(pk=world.id("patient", "private"))
        deferred = models.Report.objects.defer("comment").get(pk=world.id("report", "private"))
        image = models.SlideImage.objects.select_related("slide__case__patient").get(
            pk=world.id("slide_image", "private")
        )
    assert identity.is_veiled(patient) and FAMILY not in image.slide.case.patient.full_name
    for row in (patient, deferred, image, image.slide, image.slide.case):
        with pytest.raises(identity.VeiledRow):
            row.save()
    with pytest.raises(identity.VeiledRow):
        models.Patient.objects.bulk_update([patient], ["given_name"])
    with acting_for_user(user):
        assert FAMILY not in deferred.comment and "Told" in deferred.comment
        report = models.Report.objects.select_related("author").get(pk=deferred.pk)
        assert report.author is None


def test_a_pathologist_elsewhere_is_a_researcher_here(db):
    here, there = DepartmentFactory(code="a"), DepartmentFactory(code="b")
    user = make_member(here, Role.RESEARCHER)
    models.Membership.objects.create(user=user, department=there, role=Role.PATHOLOGIST)
    for department in (here, there):
        PatientFactory(department=department, family_name="Kauz", mrn="1")
    with acting_for_user(user):
        seen = {p.department.code: p.family_name for p in models.Patient.objects.visible_to(user)}
    assert seen["b"] == "Kauz" and seen["a"].startswith("P") and len(seen["a"]) == 13
    client = Client()
    client.force_login(user)
    found = client.get("/api/v1/patients/", {"mrn": "1"}).json()["results"]
    assert [row["department"] for row in found] == ["b"]


def test_pixels_that_name_the_patient_are_not_shown(world):
    pk = world.id("slide_image", "private")
    tile = {"pk": pk, "z_level": 9, "column": 0, "row": 0}
    addresses = [f"/slides/{pk}/thumbnail.jpeg", reverse("slide_tile", kwargs=tile)]
    headers = models.SlideInstanceHeader.objects.filter(instance__slide_image=pk)
    for name, said, status in (
        ("researcher", "NO", 200),
        ("researcher", "YES", 404),
        ("pathologist", "YES", 200),
    ):
        for header in headers:
            header.attributes["00280301"] = {"vr": "CS", "Value": [said]}
            header.save()
        client = client_of(world, name)
        assert {client.get(address).status_code for address in addresses} == {status}
