"""Against a real uvicorn: chunked bodies, memory, refusals before the body, and kill -9."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread

from cases.models import SlideImage, SlideUpload, UploadFile
from cases.services import store as files
from cases.services import tokens
from tests.cases.dicomweb.storing import BOUNDARY, TYPE, process_queued
from tests.cases.intake.conftest import stored
from tests.cases.intake.test_crash import ROOT, worker_environment
from tests.partners.orthanc import require_orthanc, running_orthanc
from tests.synthetic_slide import picture, write_dicom_slide

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 2**20


@dataclass
class Server:
    host: str
    port: int
    process: psutil.Process
    key: str

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/dicomweb"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def peak_bytes(self) -> int:
        """Return the most memory that the process ever held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.fixture
def server(data_dir, technician) -> Iterator[Server]:
    """Return a web server on the test's database and folder, with a token for it."""
    scopes = ["dicomweb:read", "dicomweb:write"]
    key = tokens.token_create(user=technician, name="t", scopes=scopes)[1]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (data_dir / "uvicorn.log").open("wb")
    command = ["uvicorn", "pathsearch_site.asgi:application", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--lifespan", "off"],
        cwd=ROOT,
        env={**worker_environment(data_dir), "PATHSEARCH_UPLOAD_MAX_GB": "1"},
        stdout=log,
        stderr=log,
    )
    try:
        for _try in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (data_dir / "uvicorn.log").read_text()
            time.sleep(0.1)
        yield Server("127.0.0.1", port, psutil.Process(process.pid), key)
    finally:
        process.kill()
        process.wait()
        log.close()


def post(server: Server, pieces, *, headers=None) -> http.client.HTTPResponse:
    """Send a chunked body and return the response."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=120)
    headers = {"Content-Type": TYPE, **server.headers, **(headers or {})}
    connection.request(
        "POST", "/dicomweb/studies", body=pieces, headers=headers, encode_chunked=True
    )
    return connection.getresponse()


def big_slide(folder: Path) -> Path:
    """Write a slide of which level 0 alone has more than 5 MB."""
    noise = np.random.default_rng(0).integers(0, 255, (1280, 1536, 3), dtype=np.uint8)
    rgb = (picture(1536, 1280) // 2 + noise // 2).astype(np.uint8)
    return write_dicom_slide(folder, rgb=rgb, levels=2, jpeg=False, patient_id="M1")


def test_a_large_chunked_store_by_dicomweb_client_arrives_whole(server, tmp_path):
    folder = big_slide(tmp_path / "slide")
    assert (folder / "level-0.dcm").stat().st_size > 5 * MIB
    datasets = [dcmread(file) for file in sorted(folder.iterdir())]
    client = DICOMwebClient(server.url, headers=server.headers)
    answer = client.store_instances(datasets)
    assert len(answer.ReferencedSOPSequence) == len(datasets)
    assert "FailedSOPSequence" not in answer
    sizes = set(UploadFile.objects.values_list("size_bytes", flat=True))
    for file in UploadFile.objects.all():
        assert files.spool_file(file).stat().st_size == file.size_bytes
    assert max(sizes) > 5 * MIB
    process_queued()
    image = SlideImage.objects.get()
    assert image.instances.count() == 2
    # The bytes that the client made of the datasets are those that were taken in.
    pixels = {bytes(dataset.PixelData) for dataset in datasets}
    stored_files = (files.slide_folder(image.pk) / i.file_name for i in image.instances.all())
    assert {bytes(dcmread(file).PixelData) for file in stored_files} == pixels


def test_a_store_holds_little_memory_and_a_lie_leaves_nothing(server, slide, data_dir):
    small = (slide / "level-2.dcm").read_bytes()
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    end = f"\r\n--{BOUNDARY}--\r\n".encode()
    assert post(server, iter([head, small, end])).status == 200
    before = server.peak_bytes()
    many = (bytes([n % 251]) * MIB for n in range(192))
    response = post(server, (piece for pieces in ([head], many, [end]) for piece in pieces))
    assert (response.status, b"not_dicom" in response.read()) == (409, True)
    assert server.peak_bytes() - before < 64 * MIB
    assert len(stored(data_dir, "spool")) == 1


def test_who_may_not_store_is_told_before_the_body(server, data_dir):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.putrequest("POST", "/dicomweb/studies")
    for name, value in {"Content-Type": TYPE, "Content-Length": str(10**9)}.items():
        connection.putheader(name, value)
    connection.endheaders()  # not a byte of the body follows
    response = connection.getresponse()
    assert response.status == 401
    assert stored(data_dir, "spool") == set()


def test_a_body_over_the_limit_and_one_that_ends_early(server, data_dir):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.putrequest("POST", "/dicomweb/studies")
    length = {"Content-Type": TYPE, "Content-Length": str(2 * 2**30), **server.headers}
    for name, value in length.items():
        connection.putheader(name, value)
    connection.endheaders(b"--b0undary\r\n")
    response = connection.getresponse()
    assert (response.status, b"request_too_large" in response.read()) == (413, True)
    # Announces more than it sends, and hangs up.
    with socket.create_connection((server.host, server.port)) as line:
        lines = ["POST /dicomweb/studies HTTP/1.1", "Host: localhost", "Content-Length: 100000"]
        lines += [f"{name}: {value}" for name, value in server.headers.items()]
        lines += [f"Content-Type: {TYPE}", "", f"--{BOUNDARY}", "", "half of it"]
        line.sendall("\r\n".join(lines).encode())
        time.sleep(0.5)
    for _try in range(100):
        if not stored(data_dir, "spool"):
            break
        time.sleep(0.1)
    assert stored(data_dir, "spool") == set()
    assert SlideUpload.objects.count() == 0


def test_killed_in_the_middle_of_a_store_nothing_is_stored_and_a_repeat_works(
    server, slide, data_dir, scanner
):
    instances = [file.read_bytes() for file in sorted(slide.iterdir())]
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()

    def until_killed():
        for instance in instances[:2]:
            yield head
            yield instance + b"\r\n"
        while not stored(data_dir, "spool"):
            time.sleep(0.05)
        time.sleep(0.2)
        os.kill(server.process.pid, signal.SIGKILL)
        yield head
        yield instances[2] * 100

    with pytest.raises((OSError, http.client.HTTPException)):
        post(server, until_killed())
    assert SlideUpload.objects.count() == 0
    (orphan,) = stored(data_dir, "spool")
    old = time.time() - 7200
    os.utime(data_dir / "spool" / orphan, (old, old))
    from cases.services.sweep import sweep_store
    from tests.cases.dicomweb.storing import store

    assert sweep_store() == [f"spool/{orphan}"]
    assert store(scanner, instances).status_code == 200
    process_queued()
    assert SlideImage.objects.get().instances.count() == len(instances)


def test_orthanc_stores_to_us_and_dicomweb_client_finds_it(server, slide, tmp_path):
    require_orthanc()
    servers = {"us": {"Url": f"{server.url}/", "HttpHeaders": server.headers}}
    with running_orthanc(tmp_path, servers=servers) as orthanc:
        ids = [orthanc.upload(file) for file in sorted(slide.iterdir())]
        orthanc.send("us", ids)
    process_queued()
    image = SlideImage.objects.get()
    assert image.instances.count() == len(ids)
    client = DICOMwebClient(server.url, headers=server.headers)
    query = {"AccessionNumber": "S26-1", "PatientName": "Doe*"}
    (study,) = client.search_for_studies(search_filters=query, fields=["StudyDescription"])
    assert study["0020000D"]["Value"] == [image.study_instance_uid]
    assert study["00201208"]["Value"] == [len(ids)]
    (series,) = client.search_for_series(image.study_instance_uid)
    assert series["0020000E"]["Value"] == [image.series_instance_uid]
    found = client.search_for_instances(image.study_instance_uid, image.series_instance_uid)
    uids = {item["00080018"]["Value"][0] for item in found}
    assert uids == set(image.instances.values_list("sop_instance_uid", flat=True))
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []
