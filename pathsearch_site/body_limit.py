"""Bounds what a request may send before anybody has looked at who sends it.

Django's ASGI handler writes the whole body to a temporary file before the first middleware
runs, so without this a stranger could fill the disk. Slides come in pieces (tus), each of
which fits.
"""

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PROBLEM = {
    "type": "about:blank",
    "title": HTTPStatus.REQUEST_ENTITY_TOO_LARGE.phrase,
    "status": 413,
    "code": "request_too_large",
    "detail": "The request is too large. Send files in pieces (tus), each within the limit.",
}


class _TooLarge(Exception):
    """The body went past the limit."""


class BodyLimit:
    """ASGI application that answers 413 to requests whose body is larger than `max_bytes`.

    exempt: tells the requests whose body is bounded elsewhere, while it is read.
    """

    def __init__(
        self, app: App, max_bytes: int, exempt: Callable[[Scope], bool] = lambda _scope: False
    ) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.exempt = exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.exempt(scope):
            await self.app(scope, receive, send)
            return
        if announced_bytes(scope) > self.max_bytes:
            await _refuse(send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise _TooLarge
            return message

        try:
            await self.app(scope, counted, send)
        except _TooLarge:
            # The body is read before anything is answered, so the answer is still ours.
            await _refuse(send)


def announced_bytes(scope: Scope) -> int:
    """Return the Content-Length of a request, 0 where it has none."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


async def _refuse(send: Send) -> None:
    body = json.dumps(_PROBLEM).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
