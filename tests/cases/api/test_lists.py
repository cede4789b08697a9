"""Paging, filters, ordering: only visible rows, each once, orders only from the white list."""

from datetime import timedelta

import pytest
from django.urls import get_resolver
from django.utils import timezone

from cases.models import Case, Cohort, CohortEntry, Patient
from tests.factories import (
    CaseFactory,
    PatientFactory,
    ReportFactory,
    SlideFactory,
    SlideImageFactory,
    SpecimenFactory,
    make_slide_image,
)


def ids(client, route, query=""):
    answer = client.get(f"/api/v1/{route}/?{query}")
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert body["count"] == len(body["results"])
    return {row["id"] for row in body["results"]}


def test_pages_hold_each_row_once_and_at_most_200(site):
    patient = PatientFactory(department=site.north)
    Case.objects.bulk_create(
        Case(
            department=site.north,
            patient=patient,
            accession_number=f"S{number}",
            accession_issuer="lis",
            received_on="2026-01-01",  # all alike: only the tie-break orders them
        )
        for number in range(205)
    )
    seen = []
    for page in (1, 2, 3, 4, 5):
        body = site.lis.get(f"/api/v1/cases/?ordering=received_on&page={page}").json()
        assert body["count"] == 205
        seen += [row["id"] for row in body["results"]]
    assert len(seen) == len(set(seen)) == 205
    assert len(site.lis.get("/api/v1/cases/?page_size=1000").json()["results"]) == 200


def test_orders_outside_the_white_list_are_ignored(site):
    first = CaseFactory(department=site.north, accession_number="A")
    second = CaseFactory(department=site.north, accession_number="B")

    def order(query):
        rows = site.lis.get(f"/api/v1/cases/?ordering={query}").json()["results"]
        return [row["id"] for row in rows]

    expected = [str(first.pk), str(second.pk)]
    assert order("accession_number") == expected
    assert order("-accession_number") == expected[::-1]
    assert order("patient__birth_date") == order("clinical_history") == order("")


def test_every_list_of_the_api_has_a_white_list_of_orders():
    for pattern in _api_views():
        if getattr(pattern, "filter_backends", None) and hasattr(pattern, "list"):
            assert isinstance(getattr(pattern, "ordering_fields", None), tuple), pattern


def _api_views():
    def walk(patterns):
        for pattern in patterns:
            if hasattr(pattern, "url_patterns"):
                yield from walk(pattern.url_patterns)
            elif hasattr(pattern.callback, "cls"):
                yield pattern.callback.cls

    return set(walk(get_resolver().url_patterns))


@pytest.fixture
def cases(site):
    """Two cases of the caller's department, and one alike in the other."""
    made = []
    for department, mrn, organ, stain in (
        (site.north, "1", "Lung", "H&E"),
        (site.north, "2", "Colon", "CK7"),
        (site.south, "1", "Lung", "H&E"),
    ):
        case = CaseFactory(
            department=department,
            patient=PatientFactory(department=department, mrn=mrn, mrn_issuer="registry"),
            accession_number=f"S{mrn}",
            received_on=f"2026-01-0{mrn}",
        )
        specimen = SpecimenFactory(case=case, organ=organ)
        SlideImageFactory(slide=SlideFactory(case=case, specimen=specimen, stain=stain))
        ReportFactory(
            case=case, status="final" if mrn == "1" else "preliminary", diagnosis_code=organ
        )
        made.append(case)
    return made


@pytest.mark.parametrize(
    "query",
    [
        "accession=S1",
        "mrn=1",
        "organ=lung",
        "stain=h%26e",
        "report_status=final",
        "diagnosis_code=Lung",
        "received_before=2026-01-01",
        "received_after=2025-12-31&received_before=2026-01-01",
        "department=north&mrn=1",
    ],
)
def test_case_filters(site, cases, query):
    assert ids(site.lis, "cases", query) == {str(cases[0].pk)}


@pytest.mark.parametrize("route", ["cases", "patients", "slides", "slide-images", "reports"])
def test_lists_filter_by_department_patient_and_time(site, cases, route):
    mine = ids(site.lis, route)
    assert len(mine) == 2
    assert ids(site.lis, route, "department=north") == mine
    assert ids(site.lis, route, "department=south") == set()
    assert ids(site.lis, route, "mrn=2") < mine
    later = (timezone.now() + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    earlier = (timezone.now() - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert ids(site.lis, route, f"updated_since={later}") == set()
    assert ids(site.lis, route, f"updated_since={earlier}") == mine
    if route != "patients":
        assert len(ids(site.lis, route, f"patient={cases[0].patient_id}")) == 1
    assert ids(site.lis, route, "accession=S1") < mine


@pytest.mark.parametrize(
    ("route", "query"),
    [
        ("slides", "organ=lung"),
        ("slides", "stain=h%26e"),
        ("slide-images", "organ=lung"),
        ("slide-images", "stain=h%26e"),
        ("slide-images", "source_format=vendor&mrn=1"),
        ("reports", "status=final"),
        ("reports", "diagnosis_code=Lung"),
        ("reports", "current=true&mrn=1"),
        ("patients", "mrn=1"),
    ],
)
def test_other_filters(site, cases, route, query):
    assert len(ids(site.lis, route, query)) == 1


def test_a_change_of_a_part_moves_the_case(site, cases):
    before = timezone.now().isoformat().replace("+00:00", "Z")
    assert ids(site.lis, "cases", f"updated_since={before}") == set()
    url = "/api/v1/cases/by-accession/S1/?department=north"
    message = {
        "patient": {"mrn": "1", "mrn_issuer": "registry"},
        "specimens": [{"label": "A", "procedure": "Biopsy"}],
    }
    assert site.lis.put(url, message, format="json").status_code == 200
    assert ids(site.lis, "cases", f"updated_since={before}") == {str(cases[0].pk)}


def test_of_a_shared_case_only_the_shared_glass_is_known(site):
    shown = make_slide_image(site.north)
    case = shown.slide.case
    hidden = SlideImageFactory(slide=SlideFactory(case=case, stain="Secret stain"))
    cohort = Cohort.objects.create(department=site.north, name="shared")
    cohort.shared_with.add(site.south)
    CohortEntry.objects.create(cohort=cohort, slide_image=shown)
    assert ids(site.other, "slide-images") == {str(shown.pk)}
    assert ids(site.other, "slides") == {str(shown.slide_id)}
    assert ids(site.other, "cases") == {str(case.pk)}
    assert ids(site.other, "patients") == {str(case.patient_id)}
    assert ids(site.other, "cases", "stain=Secret stain") == set()
    body = site.other.get(f"/api/v1/cases/{case.pk}/")
    assert str(hidden.pk) not in body.content.decode()
    assert str(hidden.slide_id) not in body.content.decode()
    assert b"Secret stain" not in body.content


def test_sharing_cannot_be_passed_on(site):
    """A cohort of a department that only sees a slide opens it to nobody."""
    image = make_slide_image(site.north)
    cohort = Cohort.objects.create(department=site.south, name="passed on")
    cohort.shared_with.add(site.north)
    CohortEntry.objects.create(cohort=cohort, slide_image=make_slide_image(site.south))
    third = Cohort.objects.create(department=site.south, name="to itself")
    third.shared_with.add(site.south)
    CohortEntry.objects.create(cohort=third, slide_image=image)
    assert str(image.pk) not in ids(site.other, "slide-images")


def test_a_patient_is_corrected_but_keeps_the_number(site):
    patient = PatientFactory(department=site.north, mrn="77")
    url = f"/api/v1/patients/{patient.pk}/"
    answer = site.lis.patch(url, {"family_name": "New", "mrn": "78"}, format="json")
    assert answer.status_code == 200
    patient = Patient.objects.get(pk=patient.pk)
    assert (patient.family_name, patient.mrn) == ("New", "77")
    assert site.other.patch(url, {"family_name": "X"}, format="json").status_code == 404


@pytest.mark.parametrize("route", ["patients", "cases", "slides", "slide-images", "reports"])
def test_a_longer_list_asks_the_database_no_more_often(
    site, route, django_assert_max_num_queries, django_assert_num_queries
):
    ReportFactory(case=make_slide_image(site.north).case)
    with django_assert_max_num_queries(20) as short:
        ids(site.lis, route)
    for _number in range(3):
        ReportFactory(case=make_slide_image(site.north).case)
    with django_assert_num_queries(len(short)):
        assert len(ids(site.lis, route)) == 4
