"""STOW-RS: what is stored, what the answer says, and that a repeat changes nothing."""

import json
import os
from xml.etree.ElementTree import fromstring

import pytest
from django.conf import settings

from cases.models import AccessEvent, Membership, SlideImage, SlideInstance, SlideUpload, UploadFile
from cases.permissions import Role
from cases.services import reception, sweep
from cases.services import store as files
from tests.cases.dicomweb.conftest import client_for
from tests.cases.dicomweb.storing import (
    FAILED,
    STORED,
    body_of,
    failures,
    instances_of,
    process_queued,
    send,
    store,
    uids,
)
from tests.cases.intake.conftest import stored
from tests.factories import DepartmentFactory
from tests.synthetic_slide import write_dicom_slide

pytestmark = pytest.mark.django_db


def test_a_slide_is_stored_and_becomes_a_slide_image(scanner, slide, technician, data_dir):
    instances = instances_of(slide)
    response = store(scanner, instances)
    assert response.status_code == 200, response.content
    assert response.headers["Content-Type"] == "application/dicom+json"
    answer = response.json()
    assert len(uids(answer, STORED)) == len(instances)
    assert FAILED not in answer
    upload = SlideUpload.objects.get()
    assert (upload.state, upload.source, upload.uploaded_by) == ("queued", "dicomweb", technician)
    assert not upload.is_whole
    sent = {file.read_bytes() for file in slide.iterdir()}
    assert {files.spool_file(file).read_bytes() for file in upload.files.all()} == sent
    process_queued()
    image = SlideImage.objects.get()
    assert set(uids(answer, STORED)) == set(
        image.instances.values_list("sop_instance_uid", flat=True)
    )
    url = answer["00081190"]["Value"][0]
    assert url == f"http://testserver/dicomweb/studies/{image.study_instance_uid}"
    item = answer["00081199"]["Value"][0]
    assert item["00081190"]["Value"][0].startswith(f"{url}/series/{image.series_instance_uid}/")
    assert stored(data_dir, "spool") == set()


def test_a_repeat_stores_nothing_and_succeeds(scanner, slide, data_dir):
    instances = instances_of(slide)
    store(scanner, instances)
    for step in ("while it waits", "after it was taken in"):
        response = store(scanner, instances)
        assert response.status_code == 200, step
        assert len(uids(response.json(), STORED)) == len(instances)
        assert SlideUpload.objects.count() == 1, step
        assert len(stored(data_dir, "spool")) <= 1
        process_queued()
    assert SlideInstance.objects.count() == len(instances)


def test_the_same_instance_twice_in_one_request_is_stored_once(scanner, slide):
    first = instances_of(slide)[0]
    response = store(scanner, [first, first])
    assert response.status_code == 200
    assert UploadFile.objects.count() == 1


@pytest.mark.parametrize("when", ["in one request", "while the first waits", "afterwards"])
def test_the_same_uid_with_other_bytes_is_named(scanner, slide, when):
    instances = instances_of(slide)
    other = instances[0][:-1] + bytes([instances[0][-1] ^ 1])
    if when == "in one request":
        response = store(scanner, [*instances, other])
    else:
        store(scanner, instances)
        if when == "afterwards":
            process_queued()
        response = store(scanner, [*instances, other])
    assert response.status_code == 202
    assert failures(response.json()) == [(0x0111, "sop_instance_conflict")]
    assert len(uids(response.json(), STORED)) == len(instances)
    process_queued()
    assert SlideInstance.objects.count() == len(instances)


def test_several_studies_in_one_request(scanner, tmp_path):
    one = write_dicom_slide(tmp_path / "1", seed=1, patient_id="M1", accession_number="S26-1")
    two = write_dicom_slide(tmp_path / "2", seed=2, patient_id="M2", accession_number="S26-2")
    response = store(scanner, [*instances_of(one), *instances_of(two)])
    assert response.status_code == 200
    assert "00081190" not in response.json()  # each instance says its own
    process_queued()
    assert SlideImage.objects.values("study_instance_uid").distinct().count() == 2


def test_only_the_study_of_the_address_is_stored(scanner, tmp_path):
    one = write_dicom_slide(tmp_path / "1", seed=1, patient_id="M1", accession_number="S26-1")
    two = write_dicom_slide(tmp_path / "2", seed=2, patient_id="M2", accession_number="S26-2")
    first, second = instances_of(one), instances_of(two)
    study = store(scanner, first).json()["00081190"]["Value"][0].rpartition("/")[2]
    url = f"/dicomweb/studies/{study}"
    response = store(scanner, [*first, *second], url=url)
    assert response.status_code == 202
    assert set(failures(response.json())) == {(0xC409, "study_mismatch")}
    assert len(uids(response.json(), FAILED)) == len(second)
    response = store(scanner, second, url=url)
    assert response.status_code == 409
    assert "00081199" not in response.json()


def test_instances_that_come_one_by_one_become_one_slide(scanner, slide):
    for instance in instances_of(slide):
        assert store(scanner, [instance]).status_code == 200
    process_queued()
    image = SlideImage.objects.get()
    assert image.instances.count() == len(list(slide.iterdir()))


def test_the_answer_as_xml(scanner, slide):
    response = send(scanner, body_of(instances_of(slide)), Accept="application/dicom+xml")
    assert response.headers["Content-Type"] == "application/dicom+xml"
    root = fromstring(response.content)
    (sequence,) = [a for a in root if a.get("tag") == "00081199"]
    assert sequence.get("keyword") == "ReferencedSOPSequence"
    assert len(sequence) == len(list(slide.iterdir()))
    refused = send(scanner, body_of(instances_of(slide)), Accept="text/html")
    assert refused.status_code == 406
    assert refused.json()["code"] == "not_acceptable"


def test_the_department_is_the_senders_only_one_or_the_one_named(
    scanner, technician, department, slide
):
    skin = DepartmentFactory(code="skin", mrn_issuer="hospital", accession_issuer="lis")
    Membership.objects.create(user=technician, department=skin, role=Role.TECHNICIAN)
    scanner = client_for(technician)
    response = store(scanner, instances_of(slide))
    assert (response.status_code, response.json()["code"]) == (409, "department_needed")
    assert SlideUpload.objects.count() == 0
    assert (
        store(scanner, instances_of(slide), url="/dicomweb/studies?department=skin").status_code
        == 200
    )
    assert SlideUpload.objects.get().department == skin
    for code in ("nose", "skin%00"):
        unknown = store(scanner, instances_of(slide), url=f"/dicomweb/studies?department={code}")
        assert (unknown.status_code, unknown.json()["code"]) == (400, "unknown_department")


def test_who_may_store(scanner, technician, slide, page, db):
    instances = instances_of(slide)
    reader = client_for(technician, "dicomweb:read")
    assert store(reader, instances).status_code == 403
    researcher = client_for(
        Membership.objects.create(
            user=technician.__class__.objects.create(username="r"),
            department=technician.memberships.get().department,
            role=Role.RESEARCHER,
        ).user
    )
    assert store(researcher, instances).status_code == 403
    from django.test import Client

    assert store(Client(), instances).status_code == 401
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(technician)
    assert store(strict, instances).status_code == 403
    strict.get("/")  # a page that has a form
    strict.cookies["csrftoken"] = "a" * 32
    wrong = store(strict, instances, **{"X-CSRFToken": "b" * 32})
    assert wrong.status_code == 403
    assert SlideUpload.objects.count() == 0
    right = store(strict, instances, **{"X-CSRFToken": "a" * 32})
    assert right.status_code == 200
    assert store(page, instances).status_code == 200


def test_a_store_is_an_audit_event(scanner, slide, technician):
    store(scanner, instances_of(slide))
    event = AccessEvent.objects.filter(action="create", channel="dicom").latest("at")
    count = len(list(slide.iterdir()))
    assert event.user == technician
    assert event.detail["instances"] == count
    assert (event.detail["refused"], event.detail["already_here"]) == (0, 0)
    assert event.detail["token"]
    assert json.dumps(event.detail).find("M1") < 0


def test_the_sweep_leaves_an_instance_that_comes_for_hours(slide, db, monkeypatch):
    monkeypatch.setattr(reception, "TOUCH_SECONDS", 0)
    (data, *_rest) = instances_of(slide)

    with reception.Reception() as receiving:
        (folder,) = (settings.DATA_DIR / "spool").iterdir()

        def slowly():
            yield data[:1000]
            os.utime(folder, (0, 0))
            yield data[1000:2000]
            assert sweep.sweep_store() == []
            yield data[2000:]

        receiving.receive(slowly())
        (received,) = receiving.received()
    assert (received.size_bytes, received.facts.code) == (len(data), "")
    # What nobody writes to any more goes.
    folder.mkdir()
    os.utime(folder, (0, 0))
    assert sweep.sweep_store() == [f"spool/{folder.name}"]
