"""STOW of benchmarks.dicomweb: megabytes a second into each server, durably answered.

Each request holds several new instances (fresh UIDs, same length, written into the bytes), as one
multipart body with its length. Ours has flushed the bytes (fsync), read every header and
committed the rows when it answers; the slide is examined by a worker later, which does not run
here. Orthanc has written the files (its SyncStorageArea is on by default) and its index.
"""

import argparse
import http.client
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import numpy as np

from benchmarks.dicomweb_pair import Pair, Server

BOUNDARY = "stow-of-the-benchmark"
TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
_HEAD = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
_END = f"--{BOUNDARY}--\r\n".encode()
CONNECTIONS = (1, 4)
# Sides of raw square images: 0.2, 3 and 27 MB an instance.
KINDS = {"small instances": (256, 40), "middle instances": (1024, 10), "large instances": (3000, 3)}


def store(both: Pair, options: argparse.Namespace) -> dict:
    """Megabytes a second at 1 and 4 connections, for instances of three sizes."""
    result: dict = {}
    for kind, (side, count) in KINDS.items():
        template = _template(side)
        for connections in CONNECTIONS:
            row: dict = {"megabytes_an_instance": round(len(template.data) / 1e6, 1)}
            row["instances_a_request"] = count
            for server in (both.ours, both.theirs):
                for _number in range(2 * options.workers):
                    _send(server, template, 1)  # each process starts once what starts once
                row[server.name] = {
                    "MB_a_second": round(
                        _rate(server, template, count, connections, options.seconds), 1
                    )
                }
            ours, theirs = (row[s.name]["MB_a_second"] for s in (both.ours, both.theirs))
            row["ratio"] = round(ours / theirs, 2)
            result[f"{kind}, {connections} connections"] = row
    return result


class _Template:
    """An instance whose UIDs can be replaced in place."""

    def __init__(self, data: bytes, uids: list[bytes]) -> None:
        self.data, self._uids = data, uids

    def fresh(self) -> bytes:
        """Return it as another instance of another study."""
        data = bytearray(self.data)
        for uid in self._uids:
            new = _fresh_uid(len(uid))
            position = data.find(uid)
            while position >= 0:
                data[position : position + len(uid)] = new
                position = data.find(uid, position + len(uid), 1 << 16)
        return bytes(data)


def _fresh_uid(length: int) -> bytes:
    digits = f"{uuid4().int}{uuid4().int}"[: length - len("2.25.1")]
    return f"2.25.1{digits}".encode()


def _template(side: int) -> _Template:
    from tests.synthetic_slide import write_dicom_slide

    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        uids = [f"1.2.826.0.1.3680043.10.9999.{n}{'7' * 20}" for n in (1, 2)]
        slide = write_dicom_slide(
            Path(folder) / "s",
            rgb=noise,
            levels=1,
            jpeg=False,
            study_uid=uids[0],
            series_uid=uids[1],
        )
        (file,) = slide.iterdir()
        from pydicom import dcmread

        sop = str(dcmread(file, stop_before_pixels=True).SOPInstanceUID)
        return _Template(file.read_bytes(), [uid.encode() for uid in (*uids, sop)])


def _send(server: Server, template: _Template, count: int) -> int:
    """Send one request; returns its bytes."""
    instances = [template.fresh() for _ in range(count)]
    length = sum(len(_HEAD) + len(one) + 2 for one in instances) + len(_END)

    def pieces() -> Iterator[bytes]:
        for one in instances:
            yield _HEAD
            yield one
            yield b"\r\n"
        yield _END

    connection = http.client.HTTPConnection(server.host, server.port, timeout=600)
    headers = {
        "Content-Type": TYPE,
        "Content-Length": str(length),
        "Accept": "application/dicom+json",
        **server.headers,
    }
    connection.request("POST", f"{server.root}/studies", body=pieces(), headers=headers)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    if response.status != 200:
        raise SystemExit(f"{server.name}: {response.status} {answer[:500]!r}")
    return length


def _rate(
    server: Server, template: _Template, count: int, connections: int, seconds: float
) -> float:
    """Return MB a second over all connections, from the first byte to the last answer."""
    begun = time.monotonic()

    def run(_number: int) -> int:
        sent = 0
        while time.monotonic() - begun < seconds:
            sent += _send(server, template, count)
        return sent

    with ThreadPoolExecutor(connections) as pool:
        sent = sum(pool.map(run, range(connections)))
    return sent / 1e6 / (time.monotonic() - begun)
