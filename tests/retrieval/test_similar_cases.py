"""Similar cases: looked up when a slide is indexed, read in the scope of who looks."""

import numpy as np
import pytest
from django.urls import reverse

from cases.models import AccessEvent, Cohort, CohortEntry
from cases.permissions import Role
from retrieval import tasks
from retrieval.models import SlideIndex, SlideNeighbours
from retrieval.services.neighbours import neighbours_compute
from tests.factories import (
    DepartmentFactory,
    PatientFactory,
    ReportFactory,
    SlideFactory,
    SlideImageFactory,
    make_member,
    make_slide_image,
)
from tests.retrieval.vectors import axis, embed, unit

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signed_in")]


def add(department, image_model, cosine, line=""):
    image = make_slide_image(department)
    embed(image, image_model, unit(cosine * axis(0) + np.sqrt(1 - cosine**2) * axis(1)))
    if line:
        ReportFactory(case=image.slide.case, diagnosis_line=line)
    return image


@pytest.fixture
def asked(lung, image_model):
    image = make_slide_image(lung)
    embed(image, image_model, axis(0))
    return image


def shown(client, image) -> list[str]:
    response = client.get(reverse("case_similar", args=[image.slide.case_id]))
    assert response.status_code == 200
    return [row.case.accession_number for row in response.context["similar"]]


def numbers(*images) -> list[str]:
    return [image.slide.case.accession_number for image in images]


def test_indexing_looks_them_up(lung, image_model, asked, monkeypatch):
    near, far = add(lung, image_model, 0.9), add(lung, image_model, 0.4)
    monkeypatch.setattr(tasks.indexing, "index_run", lambda pk: SlideIndex.State.INDEXED)
    tasks.index_slide_task(str(asked.pk))
    kept = SlideNeighbours.objects.get(slide_image=asked)
    assert [key for key, _similarity in kept.neighbours] == [str(near.pk), str(far.pk)]
    monkeypatch.setattr(tasks.indexing, "index_run", lambda pk: SlideIndex.State.SKIPPED)
    tasks.index_slide_task(str(near.pk))
    assert not SlideNeighbours.objects.filter(slide_image=near).exists()


def test_they_wait_on_the_page_nearest_first_each_case_once(client, anna, lung, image_model, asked):
    far, near = add(lung, image_model, 0.4), add(lung, image_model, 0.9, "Squamous carcinoma")
    middle = add(lung, image_model, 0.7)
    second = SlideImageFactory(slide=SlideFactory(case=near.slide.case))
    embed(second, image_model, axis(0))
    neighbours_compute(asked.pk)
    assert shown(client, asked) == numbers(near, middle, far)
    page = client.get(reverse("case_similar", args=[asked.slide.case_id])).content.decode()
    assert "Squamous carcinoma" in page
    assert page.count(f'href="{reverse("slide", args=[second.pk])}"') == 1
    event = AccessEvent.objects.filter(action="shown").first()
    assert event.object_id == str(asked.slide.case_id)


def test_what_was_looked_up_is_what_is_shown(client, anna, lung, image_model, asked):
    """Later slides do not change what waits, so that the list was in fact made ahead."""
    first = [add(lung, image_model, cosine) for cosine in (0.8, 0.7, 0.6)]
    neighbours_compute(asked.pk)
    add(lung, image_model, 0.95)
    assert shown(client, asked) == numbers(*first)
    neighbours_compute(asked.pk)
    assert len(shown(client, asked)) == 4


def test_other_slides_of_the_patient_are_not_similar_cases(client, anna, lung, image_model, asked):
    patient = asked.slide.case.patient
    own = add(lung, image_model, 0.95)
    own.slide.case.patient = patient
    own.slide.case.save()
    liver = DepartmentFactory(code="liver")
    same = add(liver, image_model, 0.99)
    same.slide.case.patient = PatientFactory(
        department=liver, mrn=patient.mrn, mrn_issuer=patient.mrn_issuer
    )
    same.slide.case.save()
    assert neighbours_compute(asked.pk) == 0
    assert shown(client, asked) == []


def test_a_reader_of_another_department_gets_what_they_see(client, lung, image_model, asked):
    hidden = [add(lung, image_model, cosine) for cosine in (0.95, 0.9, 0.85, 0.8)]
    neighbours_compute(asked.pk)
    liver = DepartmentFactory(code="liver")
    own = add(liver, image_model, 0.5)
    cohort = Cohort.objects.create(department=lung, name="Shared")
    for image in (asked, hidden[3]):
        CohortEntry.objects.create(cohort=cohort, slide_image=image)
    cohort.shared_with.add(liver)
    client.force_login(make_member(liver, Role.PATHOLOGIST))
    assert shown(client, asked) == numbers(hidden[3], own)
    seen = {event.patient_id for event in AccessEvent.objects.filter(action="shown")}
    assert seen == {image.slide.case.patient_id for image in (hidden[3], own)}


def test_a_case_that_is_not_indexed_says_so(client, anna, lung, image_model):
    image = make_slide_image(lung)
    assert neighbours_compute(image.pk) == 0
    assert shown(client, image) == []
    page = client.get(reverse("case_similar", args=[image.slide.case_id])).content
    assert b"None yet" in page
