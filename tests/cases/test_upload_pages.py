"""Pages of uploads and of unmatched slides."""

from pathlib import Path

import pytest
from django.test import Client

from cases.models import SlideImage, SlideUpload, UploadItem
from cases.permissions import Role
from cases.services import processing, uploads
from tests.cases.intake.conftest import (  # noqa: F401  (fixtures)
    data_dir,
    deliver,
    department,
    only_item,
    other_technician,
    page,
    technician,
)
from tests.factories import CaseFactory, DepartmentFactory, PatientFactory, make_member
from tests.synthetic_slide import write_dicom_slide, write_tiff_slide

pytestmark = pytest.mark.django_db


def browser(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def html(response) -> str:
    assert response.status_code == 200, response.content
    return response.content.decode()


def test_the_form_offers_only_departments_where_one_may_upload(page, technician):  # noqa: F811
    elsewhere = DepartmentFactory(code="skin", name="Skin clinic")
    technician.memberships.create(department=elsewhere, role=Role.RESEARCHER)
    text = html(page.get("/uploads/new/"))
    assert 'value="lung"' in text
    assert "Skin clinic" not in text
    assert "<script>" not in text
    assert "style=" not in text


def test_a_researcher_is_told_that_uploading_is_not_theirs(department):  # noqa: F811
    researcher = browser(make_member(department, Role.RESEARCHER))
    assert researcher.get("/uploads/new/").status_code == 403
    assert "Upload slides" not in html(researcher.get("/uploads/"))


def test_the_list_shows_ones_own_departments_and_filters(
    deliver,  # noqa: F811
    page,  # noqa: F811
    other_technician,  # noqa: F811
    technician,  # noqa: F811
    department,  # noqa: F811
    tmp_path,
):
    deliver(write_dicom_slide(tmp_path / "a"), accession_number="S26-1")
    uploads.upload_create(
        user=technician, department=department, files=[("b", 5)], accession_number="OPEN-1"
    )
    text = html(page.get("/uploads/"))
    assert "1 accepted" in text
    assert "OPEN-1" in text
    text = html(page.get("/uploads/?state=receiving"))
    assert "OPEN-1" in text
    assert "S26-1" not in text
    assert "No uploads yet" in html(browser(other_technician).get("/uploads/"))
    assert html(page.get("/uploads/?state=nonsense&page=99"))


def test_the_states_of_an_upload(page, technician, department, tmp_path):  # noqa: F811
    upload = uploads.upload_create(user=technician, department=department, files=[("b", 5)])
    url = f"/uploads/{upload.pk}/"
    text = html(page.get(url))
    assert "Go on sending" in text
    assert f'hx-get="{url}"' not in text
    row = SlideUpload.objects.filter(pk=upload.pk)
    row.update(state="running", progress_step="storing", progress_done=1, progress_total=4)
    text = html(page.get(url, headers={"HX-Request": "true"}))
    assert 'value="25"' in text
    assert f'hx-get="{url}"' in text
    assert "<html" not in text
    row.update(state="finished")
    assert "hx-get" not in html(page.get(url, headers={"HX-Request": "true"}))
    row.update(state="failed", reason="It broke.", reason_code="unexpected_error")
    text = html(page.get(url))
    assert "It broke." in text
    response = page.post(f"{url}retry/", follow=True)
    assert "waits to be processed again" in html(response)
    assert row.get().state == "queued"
    response = page.post(f"{url}cancel/", follow=True)
    assert "being processed" in html(response)
    row.update(state="failed")
    page.post(f"{url}cancel/")
    assert row.get().state == "cancelled"


def test_strangers_and_who_may_not_see_names_get_404(
    deliver,  # noqa: F811
    department,  # noqa: F811
    other_technician,  # noqa: F811
    tmp_path: Path,
):
    upload = deliver(write_tiff_slide(tmp_path / "a.tiff"))
    item = only_item(upload)
    stranger = browser(other_technician)
    researcher = browser(make_member(department, Role.RESEARCHER))
    posts = (f"/uploads/{upload.pk}/retry/", f"/uploads/{upload.pk}/cancel/")
    for url in (f"/uploads/{upload.pk}/", f"/unmatched/{item.pk}/"):
        assert stranger.get(url).status_code == 404
        # The names of delivered files may hold those of patients.
        assert researcher.get(url).status_code == 404
    for url in (*posts, f"/unmatched/{item.pk}/"):
        assert stranger.post(url).status_code == 404
        assert researcher.post(url).status_code == 404
    assert "a.tiff" not in html(stranger.get("/unmatched/"))
    assert "a.tiff" not in html(researcher.get("/unmatched/"))


def test_the_unmatched_list_pages_and_filters(
    deliver,  # noqa: F811
    page,  # noqa: F811
    department,  # noqa: F811
    technician,  # noqa: F811
    tmp_path,
):
    item = only_item(deliver(write_tiff_slide(tmp_path / "findme.tiff")))
    UploadItem.objects.bulk_create(
        UploadItem(
            department=department,
            upload=item.upload,
            name=f"other-{number}",
            key=str(number),
            state="unmatched",
            reason_code="mpp_missing",
        )
        for number in range(30)
    )
    assert "Page 1 of 2" in html(page.get("/unmatched/"))
    assert "other-0<" in html(page.get("/unmatched/?page=2"))
    text = html(page.get("/unmatched/?reason=accession_missing"))
    assert "findme.tiff" in text
    assert "other-" not in text
    assert "findme.tiff" in html(page.get("/unmatched/?text=FINDME"))
    assert "No slide passes" in html(page.get("/unmatched/?text=nothing"))
    assert "No slide passes" in html(page.get("/unmatched/?show=settled"))
    assert html(page.get("/unmatched/?department=x&reason=y&show=z"))


def test_matching_on_the_page(deliver, page, department, tmp_path):  # noqa: F811
    case = CaseFactory(
        department=department,
        accession_number="S26-1",
        accession_issuer="lis",
        patient=PatientFactory(department=department, mrn="MRN-9", mrn_issuer="hospital"),
    )
    item = only_item(deliver(write_dicom_slide(tmp_path / "a")))
    url = f"/unmatched/{item.pk}/"
    text = html(page.get(url))
    assert "patient_mismatch" in text
    assert "MRN-9" in text
    assert "MRN, family name" in text
    # The file states its mpp: nothing to enter.
    assert 'name="mpp"' not in text
    text = html(page.post(url, {"accession_number": "S26-1", "mrn": "MRN-1"}))
    assert "another MRN" in text
    text = html(page.post(url, {"accession_number": "S26-1"}))
    assert "Confirm that you have looked" in text
    assert not SlideImage.objects.exists()
    response = page.post(url, {"accession_number": "S26-1", "confirm_patient": "on"}, follow=True)
    assert "added to its case" in html(response)
    assert SlideImage.objects.get().slide.case == case
    assert "Open the slide" in html(page.get(url))
    assert item.name in html(page.get("/unmatched/?show=settled"))


def test_mpp_on_the_page(deliver, page, tmp_path):  # noqa: F811
    file = write_tiff_slide(tmp_path / "a.tiff", mpp=None)
    item = only_item(deliver(file, accession_number="1", mrn="1"))
    assert item.reason_code == "mpp_missing"
    url = f"/unmatched/{item.pk}/"
    assert "µm per pixel" in html(page.post(url, {"mpp": "900"}))
    assert "does not state its resolution" in html(page.post(url, {"mpp": ""}))
    page.post(url, {"mpp": "0.46"})
    assert SlideImage.objects.get().mpp == 0.46


def test_discarding_on_the_page(deliver, page, tmp_path):  # noqa: F811
    item = only_item(deliver(write_tiff_slide(tmp_path / "a.tiff")))
    url = f"/unmatched/{item.pk}/"
    assert "This field is required" in html(page.post(url, {"discard": "1"}))
    page.post(url, {"discard": "1", "discard-reason": "A test scan"})
    item.refresh_from_db()
    assert (item.state, item.reason) == ("discarded", "A test scan")
    assert "A test scan" in html(page.get("/unmatched/?show=settled"))


def test_names_of_files_are_text(page, department, technician):  # noqa: F811
    name = '<img src=x onerror="alert(1)">.svs'
    upload = uploads.upload_create(user=technician, department=department, files=[(name, 0)])
    uploads.upload_finish(upload=upload, user=technician)
    processing.upload_process(upload.pk)
    text = html(page.get(f"/uploads/{upload.pk}/"))
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
