"""Lets a view read a large body while it comes in.

Django's ASGI handler writes a whole body to a temporary file before the first middleware runs:
a store of slides would be written twice, and before anybody knows who sends it. For the routes
named here the view gets a file object that waits for the network; everything else (middleware,
authentication, errors) is Django's own way.
"""

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from threading import Condition
from typing import Any

from django.core.handlers.asgi import ASGIHandler

from cases.dicomweb.errors import BadDicomRequest, PayloadTooLarge
from cases.errors import DomainError
from pathsearch_site.body_limit import announced_bytes

HIGH_BYTES = 8 * 2**20
LOW_BYTES = 2 * 2**20
STALLED_SECONDS = 60.0
_STREAMED = re.compile(r"/dicomweb/studies(/[^/]+)?/?")

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class BodyStalled(DomainError):
    """The sender has stopped in the middle."""

    http_status = HTTPStatus.REQUEST_TIMEOUT
    code = "body_stalled"
    message = "Nothing more came of the request. Nothing was stored; send it again."


def is_streamed(scope: Scope) -> bool:
    """Return whether the body of this request is read while it comes."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    if not _STREAMED.fullmatch(scope["path"]):
        return False
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return len(kinds) == 1 and kinds[0].lower().startswith(b"multipart/related")


class LiveBody:
    """A body as a file for the view's thread; `receive` of the server fills it, no faster.

    Reading starts the transfer: a client that waits for "100 Continue" sends nothing to who may
    not store.
    """

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop, max_bytes: int) -> None:
        self._receive = receive
        self._loop = loop
        self._max_bytes = max_bytes
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._total = 0
        self._changed = Condition()
        self._resume = asyncio.Event()
        self._started = False
        self._ended = False
        self._error: Exception | None = None

    async def __call__(self) -> Message:
        """Stand in for `receive` after the body: a view that stores is not interrupted."""
        await asyncio.Event().wait()
        raise AssertionError("never reached")

    def read(self, size: int = -1) -> bytes:
        """Return what has come, up to `size` bytes; wait where nothing has. Empty at the end."""
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(HIGH_BYTES), b""))
        if not self._started:
            self._started = True
            asyncio.run_coroutine_threadsafe(self._pump(), self._loop)
        with self._changed:
            if not self._changed.wait_for(self._is_readable, timeout=STALLED_SECONDS):
                raise BodyStalled
            if not self._pieces and self._error is not None:
                raise self._error
            taken = self._take(size)
            if self._held <= LOW_BYTES:
                self._loop.call_soon_threadsafe(self._resume.set)
        return taken

    def refuse(self, error: Exception) -> None:
        """Let the first read raise this, and take nothing from the network."""
        self._started = True
        self._error = error

    def close(self) -> None:
        """Forget what was not read, and let nothing more in."""
        with self._changed:
            self._pieces.clear()
            self._held = 0
            self._ended = True
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._resume.set)

    def _is_readable(self) -> bool:
        return bool(self._pieces) or self._ended or self._error is not None

    def _take(self, size: int) -> bytes:
        taken, length = [], 0
        while self._pieces and length < size:
            piece = self._pieces.popleft()
            room = size - length
            if len(piece) > room:
                self._pieces.appendleft(piece[room:])
                piece = piece[:room]
            taken.append(piece)
            length += len(piece)
        self._held -= length
        return taken[0] if len(taken) == 1 else b"".join(taken)

    async def _pump(self) -> None:
        """Move the body from the server to the reader, waiting where the reader is slower."""
        while True:
            message = await self._receive()
            with self._changed:
                if message["type"] == "http.disconnect":
                    self._error = BadDicomRequest(
                        "The connection ended in the middle of the body.", code="truncated_body"
                    )
                piece = message.get("body", b"")
                self._total += len(piece)
                if self._total > self._max_bytes:
                    self._error = PayloadTooLarge()
                elif piece and not self._ended:
                    self._pieces.append(piece)
                    self._held += len(piece)
                self._ended = self._ended or not message.get("more_body", False)
                self._changed.notify_all()
                if self._ended or self._error is not None:
                    return
                is_full = self._held >= HIGH_BYTES
                if is_full:
                    self._resume.clear()
            if is_full:
                await self._resume.wait()


class StreamingHandler(ASGIHandler):
    """Django's handler, with bodies that are read while they come where `is_streamed`."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_streamed(scope):
            receive = LiveBody(receive, asyncio.get_running_loop(), self._max_bytes)
            if announced_bytes(scope) > self._max_bytes:
                receive.refuse(PayloadTooLarge())
        await super().handle(scope, receive, send)

    async def read_body(self, receive: Receive) -> Any:
        """Return the request's body as a file object."""
        return receive if isinstance(receive, LiveBody) else await super().read_body(receive)
