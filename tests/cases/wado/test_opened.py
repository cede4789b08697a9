"""DICOMweb of a case that was opened to one user: retrieved meanwhile, found by no search."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from cases.dicomweb.virtual import virtual_objects
from cases.models import AccessEvent, EmergencyAccess, SlideImage
from cases.permissions import Role
from tests.cases.intake.conftest import only_item
from tests.cases.wado.conftest import reader
from tests.cases.wado.test_frame_door import Site, cookie, site  # noqa: F401
from tests.factories import DepartmentFactory, make_member
from tests.synthetic_slide import picture, write_dicom_slide, write_tiff_slide

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def doctor():
    return make_member(DepartmentFactory(code="far-off"), Role.PATHOLOGIST)


@pytest.fixture
def scanned(deliver, department, tmp_path) -> SlideImage:
    folder = write_dicom_slide(tmp_path / "s", rgb=picture(600, 520), levels=2, label=True)
    return only_item(deliver(folder)).slide_image


def opened(user, image: SlideImage) -> None:
    case = image.slide.case
    EmergencyAccess.objects.create(
        user=user, department=case.department, patient=case.patient, case=case, identifier="1",
        reason_code="other", reason="A test.", expires_at=timezone.now() + timedelta(hours=1),
    )  # fmt: skip


def over() -> None:
    EmergencyAccess.objects.update(expires_at=timezone.now() - timedelta(seconds=1))


def answers(client, series: str, sop: str) -> dict[str, int]:
    instance = f"{series}/instances/{sop}"
    return {
        what: client.get(address, headers={"Accept": accept}).status_code
        for what, address, accept in (
            ("metadata", f"{series}/metadata", "application/dicom+json"),
            ("frame", f"{instance}/frames/1", "*/*"),
            ("picture", f"{instance}/rendered", "image/jpeg"),
            ("thumbnail", f"{series}/thumbnail", "image/jpeg"),
            ("file", instance, "*/*"),
        )
    }


def test_a_scanned_slide_is_retrieved_while_it_is_open(scanned, doctor, settings):
    settings.ROW_SECURITY = True
    series = f"/dicomweb/studies/{scanned.study_instance_uid}/series/{scanned.series_instance_uid}"
    instance = scanned.instances.get(total_columns=600)
    label = scanned.instances.get(flavor="label")
    browser = Client()
    browser.force_login(doctor)
    assert set(answers(browser, series, instance.sop_instance_uid).values()) == {404}
    opened(doctor, scanned)
    assert set(answers(browser, series, instance.sop_instance_uid).values()) == {200}
    frame = browser.get(f"{series}/instances/{instance.sop_instance_uid}/frames/1")
    assert frame["Cache-Control"] == "no-store"
    # Not its label, by no search, and to no token.
    assert set(answers(browser, series, label.sop_instance_uid).values()) - {200} == {404}
    assert browser.get(f"{series}/instances/{label.sop_instance_uid}").status_code == 404
    for level in ("studies", "series", "instances"):
        assert browser.get(f"/dicomweb/{level}").json() == []
    token = answers(reader(doctor), series, instance.sop_instance_uid)
    assert set(token.values()) == {404}
    seen = AccessEvent.objects.filter(user=doctor, object_type="slideimage", outcome="done")
    assert {event.detail["opened_by"] for event in seen} == {"emergency"}
    over()
    assert set(answers(browser, series, instance.sop_instance_uid).values()) == {404}


def test_a_vendors_slide_too(deliver, department, doctor, tmp_path):
    file = write_tiff_slide(tmp_path / "slide.tiff", mpp=0.5)
    only_item(deliver(file, accession_number="S26-7", mrn="M7"))
    image = SlideImage.objects.select_related("slide__case__patient").get()
    one = virtual_objects(image)[0]
    address = f"/dicomweb{one.path}"
    series = address.partition("/instances/")[0]
    browser = Client()
    browser.force_login(doctor)
    assert set(answers(browser, series, one.sop_uid).values()) == {404}
    opened(doctor, image)
    assert set(answers(browser, series, one.sop_uid).values()) == {200}
    assert browser.get("/dicomweb/series").json() == []
    over()
    assert set(answers(browser, series, one.sop_uid).values()) == {404}


def test_the_quick_door_knows_of_it_and_of_its_end(site, scanned, doctor):  # noqa: F811
    instance = scanned.instances.get(total_columns=600)
    path = (
        f"/dicomweb/studies/{scanned.study_instance_uid}/series/{scanned.series_instance_uid}"
        f"/instances/{instance.sop_instance_uid}/frames/1"
    )
    request = (path, {**cookie(doctor), "Accept": "image/jpeg"})
    told = site.get(
        request, lambda: opened(doctor, scanned), request, request, over, request, request
    )
    assert [status for status, _headers, _body in told] == [404, 200, 200, 404, 404]
