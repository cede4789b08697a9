"""Frames and metadata of benchmarks.dicomweb."""

import argparse
import gzip
import json
import random
from collections.abc import Callable, Sequence

from benchmarks.dicomweb_load import load, request_bytes
from benchmarks.dicomweb_pair import Pair, Server

JPEG = 'multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.50'
METADATA_CONNECTIONS = (1, 8)


def frames(both: Pair, options: argparse.Namespace) -> dict:
    """Frames a second of the finest level, one a request, drawn at random (fixed seed)."""
    sop_uid, count = both.levels[0]
    result: dict = {}
    for connections in options.connections:
        row = {}
        for server in (both.ours, both.theirs):
            base = f"{server.root}{both.series}/instances/{sop_uid}/frames"
            asked = _requests(
                server, [f"{base}/{n}" for n in range(1, count + 1)], {"Accept": JPEG}
            )
            done = load(server.host, server.port, connections, options.seconds, asked, _is_frame)
            row[server.name] = done.summary()
        row["ratio"] = _ratio(row)
        result[f"{connections} connections"] = row
    return result


def metadata(both: Pair, options: argparse.Namespace) -> dict:
    """Metadata of the whole series, gzip accepted."""
    result: dict = {}
    for connections in METADATA_CONNECTIONS:
        row = {}
        for server in (both.ours, both.theirs):
            headers = {"Accept": "application/dicom+json", "Accept-Encoding": "gzip"}
            asked = _requests(server, [f"{server.root}{both.series}/metadata"], headers)
            done = load(
                server.host,
                server.port,
                connections,
                options.seconds,
                asked,
                lambda *answer: _is_metadata(len(both.levels), *answer),
            )
            row[server.name] = done.summary()
        row["ratio"] = _ratio(row)
        result[f"{connections} connections"] = row
    return result


def _requests(
    server: Server, paths: Sequence[str], headers: dict[str, str]
) -> Callable[[int], Sequence[bytes]]:
    host = f"{server.host}:{server.port}"
    every = [request_bytes(host, path, {**server.headers, **headers}) for path in paths]

    def of_connection(number: int) -> Sequence[bytes]:
        return random.Random(number).sample(every, len(every))

    return of_connection


def _is_frame(status: int, headers: dict[str, str], body: bytes) -> None:
    if status != 200 or b"\xff\xd8" not in body[:1200] or b"\xff\xd9" not in body[-200:]:
        raise SystemExit(f"no frame: {status} {headers} {body[:300]!r}")


_seen: set[bytes] = set()


def _is_metadata(levels: int, status: int, headers: dict[str, str], body: bytes) -> None:
    if status != 200:
        raise SystemExit(f"no metadata: {status} {body[:300]!r}")
    key = body[:64] + body[-64:]
    if key in _seen:
        return
    _seen.add(key)  # looked into once for each kind of answer: the client is not measured
    text = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
    if len(json.loads(text)) < levels:
        raise SystemExit("metadata lacks instances")


def _ratio(row: dict) -> float:
    return round(row["pathsearch"]["per_second"] / row["orthanc"]["per_second"], 2)
