import pytest
from tests.cases.api.conftest import *
from tests.factories import *

pytestmark = pytest.mark.django_db


def test_big_report(site):
    case = CaseFactory(department=site.north)
    import random

    text = " ".join(f"w{i}x{random.random()}" for i in range(120000))
    print(len(text))
    site.lis.raise_request_exception = False
    r = site.lis.post(
        "/api/v1/reports/",
        {"case": str(case.pk), "status": "preliminary", "diagnosis_text": text},
        format="json",
    )
    print(r.status_code, r.content[:300])
    for q in [
        "page=abc",
        "ordering=patient__mrn",
        "received_from=xx",
        "updated_since=zz",
        "text=%00",
    ]:
        r = site.lis.get("/api/v1/cases/?" + q)
        print(q, r.status_code, r.content[:120])
    from django.test import Client

    c = Client(raise_request_exception=False)
    c.force_login(site.pathologist)
    for u in [
        "/?text=%00",
        "/?page=99999999999999999999",
        "/?department=99999999999999999999999",
        "/search/?slide_image=zz",
        "/uploads/?state=zz",
        "/indexing/?state=zz&department=xx",
        "/indexing/?department=9999999999999999999999",
        "/unmatched/?text=%00&department=zz",
        "/?received_from=0000-00-00",
        "/search/?text=%00",
        "/api/v1/index-status/?state=zz",
        "/unmatched/?department=99999999999999999999999",
    ]:
        r = c.get(u)
        print(u, r.status_code)
    for data in [
        {"text": "a\x00b"},
        {"text": "& | !"},
        {"text": '"'},
        {"text": "-"},
        {"text": "-foo"},
        {"text": "\ud800".encode("utf-16", "surrogatepass").decode("utf-16", "replace")},
    ]:
        r = c.post("/search/", {**data, "image_weight": 1, "text_weight": 1})
        print(data, r.status_code)
    for body in [
        {"text": "x", "limit": 10**30},
        {"text": "x", "image_weight": "nan"},
        {"text": "x", "cohort": "zz"},
        {"text": "\ud800"},
        {"slide_image": "zz"},
        {"region": {"x": 1, "y": 1, "width": 10**30, "height": 1}},
        [1],
        {"text": "x", "organ": "\x00"},
        {"text": "x", "organ": "y" * 10**6},
    ]:
        r = site.lis.post("/api/v1/searches/", body, format="json")
        print(str(body)[:80], r.status_code, r.content[:100])
