"""Every error of the API is a problem document with a code, whoever raises it."""

import pytest
from django.test import Client
from rest_framework.test import APIClient

from cases.api.throttles import CallerThrottle
from cases.api.views import CaseViewSet
from tests.factories import CaseFactory


def problem(answer, status, code):
    """Check that the answer is a problem document of this status and code, and nothing more."""
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, "about:blank")
    assert body["title"]
    assert body["detail"]
    return body


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
@pytest.mark.parametrize("path", ["/api/", "/api/v2/cases/", "/api/v1/nothing", "/api/v1/cases"])
def test_an_unknown_route(path, method):
    problem(getattr(APIClient(), method)(path), 404, "not_found")


def test_no_credentials_and_bad_credentials(site):
    nobody = APIClient()
    answer = nobody.get("/api/v1/cases/")
    problem(answer, 401, "not_authenticated")
    assert answer["WWW-Authenticate"] == "Bearer"
    bodies = set()
    for key in ("nonsense", "ps_00000000_x", "ps_", ""):
        nobody.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        answer = nobody.get("/api/v1/cases/")
        problem(answer, 401, "authentication_failed")
        bodies.add(answer.content)
    assert len(bodies) == 1


def test_method_body_and_media_type(site):
    problem(site.lis.delete("/api/v1/cases/"), 405, "method_not_allowed")
    url = "/api/v1/reports/"
    problem(site.lis.post(url, "{", content_type="application/json"), 400, "parse_error")
    problem(site.lis.post(url, b"\xff", content_type="application/json"), 400, "parse_error")
    problem(
        site.lis.post(url, "<a/>", content_type="application/xml"), 415, "unsupported_media_type"
    )
    body = problem(site.lis.post(url, {}, format="json"), 400, "invalid")
    assert set(body["errors"]) == {"case", "status"}


def test_a_body_that_is_too_large(site, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    answer = site.lis.post("/api/v1/reports/", {"comment": "x" * 2000}, format="json")
    problem(answer, 400, "bad_request")


@pytest.mark.parametrize(
    "query",
    [
        "patient=1",
        "updated_since=yesterday",
        "received_after=x",
        "report_status=secret",
        "mrn=a%00b",
    ],
)
def test_filters_that_cannot_be_read(site, query):
    problem(site.lis.get(f"/api/v1/cases/?{query}"), 400, "invalid")


def test_a_page_that_is_not_there(site):
    problem(site.lis.get("/api/v1/cases/?page=2"), 404, "not_found")


def test_a_session_needs_the_csrf_token(site):
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(site.pathologist)
    problem(client.post("/api/v1/reports/", {}, format="json"), 403, "permission_denied")


def test_too_many_requests(site, monkeypatch):
    monkeypatch.setattr(CallerThrottle, "THROTTLE_RATES", {"caller": "3/min"})
    codes = [site.other.get("/api/v1/cases/").status_code for _ in range(3)]
    assert codes == [200, 200, 200]
    answer = site.other.get("/api/v1/cases/")
    problem(answer, 429, "throttled")
    assert int(answer["Retry-After"]) > 0
    assert site.lis.get("/api/v1/cases/").status_code == 200


def test_a_crash_says_nothing_of_itself(site, monkeypatch):
    def crash(*_args, **_kwargs):
        raise RuntimeError("family name Doe")

    monkeypatch.setattr(CaseViewSet, "get_queryset", crash)
    client = Client(raise_request_exception=False)
    client.force_login(site.pathologist)
    answer = client.get("/api/v1/cases/")
    problem(answer, 500, "server_error")
    assert b"Doe" not in answer.content


def test_a_hidden_and_a_missing_row_are_one_answer(site):
    case = CaseFactory(department=site.north)
    hidden = site.other.get(f"/api/v1/cases/{case.pk}/")
    missing = site.other.get("/api/v1/cases/00000000-0000-4000-8000-000000000000/")
    malformed = site.other.get("/api/v1/cases/abc/")
    problem(hidden, 404, "not_found")
    assert hidden.content == missing.content == malformed.content
