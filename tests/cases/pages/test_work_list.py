"""The work list and the case page: what they show, of whom, and in which order."""

from datetime import date

import pytest
from django.urls import reverse

from cases.models import AccessEvent, Cohort, CohortEntry, Report
from cases.permissions import Role
from tests.factories import (
    CaseFactory,
    PatientFactory,
    ReportFactory,
    SlideFactory,
    SlideImageFactory,
    SpecimenFactory,
    make_slide_image,
)


@pytest.fixture
def cases(cast):
    """Return three cases of the north, newest first, and one of the south."""
    facts = [
        ("N-3", "Okafor", "Lung", "H&E", date(2026, 3, 1), "Adenocarcinoma"),
        ("N-2", "Berg", "Colon", "PAS", date(2026, 2, 1), ""),
        ("N-1", "Silva", "Lung", "PAS", date(2026, 1, 1), "Normal lung"),
    ]
    made = []
    for number, family, organ, stain, received, diagnosis in facts:
        patient = PatientFactory(department=cast.north, family_name=family, mrn=f"77{number[-1]}")
        case = CaseFactory(patient=patient, department=cast.north, accession_number=number)
        case.received_on = received
        case.save()
        specimen = SpecimenFactory(case=case, organ=organ)
        SlideImageFactory(slide=SlideFactory(case=case, specimen=specimen, stain=stain))
        if diagnosis:
            ReportFactory(case=case, diagnosis_line=diagnosis)
        made.append(case)
    foreign = PatientFactory(department=cast.south, family_name="Okafor", mrn="999")
    CaseFactory(patient=foreign, department=cast.south, accession_number="S-1")
    return made


def shown(client, **query) -> list[str]:
    response = client.get(reverse("work_list"), query)
    assert response.status_code == 200
    return [case.accession_number for case in response.context["page_obj"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["N-3", "N-2", "N-1"]),
        ({"text": "okafor"}, ["N-3"]),
        ({"text": "kaf"}, ["N-3"]),
        ({"text": "Berg, Given"}, ["N-2"]),
        ({"text": "n-1"}, ["N-1"]),
        ({"text": "771"}, ["N-1"]),
        ({"text": "S-1"}, ["N-1"]),  # not there: the nearest of what is
        ({"text": "999"}, []),
        ({"organ": "Lung"}, ["N-3", "N-1"]),
        ({"organ": "Lung", "stain": "PAS"}, ["N-1"]),
        ({"report_status": "final"}, ["N-3", "N-1"]),
        ({"report_status": "none"}, ["N-2"]),
        ({"received_from": "2026-02-01"}, ["N-3", "N-2"]),
        ({"received_to": "2026-02-01"}, ["N-2", "N-1"]),
        ({"order": "received"}, ["N-1", "N-2", "N-3"]),
        ({"order": "patient"}, ["N-2", "N-3", "N-1"]),
        ({"order": "-diagnosis"}, ["N-1", "N-3", "N-2"]),
        ({"order": "password"}, ["N-3", "N-2", "N-1"]),
        ({"received_from": "soon"}, ["N-3", "N-2", "N-1"]),
    ],
)
def test_it_filters_and_orders(cast, cases, query, expected):
    assert shown(cast.client(cast.north, Role.PATHOLOGIST), **query) == expected


def test_its_choices_come_from_what_one_sees(cast, cases):
    SpecimenFactory(case=CaseFactory(department=cast.south), organ="Brain")
    response = cast.client(cast.north, Role.PATHOLOGIST).get(reverse("work_list"))
    assert b"Brain" not in response.content
    assert list(response.context["form"].fields["department"].queryset) == [cast.north]


def test_it_records_whose_cases_were_listed(cast, cases):
    cast.client(cast.north, Role.PATHOLOGIST).get(reverse("work_list"), {"text": "Silva"})
    assert [event.patient_id for event in AccessEvent.objects.filter(action="view")] == [
        cases[2].patient_id
    ]


def test_its_queries_do_not_grow_with_the_list(cast, cases, django_assert_max_num_queries):
    client = cast.client(cast.north, Role.PATHOLOGIST)
    for _ in range(15):
        ReportFactory(case=make_slide_image(cast.north).slide.case)
    with django_assert_max_num_queries(26):
        assert len(shown(client)) == 18


def test_it_pages(cast):
    for _ in range(27):
        CaseFactory(department=cast.north)
    client = cast.client(cast.north, Role.PATHOLOGIST)
    pages = shown(client) + shown(client, page=2)
    assert len(pages) == len(set(pages)) == 27


def test_it_says_so_to_who_has_no_department(cast, cases):
    response = cast.client(None, Role.SYSTEM_ADMINISTRATOR).get(reverse("work_list"))
    assert response.status_code == 200
    assert not list(response.context["page_obj"])
    assert not response.context["has_clinical_role"]


def test_a_case_shows_its_report_and_its_earlier_versions(cast, cases):
    case = cases[0]
    case.reports.update(is_current=False)
    ReportFactory(
        case=case, version=2, status=Report.Status.AMENDED, diagnosis_line="Adenosquamous carcinoma"
    )
    response = cast.client(cast.north, Role.TECHNICIAN).get(reverse("case", args=[case.pk]))
    assert response.context["report"].version == 2
    assert [report.version for report in response.context["older_reports"]] == [1]
    assert b"Adenosquamous carcinoma" in response.content
    event = AccessEvent.objects.get(action="view")
    assert (event.patient_id, event.object_id) == (case.patient_id, str(case.pk))


def test_a_case_of_another_department_is_not_there(cast, cases):
    client = cast.client(cast.south, Role.DEPARTMENT_ADMINISTRATOR)
    assert client.get(reverse("case", args=[cases[0].pk])).status_code == 404
    assert not AccessEvent.objects.filter(action="view").exists()


def test_a_shared_case_shows_only_the_shared_slide(cast, cases):
    case = cases[0]
    shared = case.slides.get().images.get()
    hidden = SlideImageFactory(slide=SlideFactory(case=case, label="Hidden-1"))
    cohort = Cohort.objects.create(department=cast.north, name="Shared")
    CohortEntry.objects.create(cohort=cohort, slide_image=shared)
    cohort.shared_with.add(cast.south)
    client = cast.client(cast.south, Role.PATHOLOGIST)
    assert shown(client, organ="Lung") == [case.accession_number]
    page = client.get(reverse("case", args=[case.pk])).content.decode()
    assert str(shared.pk) in page
    assert str(hidden.pk) not in page
    assert "Hidden-1" not in page
    viewer = client.get(reverse("slide", args=[shared.pk]))
    assert [image.pk for image in viewer.context["tray"]] == [shared.pk]


def test_what_a_patient_is_called_cannot_become_markup(cast):
    patient = PatientFactory(department=cast.north, family_name="<script>alert(1)</script>")
    case = CaseFactory(patient=patient, department=cast.north)
    client = cast.client(cast.north, Role.PATHOLOGIST)
    for url in (reverse("work_list"), reverse("case", args=[case.pk])):
        assert b"<script>alert" not in client.get(url).content
