"""Frames and metadata in front of Django: what a viewer asks hundreds of times in a second.

An ASGI application around Django's. It answers a GET of stored frames when one statement
(frame_rights) says that the caller may have them, the look is on record already and the file is
open; of metadata, when the same body was sent lately. Anything else, every error too, goes on to
Django, whose answer is the same: this door can only be faster, never say something of its own.
"""

import asyncio
import hashlib
import logging
import os
import re
import secrets
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Awaitable, Callable
from functools import lru_cache
from io import BytesIO
from typing import Any

import psycopg
from asgiref.sync import sync_to_async
from csp.middleware import CSPMiddleware
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils.crypto import salted_hmac
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from cases.dicomweb.frame_rights import COLUMNS, ROWS_MAX, compile_statements, statement
from cases.dicomweb.retrieve import METADATA_OFFERS, frames_etag, kept_metadata, takes_gzip
from cases.dicomweb.sending import cache_headers
from cases.dicomweb.served import PRIVATE_FLAVORS
from cases.dicomweb.wire.accept import choose, parse_accept
from cases.dicomweb.wire.frame_types import FrameAnswer, choose_frames
from cases.middleware import FILE_POLICY
from cases.models import ApiToken
from cases.row_scope import SYSTEM, words_of
from cases.services.instances import InstanceFile, open_instance_if_kept
from cases.services.looks import look_is_recorded
from cases.sign_on.limits import is_plain
from cases.wsi.uids import uuid_of

log = logging.getLogger(__name__)

MAX_FRAMES = 32
MAX_BYTES = 32 * 2**20
SESSIONS_KEPT = 10_000
_UID = "([0-9.]{1,64})"
_SERIES = rf"/dicomweb/studies/{_UID}/series/{_UID}"
_FRAMES = re.compile(
    rf"{_SERIES}/instances/{_UID}/frames/([0-9]{{1,9}}(?:,[0-9]{{1,9}}){{0,{MAX_FRAMES - 1}}})",
    re.ASCII,
)
_METADATA = re.compile(
    rf"/dicomweb/studies/{_UID}(?:/series/{_UID}(?:/instances/{_UID})?)?/metadata", re.ASCII
)
_LEFT_TO_DJANGO = frozenset((b"range", b"if-range", b"expect", b"x-forwarded-host"))
_SALT = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash"

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


Row = namedtuple("Row", COLUMNS)


class FrameDoor:
    """ASGI application that answers the plain case of frames and leaves the rest to `app`."""

    def __init__(self, app: App, *, connections: int) -> None:
        self.app = app
        self._connections = connections
        self._pool: AsyncConnectionPool | None = None
        self._opening = asyncio.Lock()
        self._sessions: OrderedDict[str, tuple[str, int, str, Scope]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._connections and scope["type"] == "http" and scope["method"] == "GET":
            answer = await self._answer(scope)
            if answer is not None:
                await _send(scope, send, *answer)
                return
        await self.app(scope, receive, send)

    async def _answer(self, scope: Scope) -> Any:
        """Return (status, headers, body), None to leave it to Django."""
        path = scope["path"]
        if not path.startswith("/dicomweb/studies/") or scope["query_string"]:
            return None
        frames = _FRAMES.fullmatch(path)
        metadata = None if frames else _METADATA.fullmatch(path)
        match = frames or metadata
        if match is None:
            return None
        headers = dict(scope["headers"])
        if not _LEFT_TO_DJANGO.isdisjoint(headers) or not _is_secure(scope, headers):
            return None
        names = ("study", "series", "sop")
        asked = {name: uid for name, uid in zip(names, match.groups(), strict=False) if uid}
        if metadata and uuid_of(asked["study"]) is not None:
            return None  # may be a virtual study, too
        try:
            if self._pool is None:
                await self._open()
            found = await self._rows(headers, asked)
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("left to Django: %s", type(error).__name__)
            return None
        if found is None:
            return None
        user_id, rows = found
        if any(row.is_veiled for row in rows):
            return None
        if not all(look_is_recorded(user_id, row.slide_image_id) for row in rows):
            return None
        if metadata:
            return _metadata_answer(scope, headers, rows, is_study="series" not in asked)
        numbers = [int(number) for number in match.group(4).split(",")]
        return await _frames_answer(headers, rows[0], numbers)

    async def _rows(self, headers: dict[bytes, bytes], asked: dict[str, str]) -> Any:
        """Return (user id, rows) when the caller is known and may have something of it."""
        if b"authorization" in headers:
            return await self._rows_by_token(headers[b"authorization"], asked)
        key = _cookie(headers.get(b"cookie", b""))
        return await self._rows_by_session(key, asked) if key else None

    async def _rows_by_token(self, authorization: bytes, asked: dict[str, str]) -> Any:
        scheme, _space, key = authorization.decode("latin-1").partition(" ")
        parts = key.strip().split("_", 2)
        if scheme.lower() != "bearer" or len(parts) != 3 or parts[0] != "ps":
            return None
        rows = await self._all(*statement("token", prefix=parts[1], **asked))
        who = rows[0][len(COLUMNS)] if rows else None
        if not who or not who["is_fresh"]:
            return None
        digest = hashlib.sha256(key.strip().encode()).hexdigest()
        if not secrets.compare_digest(who["key_sha256"], digest):
            return None
        if ApiToken.Scope.DICOMWEB_READ not in who["scopes"] or who["addresses"]:
            return None
        return who["user"], [Row(*row[: len(COLUMNS)]) for row in rows]

    async def _rows_by_session(self, key: str, asked: dict[str, str]) -> Any:
        known = self._sessions.get(key) or await self._read_session(key)
        if known is None:
            return None
        data, user_id, auth_hash, told = known
        if not is_plain(told):
            return None
        rows = await self._all(*statement("session", session=key, user=user_id, **asked))
        who = rows[0][len(COLUMNS)] if rows else None
        if not who:
            return None
        if rows[0][len(COLUMNS) + 1] != data:  # it ended, or somebody else signed in
            self._sessions.pop(key, None)
            return None
        if not secrets.compare_digest(auth_hash, _session_hash(who["hashed"])):
            return None
        return user_id, [Row(*row[: len(COLUMNS)]) for row in rows]

    async def _read_session(self, key: str) -> tuple[str, int, str, Scope] | None:
        """Return what the session says, and remember it: the same text says the same."""
        rows = await self._all(
            "SELECT session_data FROM django_session WHERE session_key = %s", [key]
        )
        if not rows:
            return None
        told = await sync_to_async(SessionStore().decode, thread_sensitive=False)(rows[0][0])
        if told.get(BACKEND_SESSION_KEY) not in settings.AUTHENTICATION_BACKENDS:
            return None
        known = (rows[0][0], int(told[SESSION_KEY]), told.get(HASH_SESSION_KEY, ""), told)
        self._sessions[key] = known
        while len(self._sessions) > SESSIONS_KEPT:
            self._sessions.popitem(last=False)
        return known

    async def _all(self, sql: str, parameters: Any) -> list[Any]:
        assert self._pool is not None
        async with self._pool.connection() as link:
            cursor = await link.execute(sql, parameters, prepare=True)
            return await cursor.fetchall()

    async def _open(self) -> None:
        async with self._opening:
            if self._pool is None:
                told = await sync_to_async(_prepared, thread_sensitive=False)()
                kept = {k: v for k, v in told.items() if k not in _DJANGOS_OWN}
                pool = AsyncConnectionPool(
                    kwargs={**kept, "autocommit": True},
                    min_size=1,
                    max_size=self._connections,
                    timeout=5,
                    open=False,
                    configure=_site_wide,
                )
                await pool.open()
                self._pool = pool


async def _site_wide(link: psycopg.AsyncConnection) -> None:
    """Open all rows to the statement, which finds out itself who asks and what they may see."""
    await link.execute(words_of(SYSTEM, is_on=settings.ROW_SECURITY))


_DJANGOS_OWN = frozenset(("cursor_factory", "context", "pool", "prepare_threshold"))


async def _frames_answer(headers: dict[bytes, bytes], row: Row, numbers: list[int]) -> Any:
    file = open_instance_if_kept(row.pk)
    if (
        row.flavor in PRIVATE_FLAVORS  # each look at those is an event of its own
        or file is None
        or not all(1 <= number <= row.frame_count for number in numbers)
    ):
        return None
    accept = headers.get(b"accept", b"").decode("latin-1")
    chosen = _chosen(accept, row.transfer_syntax_uid, len(numbers))
    if chosen is None or sum(map(file.table.size, numbers)) > MAX_BYTES:
        return None
    etag = frames_etag(row.sop_instance_uid, row.sha256[:20], numbers, chosen)
    kept = cache_headers(etag)
    if etag in headers.get(b"if-none-match", b"").decode("latin-1"):
        return 304, kept, b""
    bodies = [await _read(file, number) for number in numbers]
    if any(body is None for body in bodies):
        return None
    return 200, *_written(chosen, bodies, kept)


def _metadata_answer(
    scope: Scope, headers: dict[bytes, bytes], rows: list[Row], *, is_study: bool
) -> Any:
    """Return the body that Django sent lately for the same instances."""
    if len(rows) == ROWS_MAX or (is_study and any(row.has_derived for row in rows)):
        return None
    found: dict[str, str] = {}
    for row in rows:
        if row.flavor not in PRIVATE_FLAVORS or row.sees_label:
            found.setdefault(row.sop_instance_uid, row.sha256[:20])
    accept = headers.get(b"accept", b"").decode("latin-1")
    media_type = _chosen_metadata(accept)
    is_zipped = takes_gzip(headers.get(b"accept-encoding", b"").decode("latin-1"))
    # Only a host that Django has let in is the key of a kept body.
    scheme = "https" if _is_https(scope, headers) else "http"
    base = f"{scheme}://{headers.get(b'host', b'').decode('latin-1')}/dicomweb"
    kept = kept_metadata.get((tuple(found.items()), media_type, base, is_zipped))
    if kept is None:
        return None
    told, body = kept
    if told["ETag"] in headers.get(b"if-none-match", b"").decode("latin-1"):
        return 304, {name: told[name] for name in ("ETag", "Cache-Control", "Vary")}, b""
    return 200, told, body


@lru_cache(maxsize=256)
def _chosen_metadata(accept: str) -> str:
    found = choose(parse_accept(accept), METADATA_OFFERS)
    return found[0] if found else ""


def _prepared() -> dict[str, Any]:
    """Compile the statements, and return how Django connects to the database."""
    compile_statements()
    told = connection.get_connection_params()
    connection.close()
    return told


@lru_cache(maxsize=2)
def _site_headers(is_https: bool) -> tuple[tuple[bytes, bytes], ...]:
    """Return what the site's middleware adds to every answer, as it says itself."""
    scheme = "https" if is_https else "http"
    scope = {"method": "GET", "path": "/dicomweb/", "scheme": scheme, "headers": []}
    request, response = ASGIRequest(scope, BytesIO()), HttpResponse()
    del response.headers["Content-Type"]
    response.headers["Content-Security-Policy"] = FILE_POLICY
    for middleware in (XFrameOptionsMiddleware, CSPMiddleware, SecurityMiddleware):
        response = middleware(lambda _request: HttpResponse()).process_response(request, response)
    return tuple((name.lower().encode(), told.encode()) for name, told in response.items())


async def _send(
    scope: Scope, send: Send, status: int, headers: dict[str, str], body: bytes
) -> None:
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    if status == 200:
        lines.append((b"content-length", str(len(body)).encode()))
    lines += _site_headers(_is_https(scope, dict(scope["headers"])))
    lines.append((b"x-request-id", uuid.uuid4().hex.encode()))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


@lru_cache(maxsize=1024)
def _chosen(accept: str, syntax: str, count: int) -> FrameAnswer | None:
    """Return how frames are sent as they are, None where Django must decide or decode."""
    answer = choose_frames(parse_accept(accept), syntax, count, decodes=True)
    return None if answer is None or answer.is_decoded else answer


def _written(
    chosen: FrameAnswer, bodies: list[bytes], headers: dict[str, str]
) -> tuple[dict[str, str], bytes]:
    if not chosen.is_multipart:
        return {**headers, "Content-Type": chosen.part_type, "Accept-Ranges": "bytes"}, bodies[0]
    boundary = secrets.token_hex(16)
    pieces = []
    for body in bodies:
        pieces += [
            f"\r\n--{boundary}\r\nContent-Type: {chosen.part_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode(),
            body,
        ]
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    kind = f'multipart/related; type="{chosen.media_type}"; boundary={boundary}'
    return {**headers, "Content-Type": kind}, b"".join(pieces)


async def _read(file: InstanceFile, number: int) -> bytes | bytearray | None:
    """Return a frame: at once where the system has it in memory, else by a thread."""
    spans = file.table.spans(number)
    if len(spans) == 1:
        offset, length = spans[0]
        buffer = bytearray(length)
        try:
            if os.preadv(file.descriptor, [buffer], offset, os.RWF_NOWAIT) == length:
                return buffer
        except OSError:
            pass  # not in memory, or a file system that does not know the flag
    try:
        return await sync_to_async(file.read, thread_sensitive=False)(number)
    except Exception:  # Django's own try will say it properly
        return None


def _cookie(header: bytes) -> str:
    for pair in header.decode("latin-1").split(";"):
        name, _equals, value = pair.strip().partition("=")
        if name == settings.SESSION_COOKIE_NAME:
            return value if re.fullmatch(r"[a-z0-9]{8,40}", value) else ""
    return ""


@lru_cache(maxsize=1024)
def _session_hash(password: str) -> str:
    """Return AbstractBaseUser.get_session_auth_hash() for the stored password hash."""
    return salted_hmac(_SALT, password, algorithm="sha256").hexdigest()


def _is_secure(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Return whether SecurityMiddleware would let the request pass without a redirect."""
    return not settings.SECURE_SSL_REDIRECT or _is_https(scope, headers)


def _is_https(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Return what Django's request.is_secure() would."""
    if settings.SECURE_PROXY_SSL_HEADER:
        name, value = settings.SECURE_PROXY_SSL_HEADER
        told = headers.get(name.removeprefix("HTTP_").replace("_", "-").lower().encode())
        if told is not None:
            return told.decode("latin-1").split(",")[0].strip() == value
    return scope.get("scheme") == "https"
