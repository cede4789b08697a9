"""Against a real uvicorn: chunked bodies arrive whole, in constant memory, within the limit."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cases.models import UploadFile
from cases.services import store, tokens, uploads
from tests.cases.intake.test_crash import ROOT, worker_environment

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 2**20
LIMIT_MIB = 48


@pytest.fixture
def server(data_dir) -> Iterator[tuple[str, int, psutil.Process]]:
    """Return host, port and process of a web server on the test's database and folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (data_dir / "uvicorn.log").open("wb")
    command = ["uvicorn", "pathsearch_site.asgi:application", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--lifespan", "off"],
        cwd=ROOT,
        env={**worker_environment(data_dir), "PATHSEARCH_UPLOAD_CHUNK_MB": str(LIMIT_MIB)},
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
        yield "127.0.0.1", port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()
        log.close()


@pytest.fixture
def key(technician) -> str:
    return tokens.token_create(user=technician, name="t", scopes=["uploads:write"])[1]


@pytest.fixture
def upload_file(department, technician) -> UploadFile:
    files = [("a.svs", 100 * MIB)]
    return uploads.upload_create(user=technician, department=department, files=files).files.get()


def send(server, key, upload_file, pieces, *, offset=0, length=None) -> tuple[int, bytes]:
    """Send one PATCH: chunked, or with its length where one is given."""
    connection = http.client.HTTPConnection(*server[:2], timeout=120)
    headers = {
        "Authorization": f"Bearer {key}",
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
        **({"Content-Length": str(length)} if length else {"Transfer-Encoding": "chunked"}),
    }
    url = f"/api/v1/tus/{upload_file.pk}/"
    connection.request("PATCH", url, body=pieces, headers=headers, encode_chunked=not length)
    response = connection.getresponse()
    return response.status, response.read()


def test_a_chunked_body_arrives_whole(server, key, upload_file):
    data = [bytes([number]) * MIB for number in range(5)]
    status, body = send(server, key, upload_file, iter(data))
    assert status == 204, body
    assert store.spool_file(upload_file).read_bytes() == b"".join(data)
    upload_file.refresh_from_db()
    assert upload_file.offset_bytes == 5 * MIB


def test_a_large_piece_does_not_fill_the_memory(server, key, upload_file):
    send(server, key, upload_file, iter([b"x"]))
    before = server[2].memory_info().rss
    size = 40 * MIB
    status, body = send(
        server, key, upload_file, (b"x" * MIB for _ in range(40)), offset=1, length=size
    )
    assert status == 204, body
    # The highest mark that the process ever reached, not what it uses now.
    status_file = Path(f"/proc/{server[2].pid}/status").read_text()
    peak = int(status_file.split("VmHWM:")[1].split()[0]) * 1024
    assert peak - before < size / 2


def test_a_piece_over_the_limit_is_refused_before_anybody_looks(server, upload_file):
    too_much = (LIMIT_MIB + 2) * MIB
    for length in (too_much, None):
        pieces = (b"x" * MIB for _ in range(LIMIT_MIB + 2))
        try:
            status, body = send(server, "no key", upload_file, pieces, length=length)
        except (BrokenPipeError, ConnectionResetError):
            continue  # the server hung up on us in the middle, which is as good
        assert status == 413
        assert b"request_too_large" in body
    upload_file.refresh_from_db()
    assert upload_file.offset_bytes == 0
