"""Requests that no browser sends: hosts, headers, paths, smuggled bodies, bombs, slow patterns."""

import gzip
import io
import json
import re
import socket
import struct
import time
import zlib

import psutil
import pytest

from tests.attacks.site import HOST, AttackedSite

# A bound on hanging, far above what an answer takes: no claim of speed.
HANGS_SECONDS = 20


def raw(site: AttackedSite, sent: bytes, seconds: float = 4.0) -> bytes:
    """Send bytes as they are and return all that comes until the server closes or is silent."""
    got = b""
    with socket.create_connection(("127.0.0.1", site.port), timeout=seconds) as peer:
        peer.sendall(sent)
        peer.settimeout(1.0)
        try:
            while piece := peer.recv(65536):
                got += piece
        except (TimeoutError, ConnectionError):
            pass
    return got


def head(*lines: str, method: str = "POST", path: str = "/login/") -> bytes:
    """Return the head of a request."""
    start = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", "X-Forwarded-Proto: https"]
    return "\r\n".join([*start, *lines, "", ""]).encode()


SMUGGLED = b"GET /healthz/?smuggled HTTP/1.1\r\nHost: pathsearch.test\r\n\r\n"
AMBIGUOUS = {
    "length and chunked": head("Content-Length: 6", "Transfer-Encoding: chunked")
    + b"0\r\n\r\n"
    + SMUGGLED,
    "chunked and length": head("Transfer-Encoding: chunked", "Content-Length: 70")
    + b"0\r\n\r\n"
    + SMUGGLED,
    "two lengths": head("Content-Length: 0", f"Content-Length: {len(SMUGGLED)}") + SMUGGLED,
    "two chunked": head("Transfer-Encoding: chunked", "Transfer-Encoding: identity")
    + b"0\r\n\r\n"
    + SMUGGLED,
    "unknown coding": head("Transfer-Encoding: xchunked", "Content-Length: 0") + SMUGGLED,
    "space before the colon": head("Transfer-Encoding : chunked", "Content-Length: 0") + SMUGGLED,
    "folded": head("Transfer-Encoding:\r\n chunked", "Content-Length: 0") + SMUGGLED,
    "negative length": head("Content-Length: -1") + SMUGGLED,
    "signed length": head("Content-Length: +0") + SMUGGLED,
    "length in hex": head("Content-Length: 0x0") + SMUGGLED,
    "list of lengths": head(f"Content-Length: 0, {len(SMUGGLED)}") + SMUGGLED,
    "bad chunk size": head("Transfer-Encoding: chunked") + b"0x0\r\n\r\n" + SMUGGLED,
    "huge chunk size": head("Transfer-Encoding: chunked") + b"1" + b"0" * 40 + b"\r\n" + SMUGGLED,
    "null in a header": head("X-A: a\x00b", "Content-Length: 0") + SMUGGLED,
    "newline in a header": head("X-A: a\rContent-Length: 5", "Content-Length: 0") + SMUGGLED,
}


@pytest.mark.parametrize("how", AMBIGUOUS)
def test_an_ambiguous_body_hides_no_second_request(site, how):
    """A proxy may see one request where the server sees two: then none may be answered."""
    got = raw(site, AMBIGUOUS[how])
    assert b'"ok"' not in got, got
    assert len(re.findall(rb"HTTP/1\.1 200", got)) == 0, got
    assert len(re.findall(rb"HTTP/1\.1 \d{3}", got)) <= 1, got


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.test"},
        {"Host": f"{HOST}.evil.test"},
        {"Host": f"evil.test#{HOST}"},
        {"Host": f"{HOST}@evil.test"},
        {"Host": ""},
    ],
    ids=str,
)
def test_another_host_is_refused(site, headers):
    stranger = site.attacker("anonymous")
    for path in ("/login/", "/api/v1/schema/", "/", "/dicomweb/studies"):
        reply = stranger.ask("GET", path, headers=headers)
        assert reply.status == 400, (path, reply.status)
        assert "evil" not in reply.headers.get("location", "")


@pytest.mark.parametrize(
    "name", ["X-Forwarded-Host", "X-Host", "X-Original-Host", "Forwarded", "X-Forwarded-Server"]
)
def test_a_header_does_not_name_the_host(site, name):
    value = "host=evil.test" if name == "Forwarded" else "evil.test"
    actor = site.attacker("pathologist")
    for path in ("/", "/api/v1/cases/", "/login/", "/dicomweb/studies?limit=1", "/api/v1/schema/"):
        reply = actor.ask("GET", path, headers={name: value})
        assert "evil.test" not in reply.text, path
        assert "evil.test" not in str(reply.headers), path


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Original-URL": "/audit/"},
        {"X-Rewrite-URL": "/audit/"},
        {"X-HTTP-Method-Override": "DELETE"},
        {"X-Remote-User": "admin"},
        {"Remote-User": "admin"},
        {"X-Forwarded-User": "admin"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Authorization": "Basic YWRtaW46YWRtaW4="},
    ],
    ids=str,
)
def test_a_header_opens_nothing(site, headers):
    stranger = site.attacker("anonymous")
    before = stranger.ask("GET", "/")
    after = stranger.ask("GET", "/", headers=headers)
    assert (before.status, after.status) == (302, 302)
    assert stranger.ask("GET", "/api/v1/cases/", headers=headers).status == 401
    path = f"/api/v1/cohorts/{site.id('cohort', 'private')}/"
    assert site.attacker("partner").ask("POST", path, headers=headers).status in (404, 405)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../manage.py",
        "/static/..%2fmanage.py",
        "/static/%2e%2e/%2e%2e/etc/passwd",
        "/static/....//....//etc/passwd",
        "/static//etc/passwd",
        "/static/..%5c..%5cmanage.py",
        "//evil.test/%2e%2e",
        "/login/..;/admin/",
        "/%2e%2e/admin/",
        "/admin/..%00/",
        "/api/v1/..%2f..%2fadmin%2f",
        "/cases/%00/",
        "/secret_key",
        "/.env",
        "/.git/config",
        "/media/",
        "/debug/",
        "/__debug__/",
    ],
)
def test_no_path_leads_out(site, path):
    reply = site.attacker("anonymous").ask("GET", path)
    assert reply.status in (301, 302, 400, 404), (path, reply.status)
    assert b"root:" not in reply.body and b"DJANGO" not in reply.body
    location = reply.headers.get("location", "")
    assert not location.startswith("//") and "evil.test/" not in location.replace("%2F", "/")[:20]


def test_plain_http_is_sent_to_https(site):
    reply = site.attacker("anonymous").ask("GET", "/login/", headers={"X-Forwarded-Proto": "http"})
    assert reply.status == 301
    assert reply.headers["location"] == f"https://{HOST}/login/"


# --- bombs and slow patterns -------------------------------------------------------------------


def memory(site: AttackedSite) -> int:
    return psutil.Process(site.process.pid).memory_info().rss


def png_bomb(side: int = 30_000) -> bytes:
    """Return a PNG of side x side grey pixels that is small as a file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    line = zlib.compressobj(9)
    data = b"".join(line.compress(b"\0" * (side + 1)) for _row in range(side // 100))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    packed = data + line.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def multipart(fields: dict[str, str], name: str, file: bytes) -> tuple[bytes, dict[str, str]]:
    parts = b"".join(
        f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    )
    parts += b'--x\r\nContent-Disposition: form-data; name="image"; filename="'
    parts += name.encode() + b'"\r\nContent-Type: image/png\r\n\r\n' + file + b"\r\n--x--\r\n"
    return parts, {"Content-Type": "multipart/form-data; boundary=x"}


def test_an_image_bomb_is_refused(site):
    before = memory(site)
    body, headers = multipart({"image_mpp": "0.5"}, "bomb.png", png_bomb())
    reply = site.attacker("pathologist").ask("POST", "/api/v1/searches/", body, headers)
    assert 400 <= reply.status < 500, reply.text
    assert memory(site) - before < 400 * 2**20


DEEP = 100_000
BODIES = {
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "long number": b'{"limit": ' + b"9" * 200_000 + b"}",
    "infinity": b'{"image_weight": 1e400, "text": "a"}',
    "not a number": b'{"image_weight": NaN, "text": "a"}',
    "surrogate": b'{"text": "\\ud800"}',
    "null byte": b'{"text": "a\\u0000b"}',
    "not UTF-8": b'{"text": "\xff\xfe"}',
    "a number": b"1",
    "null": b"null",
    "nothing": b"",
    "packed": gzip.compress(b'{"text": "' + b"a" * 10**7 + b'"}'),
    "many keys": json.dumps({f"k{n}": n for n in range(50_000)}).encode(),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_hostile_body_is_refused_by_name(site, what):
    actor = site.attacker("token")
    for path in ("/api/v1/searches/", "/api/v1/cases/", "/api/v1/uploads/", "/api/v1/cohorts/"):
        kind = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        reply = actor.ask("POST", path, BODIES[what], kind)
        assert reply.status < 500, (path, reply.text[:300])


def test_a_hostile_form_is_refused_by_name(site):
    actor = site.attacker("pathologist")
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    bodies = [b"&".join(b"a%d=1" % n for n in range(5000)), b"text=%00", b"text=%ff", b"%%%=%"]
    for body in bodies:
        for path in ("/search/", "/uploads/new/", "/cohorts/new/", "/views/", "/login/"):
            assert actor.ask("POST", path, body, kind).status < 500, (path, body[:20])


SLOW = (
    "a" * 20_000,
    "a " * 10_000,
    '"' * 10_000,
    "(" * 10_000,
    "*?" * 5_000,
    "-" * 20_000,
    "1." * 5_000,
    "%25" * 5_000,
    "\\" * 20_000,
    "NOT " * 5_000 + "a",
    "0" * 20_000 + "x",
    "%00",
    "%FF%FE",
    "=" * 3_000,
)


def test_no_question_makes_a_pattern_run_away(site, figures):
    """Each query parameter of the API and of the lists, with what runs regular expressions hot."""
    schema = json.loads(site.attacker("anonymous").ask("GET", "/api/v1/schema/?format=json").body)
    questions = [
        (
            path,
            [one["name"] for one in operation["get"].get("parameters", []) if one["in"] == "query"],
        )
        for path, operation in schema["paths"].items()
        if "get" in operation and "{" not in path
    ]
    questions += [
        ("/", ["text", "q", "organ", "received_from", "order", "page"]),
        ("/search/", ["text", "slide_image", "x"]),
        (
            "/dicomweb/studies",
            ["PatientName", "StudyDate", "AccessionNumber", "includefield", "limit"],
        ),
        ("/audit/", ["patient", "user", "from", "page"]),
    ]
    actor, tried, slowest = site.attacker("department_administrator"), 0, 0.0
    for path, names in questions:
        for number, name in enumerate(names):
            for text in SLOW[number % 2 :: 2]:
                started = time.monotonic()
                reply = actor.ask("GET", f"{path}?{name}={text.replace(' ', '+')}")
                slowest = max(slowest, time.monotonic() - started)
                tried += 1
                assert reply.status < 500, (path, name, text[:20], reply.text[:200])
                assert time.monotonic() - started < HANGS_SECONDS, (path, name, text[:20])
    figures["hostile query values tried (slowest, s)"] = f"{tried} ({slowest:.2f})"


def test_a_zip_bomb_in_a_piece_of_an_upload_is_bytes_only(site):
    """Nothing that a web process does unpacks what came; the intake's limits have tests too."""
    packed = io.BytesIO(gzip.compress(b"\0" * 50_000_000))
    before = memory(site)
    path = f"/api/v1/tus/{site.id('upload_file', 'private')}/"
    kind = {
        "Content-Type": "application/offset+octet-stream",
        "Upload-Offset": "0",
        "Tus-Resumable": "1.0.0",
        "Content-Encoding": "gzip",
    }
    reply = site.attacker("token").ask("PATCH", path, packed.getvalue(), kind)
    assert 400 <= reply.status < 500, reply.status
    assert memory(site) - before < 100 * 2**20
