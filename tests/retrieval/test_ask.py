"""The search bar of every page: where it stands, its history, and what an answer is narrowed by."""

import pytest
from django.urls import reverse

from cases.models import AccessEvent, Cohort, CohortEntry
from cases.permissions import Role
from retrieval.models import SearchQuery
from retrieval.selectors_facets import facets_counted
from retrieval.services.search import search_run
from tests.factories import DepartmentFactory, ReportFactory, make_member, make_slide_image

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signed_in")]


def put(department, organ, stain="H&E", code="8140/3"):
    image = make_slide_image(department)
    slide = image.slide
    slide.specimen.organ = organ
    slide.specimen.save()
    slide.stain = stain
    slide.save()
    ReportFactory(case=slide.case, diagnosis_code=code, diagnosis_line=f"Line of {code}")
    return image


@pytest.fixture
def archive(lung):
    put(lung, "Lung", "PAS")
    put(lung, "Lung", code="8070/3")
    put(lung, "Colon")
    liver = DepartmentFactory(code="liver")
    hidden, shared = put(liver, "Liver", "Nissl", "8170/3"), put(liver, "Colon", code="8170/0")
    cohort = Cohort.objects.create(department=liver, name="Shared")
    CohortEntry.objects.create(cohort=cohort, slide_image=shared)
    cohort.shared_with.add(lung)
    return hidden


def counts(user, query) -> dict[str, dict[str, int]]:
    facets = facets_counted(user, query)
    return {facet.field: {value.value: value.count for value in facet.values} for facet in facets}


def test_facets_count_what_the_reader_sees(anna, lung, archive):
    query = search_run(anna, text="carcinoma")
    found = counts(anna, query)
    assert found["organ"] == {"Colon": 2, "Lung": 2}
    assert found["stain"] == {"H&E": 3, "PAS": 1}
    assert found["diagnosis_code"] == {"8140/3": 2, "8070/3": 1, "8170/0": 1}
    assert sorted(found["department"].values()) == [1, 3]
    nobody = make_member(None, Role.SYSTEM_ADMINISTRATOR)
    assert counts(nobody, query) == {}


def test_a_filter_in_force_narrows_the_others_and_not_its_own(anna, archive):
    from retrieval.filters import SearchFilters

    query = search_run(anna, text="carcinoma", filters=SearchFilters(organ="Lung"))
    found = counts(anna, query)
    assert found["organ"] == {"Colon": 2, "Lung": 2}
    assert found["stain"] == {"H&E": 1, "PAS": 1}
    [organ] = [facet for facet in facets_counted(anna, query) if facet.field == "organ"]
    assert [value.value for value in organ.values if value.is_chosen] == ["Lung"]


def test_the_facets_and_chips_ask_again(client, anna, archive):
    from retrieval.filters import SearchFilters

    query = search_run(anna, text="carcinoma", filters=SearchFilters(organ="Lung"))
    page = client.get(reverse("search_facets", args=[query.pk])).content.decode()
    assert 'data-facet="organ" value="Colon"' in page
    assert 'data-facet="organ" value="Lung" aria-pressed="true"' in page
    assert "Line of 8070/3" in page
    assert "8170/3" not in page
    result = client.get(reverse("search_results", args=[query.pk])).content.decode()
    assert 'data-facet="organ" value=""' in result


def test_the_bar_is_on_every_page_of_who_may_search(client, anna, lung):
    image = make_slide_image(lung)
    case = reverse("case", args=[image.slide.case_id])
    for address in (reverse("work_list"), case, reverse("cohorts"), reverse("uploads")):
        page = client.get(address).content.decode()
        assert page.count("data-ask>") == 1
        assert "data-ask-slide" not in page
    viewer = client.get(reverse("slide", args=[image.pk])).content.decode()
    assert f'name="slide_image" value="{image.pk}" data-ask-slide' in viewer
    client.force_login(make_member(None, Role.SYSTEM_ADMINISTRATOR))
    assert b"data-ask>" not in client.get(reverse("work_list")).content


def test_the_menu_has_ones_own_last_questions_and_records_the_look(client, anna, lung):
    colleague = make_member(lung, Role.PATHOLOGIST)
    search_run(colleague, text="of a colleague")
    for number in range(10):
        search_run(anna, text=f"words {number}")
    image = make_slide_image(lung)
    asked = SearchQuery.objects.create(
        user=anna, scope_department_ids=[lung.pk], slide_image=image, text=""
    )
    page = client.get(reverse("searches_recent")).content.decode()
    assert page.count("<li>") == 8
    assert reverse("search_results", args=[asked.pk]) in page
    assert "words 9" in page
    assert "words 0" not in page
    assert "colleague" not in page
    event = AccessEvent.objects.get(action="view")
    assert event.patient_id == image.slide.case.patient_id
