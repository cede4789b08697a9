"""The search pages and the API of searches, through the client."""

import io

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from PIL import Image

from cases.models import AccessEvent, ApiToken, Cohort
from cases.permissions import Role
from cases.services.tokens import token_create
from retrieval.models import Feedback, SearchQuery
from retrieval.services.search import search_run
from tests.factories import DepartmentFactory, ReportFactory, make_member, make_slide_image
from tests.retrieval.test_search_pixels import picture
from tests.retrieval.vectors import axis, between, embed, embed_report, make_model

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def encoders(monkeypatch):
    monkeypatch.setattr(
        "retrieval.services.text_search.encode_texts", lambda model, texts: np.stack([axis(0)])
    )
    monkeypatch.setattr(
        "retrieval.services.query_mosaics.encode_patches",
        lambda model, patches: np.tile(axis(0), (len(patches), 1)),
    )


@pytest.fixture
def lung():
    department = DepartmentFactory(code="lung")
    image_model, text_model = make_model("image"), make_model("text")
    for share, line in ((1.0, "Squamous carcinoma"), (0.8, "Adenocarcinoma"), (0.5, "Adeno")):
        slide_image = make_slide_image(department, is_synthetic=share == 1.0)
        embed(slide_image, image_model, between(0, 1, share))
        report = ReportFactory(
            case=slide_image.slide.case, diagnosis_line=line, diagnosis_code=line[:5]
        )
        embed_report(report, text_model, between(0, 1, share))
    return department


@pytest.fixture
def anna(lung, client):
    user = make_member(lung, Role.PATHOLOGIST, username="anna")
    client.force_login(user)
    return user


def asked_slide(lung):
    slide_image = make_slide_image(lung)
    embed(
        slide_image,
        SearchQuery.image_model.field.related_model.objects.get(modality="image"),
        axis(0),
    )
    return slide_image


def image_file(name: str = "field.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, picture(), content_type="image/png")


def test_words_lead_to_a_page_that_shows_why(anna, client):
    answer = client.post(reverse("search"), {"text": "carcinoma"}, follow=True)
    assert answer.redirect_chain[0][0].startswith("/searches/")
    page = answer.content.decode()
    assert "Squamous <mark>carcinoma</mark>" in page
    assert "Synthetic demo slide" in page
    assert "An aid and no diagnosis" in page
    assert "test-text-8" in page
    assert "Adeno" in page


def test_find_similar_shows_patch_pairs_with_their_places(anna, client, lung):
    slide_image = asked_slide(lung)
    answer = client.post(reverse("search_slide", args=[slide_image.pk]), follow=True)
    hit = SearchQuery.objects.get().hits.get(rank=1)
    page = answer.content.decode()
    asked = f"/slides/{slide_image.pk}/region.jpeg?x=0&amp;y=0&amp;width=224&amp;height=224"
    found = f"/slides/{hit.slide_image_id}/region.jpeg?x=0&amp;y=0&amp;width=224&amp;height=224"
    assert asked in page
    assert found in page
    assert f"/slides/{hit.slide_image_id}/#l0=0,0,224,224" in page
    assert "style=" not in page  # the CSP forbids it
    assert "onclick" not in page


def test_a_slide_that_is_not_indexed_tells_on_the_form(anna, client, lung):
    slide_image = make_slide_image(lung)
    answer = client.post(reverse("search_slide", args=[slide_image.pk]))
    assert answer.status_code == 400
    assert "waits to be indexed" in answer.content.decode()
    assert slide_image.slide.case.accession_number in answer.content.decode()


def test_half_a_region_is_an_error_and_not_the_whole_slide(anna, client, lung):
    slide_image = asked_slide(lung)
    answer = client.post(reverse("search_slide", args=[slide_image.pk]), {"x": 5, "y": 5})
    assert answer.status_code == 400
    assert "x, y, width and height" in answer.content.decode()
    assert not SearchQuery.objects.exists()


def test_an_uploaded_image_needs_its_mpp_and_is_shown_again(anna, client):
    answer = client.post(reverse("search"), {"image": image_file()})
    assert answer.status_code == 400
    assert "µm" in answer.content.decode()
    answer = client.post(
        reverse("search"), {"image": image_file(), "image_mpp": "0.5"}, follow=True
    )
    query = SearchQuery.objects.get()
    url = reverse("search_image", args=[query.pk])
    assert url in answer.content.decode()
    whole = client.get(url)
    assert whole["Content-Type"] == "image/jpeg"
    assert Image.open(io.BytesIO(whole.content)).size == (500, 500)
    crop = client.get(url, {"x": -20, "y": 400, "width": 200, "height": 200, "size": 96})
    assert Image.open(io.BytesIO(crop.content)).size == (96, 96)
    assert client.get(url, {"x": 600, "y": 0, "width": 9, "height": 9}).status_code == 404
    assert client.get(url, {"size": 5000}).status_code == 404
    # Asked again with words: the picture comes along.
    again = client.post(reverse("search"), {"repeat": query.pk, "text": "carcinoma"})
    assert again.status_code == 302
    newest = SearchQuery.objects.first()
    assert bytes(newest.image_jpeg) == bytes(query.image_jpeg)
    assert newest.text == "carcinoma"


def test_an_image_that_is_none_is_refused_on_the_form(anna, client):
    file = SimpleUploadedFile("x.png", b"no image", content_type="image/png")
    answer = client.post(reverse("search"), {"image": file, "image_mpp": "0.5"})
    assert answer.status_code == 400
    assert "not a PNG or JPEG" in answer.content.decode()


def test_words_that_no_report_has_are_said_to_be_near_in_meaning_only(anna, client):
    for words, told in (("carcinoma", False), ("zzzxxy", True)):
        page = client.post(reverse("search"), {"text": words}, follow=True).content.decode()
        assert ("No report has these words" in page) is told


def test_a_long_answer_comes_in_pages(anna, client, lung, monkeypatch):
    monkeypatch.setattr("retrieval.views.answers.HITS_A_PAGE", 2)
    answer = client.post(reverse("search_slide", args=[asked_slide(lung).pk]), follow=True)
    first = answer.content.decode()
    second = client.get(answer.redirect_chain[-1][0], {"page": 2}).content.decode()
    assert (first.count('class="card hit"'), second.count('class="card hit"')) == (2, 1)
    assert "3 slides found" in first
    assert 'id="hit-3"' in second


def test_history_lists_own_questions_by_page(anna, client, lung):
    other = make_member(lung, Role.RESEARCHER)
    search_run(other, text="somebody else's words")
    for number in range(27):
        search_run(anna, text=f"words {number}")
    first = client.get(reverse("searches")).content.decode()
    second = client.get(reverse("searches"), {"page": 2}).content.decode()
    assert "words 26" in first
    assert "words 0" not in first
    assert "words 0" in second
    assert "somebody" not in first + second


def test_a_look_at_the_history_is_recorded_per_patient(anna, client, lung):
    slide_image = asked_slide(lung)
    for _ in range(2):
        search_run(anna, slide_image=slide_image)
    client.get(reverse("searches"))
    event = AccessEvent.objects.get(action=AccessEvent.Action.VIEW)
    assert (event.user, event.patient_id) == (anna, slide_image.slide.case.patient_id)


def test_feedback_is_given_changed_and_taken_back(anna, client):
    query = search_run(anna, text="carcinoma")
    hit = query.hits.first()
    url = reverse("search_feedback", args=[query.pk])
    for verdict, kept in (
        ("relevant", ["relevant"]),
        ("not_relevant", ["not_relevant"]),
        ("not_relevant", []),
    ):
        answer = client.post(
            url, {"hit": hit.pk, "verdict": verdict}, headers={"HX-Request": "true"}
        )
        assert answer.status_code == 200
        assert answer.content.decode().count('aria-pressed="true"') == len(kept)
        assert list(Feedback.objects.values_list("verdict", flat=True)) == kept
    assert client.post(url, {"hit": hit.pk, "verdict": "splendid"}).status_code == 404


def test_technicians_read_answers_but_do_not_judge(client, lung):
    user = make_member(lung, Role.TECHNICIAN)
    client.force_login(user)
    query = search_run(user, text="carcinoma")
    page = client.get(reverse("search_results", args=[query.pk])).content.decode()
    assert "Not relevant" not in page
    url = reverse("search_feedback", args=[query.pk])
    answer = client.post(url, {"hit": query.hits.first().pk, "verdict": "relevant"})
    assert answer.status_code == 403


def test_selected_hits_enter_a_cohort(anna, client, lung):
    cohort = Cohort.objects.create(department=lung, name="Squamous")
    query = search_run(anna, text="carcinoma")
    url = reverse("search_results", args=[query.pk])
    page = client.get(url).content.decode()
    assert f'formaction="{reverse("cohort_add", args=[cohort.pk])}"' in page
    hits = [str(hit.slide_image_id) for hit in query.hits.all()[:2]]
    answer = client.post(
        reverse("cohort_add", args=[cohort.pk]), {"slide_image": hits, "next": url}
    )
    assert answer.status_code == 302
    assert answer.url == url
    assert cohort.entries.count() == 2


def test_system_administrators_may_not_search(client, lung):
    client.force_login(make_member(None, Role.SYSTEM_ADMINISTRATOR))
    assert client.get(reverse("search")).status_code == 403
    assert client.get(reverse("searches")).status_code == 403
    assert client.post(reverse("searches-list"), {"text": "x"}).status_code == 403


# --- API ---------------------------------------------------------------------------------------


@pytest.fixture
def token(anna):
    _token, key = token_create(user=anna, name="lis", scopes=[ApiToken.Scope.SEARCH])
    return {"Authorization": f"Bearer {key}"}


def test_the_api_asks_by_slide_and_words_and_reads_again(client, lung, token, anna):
    slide_image = asked_slide(lung)
    client.logout()
    asked = {
        "slide_image": str(slide_image.pk),
        "text": "carcinoma",
        "department": "lung",
        "organ": "Lung",
        "text_weight": 2,
        "limit": 2,
    }
    answer = client.post(
        reverse("searches-list"), asked, content_type="application/json", headers=token
    )
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert [hit["rank"] for hit in body["hits"]] == [1, 2]
    assert body["hits"][0]["full_text_match"]
    assert body["vote"]["lines"][0]["ranks"] == [1]
    assert body["models"] == ["test-image-8", "test-text-8"]
    assert body["disclaimer"] == "An aid and no diagnosis."
    assert client.get(answer["Location"], headers=token).json() == body
    listed = client.get(reverse("searches-list"), headers=token).json()
    assert [row["id"] for row in listed["results"]] == [body["search"]["id"]]


def test_the_api_takes_an_image_as_multipart(client, token):
    answer = client.post(
        reverse("searches-list"), {"image": image_file(), "image_mpp": "0.5"}, headers=token
    )
    assert answer.status_code == 201, answer.content
    hit = answer.json()["hits"][0]
    assert hit["place"] == {"x": 0, "y": 0, "width": 224, "height": 224}
    assert hit["pairs"][0]["candidate"]["size_l0"] == hit["place"]["width"]
    assert hit["mpp"] == 0.5
    assert hit["patient_rank"] == 1
    assert set(answer.json()["search"]["stages"]) == {"encode", "plan", "vectors", "compare"}
    refused = client.post(reverse("searches-list"), {"image": image_file()}, headers=token)
    assert refused.status_code == 400
    assert refused["Content-Type"] == "application/problem+json"
    assert refused.json()["code"] == "image_mpp_required"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({}, "nothing_asked"),
        ({"text": "x", "image_weight": -1}, "invalid"),
        ({"text": "x", "limit": 10_000}, "invalid"),
        (
            {"text": "x", "region": {"x": 1, "y": 1, "width": 9, "height": 9}},
            "region_without_slide",
        ),
        ({"text": "x", "received_from": "yesterday"}, "invalid"),
    ],
)
def test_the_api_names_what_is_wrong(client, token, asked, code):
    answer = client.post(
        reverse("searches-list"), asked, content_type="application/json", headers=token
    )
    assert answer.status_code == 400
    assert answer.json()["code"] == code


def test_a_token_without_the_scope_may_not_search(client, anna):
    _token, key = token_create(user=anna, name="lis", scopes=[ApiToken.Scope.CASES_READ])
    client.logout()
    headers = {"Authorization": f"Bearer {key}"}
    assert client.get(reverse("searches-list"), headers=headers).status_code == 403
    assert client.post(reverse("searches-list"), {"text": "x"}, headers=headers).status_code == 403


def test_a_narrowed_token_reads_no_question_of_its_owners_other_departments(client, anna, lung):
    liver = DepartmentFactory(code="liver")
    anna.memberships.create(department=liver, role=Role.PATHOLOGIST)
    query = search_run(anna, text="asked in both departments")
    _token, key = token_create(
        user=anna, name="lis", scopes=[ApiToken.Scope.SEARCH], departments=[lung]
    )
    client.logout()
    headers = {"Authorization": f"Bearer {key}"}
    url = reverse("searches-detail", args=[query.pk])
    assert client.get(url, headers=headers).status_code == 404
    assert client.get(reverse("searches-list"), headers=headers).json()["count"] == 0
