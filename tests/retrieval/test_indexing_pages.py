"""The indexing page, its retry, the badges, and the API of the index state."""

import pytest
from django.template import Context, Template
from django.test import RequestFactory
from django.urls import reverse

from cases import selectors
from cases.models import ApiToken, Case
from cases.permissions import Role
from cases.services.tokens import token_create
from retrieval.models import SlideIndex
from retrieval.services.indexing import index_ensure
from retrieval.services.models import ensure_default_models
from tests.factories import (
    DepartmentFactory,
    SlideFactory,
    SlideImageFactory,
    make_member,
    make_slide_image,
)

pytestmark = pytest.mark.django_db
State = SlideIndex.State


@pytest.fixture
def here():
    return DepartmentFactory(code="here", name="Here")


@pytest.fixture
def there():
    return DepartmentFactory(code="there", name="There")


@pytest.fixture
def technician(here, client):
    user = make_member(here, Role.TECHNICIAN)
    client.force_login(user)
    return user


@pytest.fixture(autouse=True)
def _models():
    ensure_default_models()


def an_index(department, state=State.QUEUED, **fields):
    index = index_ensure(slide_image=make_slide_image(department))
    SlideIndex.objects.filter(pk=index.pk).update(state=state, **fields)
    index.refresh_from_db()
    return index


def accession(index):
    return index.slide_image.slide.case.accession_number


def page(client, htmx=False, **query):
    headers = {"HX-Request": "true"} if htmx else {}
    response = client.get(reverse("indexing"), query, headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def test_it_shows_own_slides_with_progress_and_reason_and_no_others(
    client, here, there, technician
):
    running = an_index(here, State.RUNNING, progress_done=30, progress_total=40)
    failed = an_index(here, State.FAILED, reason_code="corrupt", reason="It is damaged.")
    hidden = an_index(there, State.FAILED, reason_code="x", reason="Elsewhere.")
    html = page(client)
    assert accession(running) in html
    assert 'value="75"' in html
    assert "It is damaged." in html
    assert reverse("index_retry", args=[failed.pk]) in html
    assert accession(hidden) not in html
    assert "Elsewhere" not in html
    assert "There" not in html


def test_htmx_gets_the_table_alone_and_polls_while_work_is_under_way(client, here, technician):
    index = an_index(here)
    html = page(client, htmx=True)
    assert "<html" not in html
    assert 'hx-trigger="every 2s"' in html
    SlideIndex.objects.filter(pk=index.pk).update(state=State.INDEXED)
    assert 'hx-trigger="every 20s"' in page(client, htmx=True)


def test_filters_narrow_by_state_and_department(client, here, there, technician):
    make_member(there, Role.PATHOLOGIST)
    queued, skipped = an_index(here), an_index(here, State.SKIPPED, reason_code="no_tissue")
    html = page(client, state="skipped")
    assert accession(skipped) in html
    assert accession(queued) not in html
    assert accession(queued) in page(client, department=str(here.pk))
    # Another department's id is no choice, and narrows nothing to be guessed at.
    assert accession(queued) in page(client, department=str(there.pk))


def test_long_lists_have_pages_and_a_constant_number_of_queries(
    client, here, technician, django_assert_max_num_queries
):
    for _ in range(53):
        an_index(here)
    with django_assert_max_num_queries(15):
        assert "Page 1 of 2" in page(client)
    assert page(client, page=2).count("<tr>") == 4


def test_the_page_writes_no_inline_style_or_script(client, here, technician):
    an_index(here, State.RUNNING, progress_done=1, progress_total=2)
    html = page(client, htmx=True)
    assert "style=" not in html
    assert "<script" not in html


def test_retry_queues_again_and_goes_back(client, here, technician):
    index = an_index(here, State.FAILED, reason_code="corrupt", reason="It is damaged.")
    to = reverse("index_retry", args=[index.pk])
    response = client.post(to, {"next": "/indexing/?state=failed"})
    assert response.headers["Location"] == "/indexing/?state=failed"
    index.refresh_from_db()
    assert index.state == State.QUEUED
    response = client.post(to, {"next": "https://elsewhere.example/"})
    assert response.headers["Location"] == reverse("indexing")
    assert client.get(to).status_code == 405


def test_retry_is_404_for_the_hidden_and_403_for_who_may_not(client, here, there, technician):
    hidden = an_index(there, State.FAILED, reason_code="x")
    assert client.post(reverse("index_retry", args=[hidden.pk])).status_code == 404
    mine = an_index(here, State.FAILED, reason_code="x")
    client.force_login(make_member(here, Role.RESEARCHER))
    assert client.post(reverse("index_retry", args=[mine.pk])).status_code == 403
    assert reverse("index_retry", args=[mine.pk]) not in page(client)
    mine.refresh_from_db()
    assert mine.state == State.FAILED


def test_strangers_are_sent_to_the_login(client, here):
    index = an_index(here)
    assert client.get(reverse("indexing")).status_code == 302
    assert client.post(reverse("index_retry", args=[index.pk])).status_code == 302


def test_badges_of_a_page_cost_one_query(here, technician, django_assert_num_queries):
    for state in (State.INDEXED, State.FAILED):
        index = an_index(here, state, reason_code="x", reason="Why.")
        another = SlideImageFactory(slide=SlideFactory(case=index.slide_image.slide.case))
        index_ensure(slide_image=another)
    cases = list(selectors.cases_for_work_list(technician, selectors.CaseFilters()))
    assert len(cases) == 2
    request = RequestFactory().get("/")
    request.user = technician
    template = Template(
        "{% for case in page_obj %}{% with slides=case.slides.all %}"
        '{% include "cases/_index_states.html" %}'
        "{% for s in slides %}{% for image in s.images.all %}"
        '{% include "cases/_index_state.html" with slide_image=image %}'
        "{% endfor %}{% endfor %}{% endwith %}{% endfor %}"
    )
    with django_assert_num_queries(1):
        html = template.render(Context({"page_obj": cases, "request": request}))
    assert html.count("badge-ok") == 2
    assert html.count("badge-bad") == 2
    assert html.count("badge-info") == 4
    assert 'title="Why."' in html


def test_the_work_list_narrows_by_the_state_of_its_slides(client, here, there, technician):
    indexed, failed = (
        an_index(here, state, reason_code="x", reason="Why.").slide_image.slide.case
        for state in (State.INDEXED, State.FAILED)
    )
    an_index(there, State.FAILED, reason_code="x", reason="Why.")
    client.force_login(technician)

    def found(state: str) -> list:
        shown = client.get(reverse("work_list"), {"index_state": state})
        return [case.pk for case in shown.context["page_obj"]]

    assert found(State.FAILED) == [failed.pk]
    assert found(State.INDEXED) == [indexed.pk]
    assert found(State.RUNNING) == []
    assert len(found("no such state")) == 2
    # A cohort of the filtered list takes the slides that were meant.
    meant = selectors.CaseFilters(index_state=State.FAILED)
    images = selectors.slide_images_for_work_list(technician, meant)
    assert [image.slide.case_id for image in images] == [failed.pk]


def test_badges_tell_nothing_of_hidden_slides(here, there, technician):
    hidden = an_index(there, State.FAILED, reason_code="x", reason="Why.")
    request = RequestFactory().get("/")
    request.user = technician
    template = Template("{% load retrieval_tags %}{% index_badge image %}")
    html = template.render(Context({"image": hidden.slide_image, "request": request}))
    assert "Not indexed" in html
    assert "Why" not in html


@pytest.fixture
def api(client, here):
    user = make_member(here, Role.TECHNICIAN)
    _token, key = token_create(user=user, name="lis", scopes=[ApiToken.Scope.INDEX_READ])
    return {"headers": {"Authorization": f"Bearer {key}"}}


def test_the_api_lists_own_states_with_filters(client, here, there, api):
    queued = an_index(here)
    failed = an_index(here, State.FAILED, reason_code="corrupt", reason="It is damaged.")
    an_index(there)
    url = reverse("index-status-list")
    data = client.get(url, **api).json()
    assert {row["id"] for row in data["results"]} == {str(queued.pk), str(failed.pk)}
    [row] = client.get(url, {"state": "failed"}, **api).json()["results"]
    assert (row["reason_code"], row["department"]) == ("corrupt", "here")
    assert row["slide_image"] == str(failed.slide_image_id)
    by = {"accession_number": accession(queued)}
    assert client.get(url, by, **api).json()["count"] == 1
    by = {"slide_image": str(failed.slide_image_id)}
    assert client.get(url, by, **api).json()["count"] == 1
    assert client.get(url, {"state": "nonsense"}, **api).status_code == 400


def test_the_api_hides_others_and_needs_its_scope(client, here, there, api):
    hidden = an_index(there)
    assert client.get(reverse("index-status-detail", args=[hidden.pk]), **api).status_code == 404
    mine = an_index(here)
    url = reverse("index-status-detail", args=[mine.pk])
    assert client.get(url, **api).json()["state"] == "queued"
    assert client.post(url, **api).status_code in {403, 405}
    assert client.get(url).status_code in {401, 403}
    user = make_member(here, Role.TECHNICIAN)
    _token, key = token_create(user=user, name="x", scopes=[ApiToken.Scope.SEARCH])
    assert client.get(url, headers={"Authorization": f"Bearer {key}"}).status_code == 403


def test_a_system_administrator_sees_no_rows(client, here):
    index = an_index(here)
    client.force_login(make_member(None, Role.SYSTEM_ADMINISTRATOR))
    assert accession(index) not in page(client)
    assert Case.objects.exists()
