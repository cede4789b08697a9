"""Bodies of answers: streamed without ever being held whole, conditional, by range."""

import re
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseNotModified, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

MAX_AGE_SECONDS = 3600
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z", re.ASCII)
Part = tuple[str, int | None, Iterator[bytes]]
"""Content type, length if known, and the bytes of one part."""


def cache_headers(
    etag: str, *, is_immutable: bool = True, shows_label: bool = False
) -> dict[str, str]:
    """Return the headers that let a browser keep what never changes, for itself alone.

    Each look at a label is an event, so that none is kept.
    """
    kept = f"private, max-age={MAX_AGE_SECONDS}" if is_immutable else "private, no-cache"
    kept = "no-store" if shows_label else kept
    return {"ETag": etag, "Cache-Control": kept, "Vary": "Accept, Authorization, Cookie"}


def not_modified(request: Request, headers: dict[str, str]) -> HttpResponse | None:
    """Return 304 where the client has this version. Ask for rights and record before."""
    asked = request.headers.get("If-None-Match", "")
    if headers["ETag"] in asked.split(", ") or headers["ETag"] in asked:
        return HttpResponseNotModified(headers=headers)
    return None


def streamed(
    request: Request, pieces: Iterator[bytes], content_type: str, headers: dict[str, str]
) -> StreamingHttpResponse:
    """Return an answer that is read while it is sent."""
    is_async = isinstance(request._request, ASGIRequest)
    content: Any = _in_threads(pieces) if is_async else pieces
    return StreamingHttpResponse(content, content_type=content_type, headers=headers)


async def _in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read the pieces in a thread each, so that a slow disk stops nobody else."""
    read = sync_to_async(next, thread_sensitive=False)
    try:
        while (piece := await read(pieces, None)) is not None:
            yield piece
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


def multipart(
    request: Request, kind: str, parts: Sequence[Part], headers: dict[str, str]
) -> StreamingHttpResponse:
    """Return multipart/related (RFC 2387) of parts of one kind."""
    boundary = uuid.uuid4().hex
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\n".encode()
        + (f"Content-Length: {length}\r\n" if length is not None else "").encode()
        + b"\r\n"
        for content_type, length, _pieces in parts
    ]
    end = f"\r\n--{boundary}--\r\n".encode()

    def pieces() -> Iterator[bytes]:
        for head, (_type, _length, body) in zip(heads, parts, strict=True):
            yield head
            yield from body
        yield end

    lengths = [length for _type, length, _body in parts if length is not None]
    if len(lengths) == len(parts):
        total = sum(map(len, heads)) + sum(lengths) + len(end)
        headers = {**headers, "Content-Length": str(total)}
    root = kind.partition(";")[0]
    content_type = f'multipart/related; type="{root}"; boundary={boundary}'
    return streamed(request, pieces(), content_type, headers)


def single(
    request: Request, data: bytes, content_type: str, headers: dict[str, str]
) -> HttpResponse:
    """Return one body, or the range of it that was asked for (RFC 9110 14)."""
    headers = {**headers, "Accept-Ranges": "bytes"}
    span = asked_range(request, len(data), headers["ETag"])
    if span is None:
        return HttpResponse(data, content_type=content_type, headers=headers)
    if not span:
        return unsatisfiable(len(data))
    start, end = span
    headers |= {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
    return HttpResponse(data[start:end], status=206, content_type=content_type, headers=headers)


def unsatisfiable(size: int) -> HttpResponse:
    """Return 416: the range lies outside."""
    return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})


def asked_range(request: Request, size: int, etag: str) -> tuple[int, int] | tuple[()] | None:
    """Return (start, end) of the asked range; () when it lies outside; None for the whole.

    Several ranges, and a range of an older version (If-Range), are answered with the whole.
    """
    match = _RANGE.match(request.headers.get("Range", "").strip())
    if match is None or request.headers.get("If-Range", etag) != etag:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        length = min(int(last), size)
        return (size - length, size) if length else ()
    start, end = int(first), min(size, int(last) + 1) if last else size
    if last and int(last) < start:
        return None
    return (start, end) if start < size else ()


def ranged_file(
    request: Request, one: Any, content_type: str, headers: dict[str, str]
) -> HttpResponseBase:
    """Return a DicomObject's file as the whole body, or the asked range of it."""
    size = one.size_bytes
    if size is None:
        return streamed(request, one.pieces(), content_type, headers)
    headers = {**headers, "Accept-Ranges": "bytes"}
    span = asked_range(request, size, headers["ETag"])
    if span == ():
        return unsatisfiable(size)
    start, end = span or (0, size)
    headers["Content-Length"] = str(end - start)
    response = streamed(request, one.pieces(start, end), content_type, headers)
    if span:
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return response
