"""Uploads by API: tokens and sessions, tus, one-shot PUT, problems by name."""

import base64
import hashlib

import pytest
from django.test import Client

from cases.models import SlideImage, SlideUpload, UploadFile
from cases.permissions import Role
from cases.services import processing, tokens
from tests.cases.intake.sending import TUS, announce, patch, send
from tests.factories import make_member
from tests.synthetic_slide import write_dicom_slide, write_tiff_slide

pytestmark = pytest.mark.django_db


def code(response) -> tuple[int, str]:
    assert response["Content-Type"] == "application/problem+json", response.content
    return response.status_code, response.json()["code"]


def test_a_folder_by_tus(api, tmp_path):
    upload = send(api, write_dicom_slide(tmp_path / "slide"))
    assert (upload["state"], upload["source"]) == ("finished", "api")
    (item,) = upload["items"]
    image = SlideImage.objects.get()
    assert (item["state"], item["slide_image"]) == ("accepted", str(image.pk))
    assert item["case"] == str(image.slide.case_id)
    assert upload["bytes_received"] == upload["bytes_total"] > 0


def test_the_page_sends_with_its_session_and_csrf_token(page, technician, tmp_path):
    upload = send(page, write_dicom_slide(tmp_path / "slide"))
    assert (upload["state"], upload["source"]) == ("finished", "page")
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(technician)
    created = announce(page, [("a", 4)])
    assert (created["files_total"], created["bytes_total"]) == (1, 4)
    url = created["files"][0]["tus_url"]
    assert patch(strict, url, 0, b"abcd").status_code == 403
    token = strict.get("/uploads/new/").context["csrf_token"]
    sent = strict.patch(
        url,
        b"abcd",
        content_type="application/offset+octet-stream",
        headers={**TUS, "Upload-Offset": "0", "X-CSRFToken": str(token)},
    )
    assert (sent.status_code, sent["Upload-Offset"]) == (204, "4")


def test_a_broken_sending_goes_on_where_it_stopped(api, tmp_path):
    data = write_tiff_slide(tmp_path / "a.tiff").read_bytes()
    created = announce(api, [("a.tiff", len(data))], accession_number="1", mrn="1")
    url = created["files"][0]["tus_url"]
    assert patch(api, url, 0, data[:1000])["Upload-Offset"] == "1000"
    # Another process, another day: the client asks and goes on.
    head = api.head(url, headers=TUS)
    assert (head.status_code, head["Upload-Offset"]) == (200, "1000")
    assert head["Upload-Length"] == str(len(data))
    assert head["Cache-Control"] == "no-store"
    assert code(patch(api, url, 0, data)) == (409, "offset_mismatch")
    assert code(api.post(f"/api/v1/uploads/{created['id']}/finish/")) == (409, "upload_incomplete")
    assert patch(api, url, 1000, data[1000:]).status_code == 204
    for _twice in range(2):
        finished = api.post(f"/api/v1/uploads/{created['id']}/finish/")
        assert (finished.status_code, finished.json()["state"]) == (200, "queued")
    processing.upload_process(created["id"])
    assert api.get(f"/api/v1/uploads/{created['id']}/").json()["items"][0]["state"] == "accepted"
    assert code(patch(api, url, len(data), b"x")) == (410, "upload_closed")


def test_a_whole_file_by_put(api, tmp_path):
    data = write_tiff_slide(tmp_path / "a.tiff").read_bytes()
    created = announce(api, [("a.tiff", len(data))])
    url = created["files"][0]["url"]
    short = api.put(url, data[:-1], content_type="application/octet-stream")
    assert code(short) == (400, "size_mismatch")
    sent = api.put(url, data, content_type="image/tiff")
    assert (sent.status_code, sent.json()["offset_bytes"]) == (200, len(data))


def test_tus_creation_and_termination(api):
    created = announce(api, [])
    encoded = base64.b64encode(created["id"].encode()).decode()
    metadata = f"upload {encoded},filename {base64.b64encode(b'b.svs').decode()},empty"
    response = api.post(
        "/api/v1/tus/", headers={**TUS, "Upload-Length": "3", "Upload-Metadata": metadata}
    )
    assert response.status_code == 201, response.content
    assert UploadFile.objects.get().name == "b.svs"
    assert patch(api, response["Location"], 0, b"abc").status_code == 204
    assert api.delete(response["Location"], headers=TUS).status_code == 204
    assert api.head(response["Location"], headers=TUS).status_code == 404
    assert not UploadFile.objects.exists()
    options = api.options("/api/v1/tus/")
    assert options["Tus-Version"] == "1.0.0"
    assert options["Tus-Extension"] == "creation,termination"


def test_the_protocol_is_kept(api):
    created = announce(api, [("a", 4)])
    url = created["files"][0]["tus_url"]
    assert api.head(url).status_code == 412
    wrong = api.patch(url, b"x", content_type="text/plain", headers={**TUS, "Upload-Offset": "0"})
    assert code(wrong) == (415, "wrong_content_type")
    for offset in ("", "-1", "x", "9" * 30):
        answer = api.patch(
            url,
            b"x",
            content_type="application/offset+octet-stream",
            headers={**TUS, "Upload-Offset": offset},
        )
        assert code(answer) == (400, "bad_tus_request")
    assert code(patch(api, url, 0, b"12345")) == (413, "too_many_bytes")
    for metadata in ("", "upload !!", "upload eHg="):
        answer = api.post(
            "/api/v1/tus/", headers={**TUS, "Upload-Length": "3", "Upload-Metadata": metadata}
        )
        assert code(answer) == (400, "bad_tus_request")


def test_no_disk_space_is_named_at_creation_and_while_sending(api, settings):
    created = announce(api, [("a", 4)])
    settings.DISK_RESERVE_BYTES = 2**62
    assert code(patch(api, created["files"][0]["tus_url"], 0, b"abcd")) == (507, "no_disk_space")
    body = {"department": "lung", "files": [{"name": "a", "size_bytes": 1}]}
    refused = api.post("/api/v1/uploads/", body, content_type="application/json")
    assert code(refused) == (507, "no_disk_space")
    assert SlideUpload.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"department": "nowhere"}, (400, "unknown_department")),
        ({"department": "skin"}, (400, "unknown_department")),
        ({"department": "lung", "mpp": "-1"}, (400, "invalid_mpp")),
        ({"department": "lung", "mpp": "0.00001"}, (400, "invalid_mpp")),
        ({"department": "lung", "mpp": "x"}, (400, "invalid")),
        ({"department": "lung", "sex": "Q"}, (400, "invalid")),
        ({"department": "lung", "birth_date": "1.2.50"}, (400, "invalid")),
        ({"department": "lung", "accession_number": "x" * 65}, (400, "invalid")),
        ({"department": "lung", "files": [{"name": "", "size_bytes": 1}]}, (400, "invalid")),
        ({"department": "lung", "files": [{"name": "a", "size_bytes": -1}]}, (400, "invalid")),
        (
            {"department": "lung", "files": [{"name": "a", "size_bytes": 1, "sha256": "zz"}]},
            (400, "invalid"),
        ),
        (
            {"department": "lung", "files": [{"name": "a", "size_bytes": 2**50}]},
            (413, "upload_too_large"),
        ),
    ],
)
def test_bad_announcements_are_refused_by_name(api, other_technician, body, expected):
    response = api.post("/api/v1/uploads/", body, content_type="application/json")
    assert code(response) == expected
    assert not SlideUpload.objects.exists()


def test_a_wrong_checksum_is_refused_and_the_rest_is_taken(api, tmp_path):
    good = write_tiff_slide(tmp_path / "good.tiff").read_bytes()
    bad = write_tiff_slide(tmp_path / "bad.tiff", seed=2).read_bytes()
    files = [
        {"name": "good.tiff", "size_bytes": len(good), "sha256": hashlib.sha256(good).hexdigest()},
        {"name": "bad.tiff", "size_bytes": len(bad), "sha256": hashlib.sha256(good).hexdigest()},
    ]
    body = {"department": "lung", "accession_number": "1", "mrn": "1", "files": files}
    created = api.post("/api/v1/uploads/", body, content_type="application/json").json()
    for announced in created["files"]:
        data = good if announced["name"] == "good.tiff" else bad
        assert api.put(announced["url"], data, content_type="image/tiff").status_code == 200
    api.post(f"/api/v1/uploads/{created['id']}/finish/")
    processing.upload_process(created["id"])
    items = api.get(f"/api/v1/uploads/{created['id']}/").json()["items"]
    found = {item["name"]: (item["state"], item["reason_code"]) for item in items}
    assert found == {
        "good.tiff": ("accepted", ""),
        "bad.tiff": ("refused", "checksum_mismatch"),
    }


def test_cancelling_removes_the_bytes(api, data_dir, django_capture_on_commit_callbacks):
    created = announce(api, [("a", 4)])
    patch(api, created["files"][0]["tus_url"], 0, b"ab")
    with django_capture_on_commit_callbacks(execute=True):
        assert api.delete(f"/api/v1/uploads/{created['id']}/").status_code == 204
    assert not any((data_dir / "spool").iterdir())
    assert code(patch(api, created["files"][0]["tus_url"], 2, b"cd")) == (410, "upload_closed")
    assert code(api.post(f"/api/v1/uploads/{created['id']}/finish/")) == (409, "upload_closed")


def test_another_department_finds_nothing(api, other_technician):
    created = announce(api, [("a", 4)])
    url = f"/api/v1/uploads/{created['id']}/"
    stranger = Client()
    stranger.force_login(other_technician)
    assert stranger.get("/api/v1/uploads/").json()["results"] == []
    for answer in (
        stranger.get(url),
        stranger.delete(url),
        stranger.post(f"{url}finish/"),
        stranger.post(f"{url}retry/"),
        stranger.get(f"{url}files/"),
        stranger.put(created["files"][0]["url"], b"abcd", content_type="image/tiff"),
        patch(stranger, created["files"][0]["tus_url"], 0, b"abcd"),
        stranger.delete(created["files"][0]["tus_url"], headers=TUS),
    ):
        assert code(answer) == (404, "not_found")
    assert stranger.head(created["files"][0]["tus_url"], headers=TUS).status_code == 404


def test_who_may_not_upload_sees_and_sends_nothing(api, department, technician):
    created = announce(api, [("a", 4)])
    researcher = Client()
    researcher.force_login(make_member(department, Role.RESEARCHER))
    # The names of delivered files may hold those of patients.
    assert researcher.get(f"/api/v1/uploads/{created['id']}/").status_code == 404
    assert patch(researcher, created["files"][0]["tus_url"], 0, b"a").status_code == 404
    body = {"department": "lung"}
    refused = researcher.post("/api/v1/uploads/", body, content_type="application/json")
    assert code(refused) == (403, "not_allowed")
    _token, key = tokens.token_create(user=technician, name="LIS", scopes=["cases:read"])
    scoped = Client(headers={"Authorization": f"Bearer {key}"})
    assert scoped.get("/api/v1/uploads/").status_code == 403
    assert patch(scoped, created["files"][0]["tus_url"], 0, b"a").status_code == 403
    assert Client().get("/api/v1/uploads/").status_code == 401
