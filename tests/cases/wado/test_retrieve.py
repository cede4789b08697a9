"""WADO-RS: what goes out is what came in, to those who may see it, in the form they ask for."""

import gzip
import io
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from django.test import Client
from PIL import Image
from pydicom.encaps import generate_frames

from cases.dicomweb import objects
from cases.models import AccessEvent, Membership, SlideInstance
from cases.permissions import Role
from cases.services import tokens
from cases.services.instances import instance_file
from tests.cases.intake.conftest import only_item
from tests.cases.wado.bodies import body_of, parts_of
from tests.cases.wado.conftest import reader
from tests.factories import DepartmentFactory, make_member
from tests.synthetic_slide import picture, write_dicom_slide

pytestmark = pytest.mark.django_db

WIDTH, HEIGHT = 600, 520
DICOM = 'multipart/related; type="application/dicom"'


def _change(_number, dataset) -> None:
    dataset.OpticalPathSequence[0].ICCProfile = bytes(range(256)) * 16


@pytest.fixture
def image(deliver, department, tmp_path):
    folder = write_dicom_slide(
        tmp_path / "s", rgb=picture(WIDTH, HEIGHT), levels=2, label=True, change=_change
    )
    return only_item(deliver(folder)).slide_image


@pytest.fixture
def address(image) -> str:
    return f"/dicomweb/studies/{image.study_instance_uid}/series/{image.series_instance_uid}"


@pytest.fixture
def base(image) -> SlideInstance:
    return image.instances.select_related("slide_image").get(total_columns=WIDTH)


def frames_of(instance) -> list[bytes]:
    dataset = pydicom.dcmread(instance_file(instance))
    return list(generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames))


def test_whole_instances_go_out_byte_for_byte(pathologist, image, address, base):
    study = address.partition("/series/")[0]
    files = {instance_file(i).read_bytes() for i in image.instances.select_related("slide_image")}
    for url in (study, address):
        parts = parts_of(pathologist.get(url, headers={"Accept": DICOM}))
        assert {content for _type, content in parts} == files
        assert all(kind.startswith("application/dicom;") for kind, _content in parts)
    one = f"{address}/instances/{base.sop_instance_uid}"
    ((_kind, content),) = parts_of(pathologist.get(one))
    assert content == instance_file(base).read_bytes()
    single = pathologist.get(one, headers={"Accept": "application/dicom"})
    assert body_of(single) == content
    assert single["Content-Type"].startswith("application/dicom")


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.4.50", 200),
        (f"{DICOM}; transfer-syntax=*", 200),
        (f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.4.90", 406),
        ("application/dicom", 406),
        ('multipart/related; type="application/dicom+xml"', 406),
        ("text/html", 406),
    ],
)
def test_a_series_goes_out_in_its_own_transfer_syntax_or_not(pathologist, address, accept, status):
    assert pathologist.get(address, headers={"Accept": accept}).status_code == status


def test_a_part_of_an_instance_by_range(pathologist, address, base):
    url = f"{address}/instances/{base.sop_instance_uid}"
    data = instance_file(base).read_bytes()

    def ask(span, **more):
        headers = {"Accept": "application/dicom", "Range": span, **more}
        return pathologist.get(url, headers=headers)

    # Too long for a number.
    assert ask(f"bytes={'1' * 5000}-").status_code == 200
    for span, expected in (
        ("bytes=0-131", data[:132]),
        ("bytes=100-", data[100:]),
        ("bytes=-10", data[-10:]),
        (f"bytes=5-{len(data) + 9}", data[5:]),
    ):
        answer = ask(span)
        assert (answer.status_code, body_of(answer)) == (206, expected)
        assert answer["Content-Range"].endswith(f"/{len(data)}")
    assert ask(f"bytes={len(data)}-").status_code == 416
    assert ask("bytes=0-1,4-5").status_code == 200
    assert ask("bytes=0-1", **{"If-Range": '"older"'}).status_code == 200


def test_a_client_that_goes_early_leaves_no_file_open(department, image):
    user = make_member(department, Role.PATHOLOGIST)

    def open_files():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    bodies = [one.pieces() for one in objects.find(user, image.study_instance_uid)]
    assert open_files() == before
    assert next(bodies[0])
    assert open_files() == before + 1
    for body in bodies:
        body.close()
    assert open_files() == before


def test_metadata_at_three_levels(pathologist, image, address, base):
    study = address.partition("/series/")[0]
    one = f"{address}/instances/{base.sop_instance_uid}"
    for url, count in ((study, 3), (address, 3), (one, 1)):
        plain = pathologist.get(f"{url}/metadata")
        assert plain["Content-Type"] == "application/dicom+json"
        told = json.loads(plain.content)
        assert len(told) == count
        zipped = pathologist.get(f"{url}/metadata", headers={"Accept-Encoding": "br, gzip"})
        assert zipped["Content-Encoding"] == "gzip"
        assert gzip.decompress(zipped.content) == plain.content
        assert zipped["ETag"] != plain["ETag"]
        etag = {"If-None-Match": plain["ETag"]}
        assert pathologist.get(f"{url}/metadata", headers=etag).status_code == 304
    (told,) = told
    header = pydicom.dcmread(instance_file(base), stop_before_pixels=True)
    assert told["00100020"]["Value"] == [header.PatientID]
    assert told["00480006"]["Value"] == [WIDTH]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("application/dicom+json", "application/dicom+json"),
        ("*/*", "application/dicom+json"),
        ('multipart/related; type="application/dicom+xml"', ""),
        ("application/dicom+xml", ""),
    ],
)
def test_metadata_is_json_or_not_acceptable(pathologist, address, accept, kind):
    answer = pathologist.get(f"{address}/metadata", headers={"Accept": accept})
    assert answer.status_code == (200 if kind else 406)
    if kind:
        assert answer["Content-Type"] == kind


def test_every_address_in_the_metadata_leads_to_its_value(pathologist, address, base):
    url = f"{address}/instances/{base.sop_instance_uid}/metadata"
    (told,) = pathologist.get(url).json()
    icc = told["00480105"]["Value"][0]["00282000"]["BulkDataURI"]
    assert icc.startswith("http://testserver/dicomweb/studies/")
    answer = pathologist.get(icc)
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer.content == bytes(range(256)) * 16
    wrapped = 'multipart/related; type="application/octet-stream"'
    ((_kind, content),) = parts_of(pathologist.get(icc, headers={"Accept": wrapped}))
    assert content == answer.content
    part = pathologist.get(icc, headers={"Range": "bytes=256-257"})
    assert (part.status_code, part.content) == (206, b"\0\1")
    parts = parts_of(pathologist.get(told["7FE00010"]["BulkDataURI"]))
    assert [content for _kind, content in parts] == frames_of(base)
    for wrong in ("00480105", "00480105/7/00282000", "nonsense"):
        missing = f"{address}/instances/{base.sop_instance_uid}/bulkdata/{wrong}"
        assert pathologist.get(missing).status_code == 404


@pytest.mark.parametrize(
    ("accept", "status", "kind"),
    [
        ("", 200, 'multipart/related; type="image/jpeg"'),
        ("*/*", 200, 'multipart/related; type="image/jpeg"'),
        ('multipart/related; type="image/jpeg"', 200, 'multipart/related; type="image/jpeg"'),
        ("multipart/related; type=image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50", 200, ""),
        ('multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.70', 406, ""),
        ('multipart/related; type="image/jp2"', 406, ""),
        ('multipart/related; type="image/jls", multipart/related; type="image/jpeg"', 200, ""),
        ('multipart/related; type="application/octet-stream"; transfer-syntax=*', 200, ""),
        (
            'multipart/related; type="application/octet-stream"; '
            "transfer-syntax=1.2.840.10008.1.2.4.50",
            200,
            "",
        ),
        ("image/jpeg", 200, "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"),
        ("image/jp2;q=1, image/jpeg;q=0.2", 200, "image/jpeg"),
        ("image/jpeg;q=0", 406, ""),
        ("application/octet-stream; transfer-syntax=*", 200, "application/octet-stream"),
        ("text/plain", 406, ""),
    ],
)
def test_a_frame_in_the_media_type_that_is_accepted(
    pathologist, address, base, accept, status, kind
):
    url = f"{address}/instances/{base.sop_instance_uid}/frames/2"
    answer = pathologist.get(url, headers={"Accept": accept} if accept else {})
    assert answer.status_code == status, accept
    if status != 200:
        assert answer.json()["code"] == "not_acceptable"
        return
    assert answer["Content-Type"].startswith(kind)
    if answer["Content-Type"].startswith("multipart"):
        ((_kind, content),) = parts_of(answer)
    else:
        content = body_of(answer)
    assert content == frames_of(base)[1]


def test_several_frames_in_the_order_asked(pathologist, address, base):
    url = f"{address}/instances/{base.sop_instance_uid}/frames"
    frames = frames_of(base)
    parts = parts_of(pathologist.get(f"{url}/3,1,2"))
    assert [content for _kind, content in parts] == [frames[2], frames[0], frames[1]]
    # Several frames never are a single body.
    assert pathologist.get(f"{url}/1,2", headers={"Accept": "image/jpeg"}).status_code == 406


@pytest.mark.parametrize(
    ("frames", "status"),
    [("0", 404), ("99", 404), ("1,99", 404), ("x", 400), ("1,,2", 400), ("1-2", 400), ("-1", 400)],
)
def test_frames_that_are_not_there(pathologist, address, base, frames, status):
    url = f"{address}/instances/{base.sop_instance_uid}/frames/{frames}"
    assert pathologist.get(url).status_code == status
    assert pathologist.get(url + "/rendered").status_code in (status, 400)


def test_octets_without_a_syntax_are_uncompressed_pixels(pathologist, address, base):
    url = f"{address}/instances/{base.sop_instance_uid}/frames/1"
    answer = pathologist.get(url, headers={"Accept": "application/octet-stream"})
    assert answer["Content-Type"].endswith("transfer-syntax=1.2.840.10008.1.2.1")
    rgb = np.frombuffer(body_of(answer), np.uint8).reshape(256, 256, 3)
    expected = np.asarray(Image.open(io.BytesIO(frames_of(base)[0])).convert("RGB"))
    assert np.abs(rgb.astype(int) - expected).max() <= 2


def test_uncompressed_slides_go_out_uncompressed(deliver, department, pathologist, tmp_path):
    folder = write_dicom_slide(tmp_path / "raw", rgb=picture(300, 300), levels=1, jpeg=False)
    image = only_item(deliver(folder)).slide_image
    instance = image.instances.select_related("slide_image").get()
    url = (
        f"/dicomweb/studies/{image.study_instance_uid}/series/{image.series_instance_uid}"
        f"/instances/{instance.sop_instance_uid}/frames/4"
    )
    data = pydicom.dcmread(instance_file(instance)).PixelData
    answer = pathologist.get(url, headers={"Accept": "application/octet-stream"})
    assert body_of(answer) == data[-256 * 256 * 3 :]
    assert pathologist.get(url, headers={"Accept": "image/jpeg"}).status_code == 406


def test_rendered_and_thumbnails(pathologist, image, address, base):
    one = f"{address}/instances/{base.sop_instance_uid}"
    study = address.partition("/series/")[0]

    def shown(url, **headers):
        answer = pathologist.get(url, headers=headers)
        assert answer.status_code == 200, answer.content
        picture_ = Image.open(io.BytesIO(answer.content))
        assert f"image/{picture_.format.lower()}" == answer["Content-Type"]
        return np.asarray(picture_.convert("RGB")).astype(int)

    whole = shown(f"{one}/rendered?viewport=600,600&quality=95")
    assert whole.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(whole - picture(WIDTH, HEIGHT)).mean() < 8
    assert shown(f"{one}/rendered?viewport=100,50", Accept="image/png").shape[0] == 50
    part = shown(f"{one}/rendered?viewport=200,100,300,200,200,100&quality=95")
    assert np.abs(part - picture(WIDTH, HEIGHT)[200:300, 300:500]).mean() < 8
    frame = shown(f"{one}/frames/1/rendered")
    assert np.abs(frame - picture(WIDTH, HEIGHT)[:256, :256]).mean() < 8
    for url in (study, address, one):
        assert max(shown(f"{url}/thumbnail").shape) == 256
        assert max(shown(f"{url}/thumbnail?viewport=64,64").shape) == 64
    small = len(pathologist.get(f"{one}/rendered?quality=5").content)
    assert small < len(pathologist.get(f"{one}/rendered?quality=95").content)
    # Bounded, whatever is asked for.
    assert max(shown(f"{one}/rendered?viewport=99999,99999").shape) <= 2048
    for wrong in (
        "viewport=1",
        "viewport=a,b",
        "viewport=0,0",
        "quality=0",
        f"quality={'1' * 5000}",
    ):
        assert pathologist.get(f"{one}/rendered?{wrong}").status_code == 400, wrong
    assert pathologist.get(f"{one}/rendered", headers={"Accept": "image/gif"}).status_code == 406


def test_labels_go_out_only_to_who_may_see_them(pathologist, researcher, image, address):
    label = image.instances.select_related("slide_image").get(flavor="label")
    study = address.partition("/series/")[0]
    one = f"{address}/instances/{label.sop_instance_uid}"
    inside = [f"{one}{rest}" for rest in ("", "/metadata", "/frames/1", "/rendered", "/thumbnail")]
    inside += [f"{one}/bulkdata/7FE00010", f"{one}/frames/1/rendered"]
    missing = pathologist.get(f"{address}/instances/1.2.3/metadata")
    for url in inside:
        shown = pathologist.get(url)
        assert shown.status_code == 200, url
        # Each look is an event: a browser keeps none.
        assert (shown["Cache-Control"] == "no-store") == ("metadata" not in url), url
        hidden = researcher.get(url)
        assert (hidden.status_code, hidden.content) == (404, missing.content), url
    for url in (study, address):
        assert len(pathologist.get(f"{url}/metadata").json()) == 3
        assert len(researcher.get(f"{url}/metadata").json()) == 2
        whole = researcher.get(url, headers={"Accept": DICOM})
        assert whole.status_code == 403, "files name the patient"
    assert AccessEvent.objects.filter(detail__part="label").exists()


def test_hidden_is_the_same_as_missing(image, address, base, pathologist):
    stranger = reader(make_member(DepartmentFactory(), Role.PATHOLOGIST))
    one = f"{address}/instances/{base.sop_instance_uid}"
    study = address.partition("/series/")[0]
    missing = pathologist.get("/dicomweb/studies/1.2.3").content
    rest = ("", "/metadata", "/thumbnail")
    urls = [f"{url}{end}" for url in (study, address, one) for end in rest]
    urls += [f"{one}/frames/1", f"{one}/frames/1/rendered", f"{one}/rendered"]
    urls += [f"{one}/bulkdata/00480105/0/00282000"]
    for url in urls:
        etag = pathologist.get(url).get("ETag", "")
        hidden = stranger.get(url, headers={"If-None-Match": etag})
        assert (hidden.status_code, hidden.content) == (404, missing), url
        assert Client().get(url).status_code == 401
    other_series = f"{study}/series/1.2.3/instances/{base.sop_instance_uid}/frames/1"
    assert pathologist.get(other_series).status_code == 404


def test_addresses_that_no_object_has_are_missing(image, address, base, pathologist):
    one = f"{address}/instances/{base.sop_instance_uid}"
    study = f"/dicomweb/studies/{image.study_instance_uid}"
    missing = pathologist.get("/dicomweb/studies/1.2.3/series").content
    for url in (
        "/dicomweb/studies/%00/series",
        f"{study}%00/metadata",
        f"{study}/series/%00/instances",
        f"{address}/instances/%00/frames/1",
        f"{one}/bulkdata/%00",
        f"{study}/series/..%2F..%2F/metadata",
        f"{address}/instances/%FF/rendered",
    ):
        answer = pathologist.get(url)
        assert (answer.status_code, answer.content) == (404, missing), url


def test_a_lost_membership_ends_it_at_once(department, address, base):
    user = make_member(department, Role.PATHOLOGIST)
    client = reader(user)
    url = f"{address}/instances/{base.sop_instance_uid}/frames/1"
    etag = client.get(url)["ETag"]
    Membership.objects.filter(user=user).delete()
    assert client.get(url, headers={"If-None-Match": etag}).status_code == 404


def test_every_retrieval_is_recorded_once_per_look(department, address, base, image):
    user = make_member(department, Role.PATHOLOGIST)
    client = reader(user)
    url = f"{address}/instances/{base.sop_instance_uid}/frames"
    for number in (1, 2, 3):
        assert client.get(f"{url}/{number}").status_code == 200
    event = AccessEvent.objects.get(user=user, action="view", object_id=str(image.pk))
    assert (event.channel, event.patient_id) == ("dicom", image.slide.case.patient_id)
    assert event.detail["token"]


def test_a_token_without_the_scope_reads_nothing(department, address):
    user = make_member(department, Role.PATHOLOGIST)
    _token, key = tokens.token_create(user=user, name="lis", scopes=["cases:read"])
    client = Client(headers={"Authorization": f"Bearer {key}"})
    assert client.get(f"{address}/metadata").status_code == 403
