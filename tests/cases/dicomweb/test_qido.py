"""QIDO-RS: what is found, what it says, in pages, and only what one may see."""

from datetime import UTC, datetime
from xml.etree.ElementTree import fromstring

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings

from cases.models import (
    AccessEvent,
    DerivedInstance,
    Membership,
    SlideImage,
    SlideInstanceHeader,
)
from cases.permissions import Role
from cases.services import processing, uploads
from cases.wsi.uids import uid_of
from tests.cases.dicomweb.conftest import client_for
from tests.factories import DepartmentFactory, make_member
from tests.synthetic_slide import write_dicom_slide, write_tiff_slide

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module", autouse=True)
def data_dir(tmp_path_factory):
    """One data folder for the module: the archive is made once."""
    folder = tmp_path_factory.mktemp("qido") / "data"
    folder.mkdir()
    with override_settings(DATA_DIR=folder):
        yield folder


@pytest.fixture(scope="module")
def world(data_dir, django_db_setup, django_db_blocker, tmp_path_factory):
    """Two DICOM slides of one study, one of another, and a vendor's slide; rolled back."""
    with django_db_blocker.unblock(), transaction.atomic():
        home = DepartmentFactory(code="lung", mrn_issuer="hospital", accession_issuer="lis")
        user = make_member(home, Role.TECHNICIAN)
        folder = tmp_path_factory.mktemp("slides")
        known = {"study_uid": "1.2.3.1", "accession_number": "S26-1", "patient_id": "M1"}
        one = write_dicom_slide(folder / "a", seed=1, series_uid="1.2.3.1.1", label=True, **known)
        more = {"series_uid": "1.2.3.1.2", "container_id": "SLIDE-2"}
        two = write_dicom_slide(folder / "b", seed=2, **more, **known)
        for slide in (one, two, other_study(folder / "c")):
            take_in(user, home, slide)
        form = {"accession_number": "S26-3", "mrn": "M3", "family_name": "Poe"}
        take_in(user, home, write_tiff_slide(folder / "d.tiff"), given_name="Edgar", **form)
        vendor = SlideImage.objects.get(source_format="vendor")
        vendor.scanned_at = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)
        vendor.save()
        yield user, home, vendor
        transaction.set_rollback(True)


def other_study(folder):
    """Write a slide of the second study; again it is the same."""
    return write_dicom_slide(
        folder,
        seed=3,
        study_uid="1.2.3.2",
        series_uid="1.2.3.2.1",
        accession_number="S26-2",
        patient_id="M2",
        patient_name="Roe^Richard",
        sex="M",
        change=lambda _n, d: setattr(d, "StudyDate", "20251224"),
    )


def take_in(user, department, slide, **form):
    """Take a slide the road of any upload."""
    upload = uploads.upload_local_folder(
        user=user, department=department, folder=slide, source="command", **form
    )
    processing.upload_process(upload.pk)


@pytest.fixture
def archive(world, db):
    """Return the vendor's slide of the archive."""
    return SlideImage.objects.get(pk=world[2].pk)


@pytest.fixture
def department(world, db):
    return world[1]


@pytest.fixture
def technician(world, db):
    return get_user_model().objects.get(pk=world[0].pk)


def values(results, tag):
    return [one for result in results for one in result.get(tag, {}).get("Value", [])]


def studies(client, **query):
    response = client.get("/dicomweb/studies", query)
    assert response.status_code == 200, response.content
    return values(response.json(), "0020000D")


def test_studies_with_what_the_standard_wants(archive, scanner):
    response = scanner.get("/dicomweb/studies")
    assert response.headers["Content-Type"] == "application/dicom+json"
    assert "Warning" not in response.headers
    first, second, virtual = response.json()
    assert first["0020000D"]["Value"] == ["1.2.3.1"]
    assert first["00080061"]["Value"] == ["SM"]
    assert first["00080056"]["Value"] == ["ONLINE"]
    assert first["00081190"]["Value"] == ["http://testserver/dicomweb/studies/1.2.3.1"]
    assert first["00100010"]["Value"] == [{"Alphabetic": "Doe^Jane"}]
    assert first["00100020"]["Value"] == ["M1"]
    assert first["00201206"]["Value"] == [2]
    assert first["00201208"]["Value"] == [7]  # three levels each, and a label
    assert second["00201208"]["Value"] == [3]
    assert not {"0020000E", "00080018", "00080060"} & set(first)
    assert virtual["0020000D"]["Value"] == [uid_of(archive.slide.case_id)]
    assert virtual["00100010"]["Value"] == [{"Alphabetic": "Poe^Edgar"}]
    assert virtual["00201208"]["Value"] == [archive.level_count]
    assert virtual["00080020"]["Value"] == ["20240506"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"AccessionNumber": "S26-2"}, ["1.2.3.2"]),
        ({"00080050": "S26-2"}, ["1.2.3.2"]),
        ({"AccessionNumber": "S26-?"}, ["1.2.3.1", "1.2.3.2", "virtual"]),
        ({"AccessionNumber": "s26-2"}, []),
        ({"PatientID": "M1"}, ["1.2.3.1"]),
        ({"PatientID": "M_"}, []),
        ({"PatientID": "M%"}, []),
        ({"PatientName": "doe^jane"}, ["1.2.3.1"]),
        ({"PatientName": "*oe*"}, ["1.2.3.1", "1.2.3.2", "virtual"]),
        ({"PatientName": "POE^*"}, ["virtual"]),
        ({"PatientSex": "M"}, ["1.2.3.2"]),
        ({"PatientBirthDate": "19500101-19500103"}, ["1.2.3.1", "1.2.3.2"]),
        ({"PatientBirthDate": "1951"}, []),
        ({"StudyDate": "20251224"}, ["1.2.3.2"]),
        ({"StudyDate": "20240101-20251231"}, ["1.2.3.2", "virtual"]),
        ({"StudyDate": "20260101-"}, []),
        ({"StudyInstanceUID": "1.2.3.1,1.2.3.2"}, ["1.2.3.1", "1.2.3.2"]),
        ({"StudyInstanceUID": "1.2.3.1\\9.9"}, ["1.2.3.1"]),
        ({"ModalitiesInStudy": "SM"}, ["1.2.3.1", "1.2.3.2", "virtual"]),
        ({"ModalitiesInStudy": "CT"}, []),
        ({"Manufacturer": "Exam*"}, ["1.2.3.1", "1.2.3.2"]),
        ({"ContainerIdentifier": "SLIDE-2"}, ["1.2.3.1"]),
        ({"OpticalPathSequence.ObjectiveLensPower": "20"}, ["1.2.3.1", "1.2.3.2"]),
        ({"00480105.00480112": "20.0"}, ["1.2.3.1", "1.2.3.2"]),
        ({"PatientID": "M2", "AccessionNumber": "S26-1"}, []),
        ({"PatientID": "", "AccessionNumber": "*"}, ["1.2.3.1", "1.2.3.2", "virtual"]),
    ],
)
def test_studies_by_key(archive, scanner, query, expected):
    virtual = uid_of(archive.slide.case_id)
    assert studies(scanner, **query) == [virtual if one == "virtual" else one for one in expected]


def test_a_bad_key_is_named(archive, scanner):
    for query, code in (
        ({"Nonsense": "1"}, "unknown_attribute"),
        ({"StudyDate": "x"}, "bad_value"),
        # Python reads these as numbers, the database does not.
        ({"NumberOfFrames": "1_0"}, "bad_value"),
        ({"NumberOfFrames": "\uff11"}, "bad_value"),
        ({"NumberOfFrames": "1e999999"}, "bad_value"),
    ):
        response = scanner.get("/dicomweb/studies", query)
        assert (response.status_code, response.json()["code"]) == (400, code)


def test_a_header_with_a_number_that_is_none_matches_nothing(archive, scanner):
    for wrong in ("1.2.3", ".", "1e999999"):
        SlideInstanceHeader.objects.update(attributes={"00280008": {"vr": "IS", "Value": [wrong]}})
        assert studies(scanner, NumberOfFrames="1") == []
    SlideInstanceHeader.objects.update(attributes={"00280008": {"vr": "IS", "Value": ["1."]}})
    assert studies(scanner, NumberOfFrames="1") == ["1.2.3.1", "1.2.3.2"]


def test_series_and_instances_at_the_top_and_nested(archive, scanner):
    series = scanner.get("/dicomweb/series").json()
    assert values(series, "0020000E") == [
        "1.2.3.1.1",
        "1.2.3.1.2",
        "1.2.3.2.1",
        uid_of(archive.pk),
    ]
    assert values(series, "00201209") == [4, 3, 3, archive.level_count]
    assert "00100020" in series[0]  # of its study, which the address does not say
    of_study = scanner.get("/dicomweb/studies/1.2.3.1/series").json()
    assert values(of_study, "0020000E") == ["1.2.3.1.1", "1.2.3.1.2"]
    assert "00100020" not in of_study[0]
    assert set(values(of_study, "00080060")) == {"SM"}
    found = scanner.get("/dicomweb/studies/1.2.3.1/series/1.2.3.1.1/instances").json()
    assert len(found) == 4
    assert set(values(found, "00083002")) == {"1.2.840.10008.1.2.4.50"}
    assert set(values(found, "00080016")) == {"1.2.840.10008.5.1.4.1.1.77.1.6"}
    assert all(item["00280010"]["Value"][0] > 0 for item in found)
    assert "0020000E" in found[0]
    all_found = scanner.get("/dicomweb/instances").json()
    assert len(all_found) == 10 + archive.level_count
    assert len(scanner.get("/dicomweb/studies/1.2.3.1/instances").json()) == 7
    one = values(found, "00080018")[0]
    assert values(
        scanner.get("/dicomweb/instances", {"SOPInstanceUID": one}).json(), "00080018"
    ) == [one]
    virtual = f"/dicomweb/studies/{uid_of(archive.slide.case_id)}/instances"
    instances = scanner.get(virtual).json()
    assert len(instances) == archive.level_count
    again = scanner.get("/dicomweb/instances", {"SOPInstanceUID": values(instances, "00080018")[0]})
    assert len(again.json()) == 1


def test_pages_neither_overlap_nor_leave_anything_out(archive, scanner):
    for address in ("studies", "series", "instances"):
        everything = scanner.get(f"/dicomweb/{address}").json()
        for size in (1, 2, 3):
            paged, offset = [], 0
            while page := scanner.get(
                f"/dicomweb/{address}", {"limit": size, "offset": offset}
            ).json():
                assert len(page) <= size
                paged += page
                offset += size
            assert paged == everything
    assert scanner.get("/dicomweb/studies", {"limit": 0}).json() == []


def test_the_servers_cap_is_announced(archive, scanner, settings):
    settings.QIDO_MAX_RESULTS = 2
    response = scanner.get("/dicomweb/studies")
    assert len(response.json()) == 2
    assert response.headers["Warning"].startswith("299 http://testserver/dicomweb ")
    assert "exceeded the maximum" in response.headers["Warning"]
    assert "Warning" not in scanner.get("/dicomweb/studies", {"limit": 1}).headers
    assert "Warning" not in scanner.get("/dicomweb/studies", {"offset": 1}).headers


def test_fuzzy_matching_is_declined(archive, scanner):
    response = scanner.get("/dicomweb/studies", {"fuzzymatching": "true", "PatientID": "M1"})
    assert "fuzzymatching parameter is not supported" in response.headers["Warning"]
    assert len(response.json()) == 1


def test_more_fields_when_asked(archive, scanner):
    instance = {"limit": 1}
    plain = scanner.get("/dicomweb/instances", instance).json()[0]
    assert "00480105" not in plain
    more = scanner.get(
        "/dicomweb/instances", {**instance, "includefield": ["OpticalPathSequence", "00181020"]}
    ).json()[0]
    assert "00480105" in more
    everything = scanner.get("/dicomweb/instances", {**instance, "includefield": "all"}).json()[0]
    assert set(everything) > set(more)
    assert "7FE00010" not in everything
    matched = scanner.get("/dicomweb/studies", {"ContainerIdentifier": "SLIDE-2"}).json()[0]
    assert matched["00400512"]["Value"]  # a key is answered with its value


def test_what_was_made_of_a_slide_is_a_series_of_its_study(archive, scanner, department):
    image = SlideImage.objects.get(series_instance_uid="1.2.3.2.1")
    DerivedInstance.objects.create(
        department=department,
        slide_image=image,
        kind="annotations",
        maker="m",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.91.1",
        sop_instance_uid="1.2.3.2.9.1",
        study_instance_uid="1.2.3.2",
        series_instance_uid="1.2.3.2.9",
        modality="ANN",
        series_number=900,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        sha256="0" * 64,
        file_name="a.dcm",
        size_bytes=1,
    )
    (study,) = scanner.get("/dicomweb/studies", {"ModalitiesInStudy": "ANN"}).json()
    assert study["00080061"]["Value"] == ["ANN", "SM"]
    assert study["00201206"]["Value"] == [2]
    assert study["00201208"]["Value"] == [4]
    series = scanner.get("/dicomweb/studies/1.2.3.2/series", {"Modality": "ANN"}).json()
    assert values(series, "0020000E") == ["1.2.3.2.9"]
    assert len(scanner.get("/dicomweb/studies/1.2.3.2/instances").json()) == 4


def test_only_what_one_may_see(archive, scanner, other_technician, department):
    stranger = client_for(other_technician)
    for address in ("studies", "series", "instances"):
        response = stranger.get(f"/dicomweb/{address}")
        assert (response.status_code, response.json()) == (200, [])
    hidden = stranger.get("/dicomweb/studies/1.2.3.1/series")
    missing = stranger.get("/dicomweb/studies/9.9.9/series")
    assert (hidden.status_code, hidden.content) == (404, missing.content)
    # A researcher sees no label, nor that there is one.
    researcher = client_for(make_member(department, Role.RESEARCHER))
    study = researcher.get("/dicomweb/studies", {"StudyInstanceUID": "1.2.3.1"}).json()[0]
    assert study["00201208"]["Value"] == [6]
    assert len(researcher.get("/dicomweb/studies/1.2.3.1/instances").json()) == 6
    writer = client_for(make_member(department, Role.TECHNICIAN), "dicomweb:write")
    assert writer.get("/dicomweb/studies").status_code == 403


def test_a_series_in_two_departments_counts_once(archive, technician, other_technician, tmp_path):
    other = other_technician.memberships.get().department
    take_in(other_technician, other, other_study(tmp_path / "again"))
    Membership.objects.create(user=technician, department=other, role=Role.TECHNICIAN)
    both = client_for(technician)
    study = both.get("/dicomweb/studies", {"StudyInstanceUID": "1.2.3.2"}).json()[0]
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([1], [3])
    assert len(both.get("/dicomweb/studies/1.2.3.2/series").json()) == 1
    assert len(both.get("/dicomweb/studies/1.2.3.2/instances").json()) == 3


def test_each_patient_found_is_an_audit_event(archive, scanner, technician):
    before = AccessEvent.objects.count()
    scanner.get("/dicomweb/studies")
    events = AccessEvent.objects.order_by("-at")[: AccessEvent.objects.count() - before]
    assert {event.channel for event in events} == {"dicom"}
    assert len({event.patient_id for event in events}) == 3


def test_the_answer_as_xml_and_as_nothing_we_have(archive, scanner):
    kind = 'multipart/related; type="application/dicom+xml"'
    response = scanner.get("/dicomweb/studies", headers={"Accept": kind})
    assert response.headers["Content-Type"].startswith(kind)
    parts = response.content.split(b"--dicom-xml-part")[1:-1]
    assert len(parts) == 3
    root = fromstring(parts[0].split(b"\r\n\r\n", 1)[1].strip())
    assert {a.get("keyword") for a in root} >= {"StudyInstanceUID", "PatientName"}
    assert scanner.get("/dicomweb/studies", headers={"Accept": "text/html"}).status_code == 406


def test_headers_of_before_are_made_by_the_command(archive, scanner):
    SlideInstanceHeader.objects.all().delete()
    assert studies(scanner, ContainerIdentifier="SLIDE-2") == []
    call_command("index_instances", verbosity=0)
    assert studies(scanner, ContainerIdentifier="SLIDE-2") == ["1.2.3.1"]


def test_a_search_takes_few_queries(archive, scanner, django_assert_max_num_queries):
    with django_assert_max_num_queries(24):
        scanner.get("/dicomweb/studies")
