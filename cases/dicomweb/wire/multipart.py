"""Reads multipart/related bodies part by part, in constant memory (RFC 2046 5.1, RFC 2387).

The body is pulled: `read(n)` gives up to n bytes, fewer where fewer have come, none at the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

READ_BYTES = 1 << 20
MAX_PREAMBLE_BYTES = 64 * 1024
MAX_HEADER_BYTES = 16 * 1024
MAX_BOUNDARY_CHARS = 256  # RFC 2046 says 70; Orthanc sends 73

Read = Callable[[int], bytes]
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]*[0-9A-Za-z'()+_,\-./:=?]")


class MultipartError(Exception):
    """The body is not the multipart that it announces to be; `code` names how."""

    code = "bad_multipart"
    message = "The body is no multipart that can be read."

    def __init__(self, message: str = "") -> None:
        self.message = message or type(self).message
        super().__init__(self.message)


class TruncatedBodyError(MultipartError):
    """The body ends before its last boundary."""

    code = "truncated_body"
    message = "The body ends in the middle of a part. Nothing was stored; send it again."


class WrongBoundaryError(MultipartError):
    """The boundary of the Content-Type is missing, malformed or not the body's."""

    code = "wrong_boundary"
    message = "The boundary that the Content-Type names does not begin the body."


class PartHeaderError(MultipartError):
    """The header of a part is too large or cannot be read."""

    code = "bad_part_header"
    message = "The header of a part is too large or cannot be read."


class PartLengthError(MultipartError):
    """A part's own Content-Length says something else than came."""

    code = "part_length_mismatch"
    message = "A part has another length than its Content-Length says. Nothing was stored."


@dataclass
class Part:
    """One part. Read its `pieces` to the end before asking for the next part.

    Attributes
    ----------
    headers
        Names in lower case; of a repeated header the last one.
    pieces
        Its bytes, in pieces of at most about READ_BYTES.
    """

    headers: dict[str, str]
    pieces: Iterator[bytes] = field(repr=False)


class MultipartReader:
    """Iterates over the parts of a body.

    Parameters
    ----------
    read
        Gives the body.
    boundary
        Of the Content-Type.

    Raises
    ------
    WrongBoundaryError
        When the boundary is none; iterating raises any MultipartError.
    """

    def __init__(self, read: Read, boundary: str) -> None:
        if len(boundary) > MAX_BOUNDARY_CHARS or not _BOUNDARY.fullmatch(boundary):
            raise WrongBoundaryError("The Content-Type names no boundary that can be used.")
        self._read = read
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        # A body may begin with the boundary itself, without a line before it.
        self._buffer = bytearray(b"\r\n")
        self._at_end = False

    def __iter__(self) -> Iterator[Part]:
        self._skip_preamble()
        while not self._is_last():
            headers = self._headers()
            pieces = self._pieces(headers.get("content-length", ""))
            yield Part(headers, pieces)
            for _rest in pieces:
                pass
        # What follows the last boundary is to be ignored.
        while self._read(READ_BYTES):
            pass

    def _more(self) -> None:
        piece = self._read(READ_BYTES)
        if not piece:
            raise TruncatedBodyError
        self._buffer += piece

    def _skip_preamble(self) -> None:
        while (position := self._buffer.find(self._delimiter)) < 0:
            if len(self._buffer) > MAX_PREAMBLE_BYTES:
                raise WrongBoundaryError
            piece = self._read(READ_BYTES)
            if not piece:
                if not self._buffer.strip():
                    raise MultipartError("The body is empty.")
                raise WrongBoundaryError
            self._buffer += piece
        if position > MAX_PREAMBLE_BYTES:
            raise WrongBoundaryError
        del self._buffer[: position + len(self._delimiter)]

    def _is_last(self) -> bool:
        """Consume the rest of the boundary's line; return whether it was the last boundary."""
        while len(self._buffer) < 2:
            self._more()
        if self._buffer.startswith(b"--"):
            return True
        while (position := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > MAX_HEADER_BYTES:
                raise WrongBoundaryError
            self._more()
        if self._buffer[:position].strip(b" \t"):
            raise WrongBoundaryError("A line begins like the boundary and goes on otherwise.")
        # The line's end stays: a part without headers begins with an empty line.
        del self._buffer[:position]
        return False

    def _headers(self) -> dict[str, str]:
        while (position := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEADER_BYTES:
                raise PartHeaderError
            self._more()
        if position > MAX_HEADER_BYTES:
            raise PartHeaderError
        lines = bytes(self._buffer[:position]).decode("latin-1").split("\r\n")
        del self._buffer[: position + 4]
        headers: dict[str, str] = {}
        for line in filter(None, lines):
            name, colon, value = line.partition(":")
            if not colon or not name.strip():
                raise PartHeaderError
            headers[name.strip().lower()] = value.strip()
        return headers

    def _pieces(self, announced: str) -> Iterator[bytes]:
        if announced and not (announced.isascii() and announced.isdigit()):
            raise PartLengthError("The Content-Length of a part is no number.")
        size = 0
        hold = len(self._delimiter) - 1
        while (position := self._buffer.find(self._delimiter)) < 0:
            if len(self._buffer) > hold:
                piece = self._taken(len(self._buffer) - hold)
                size += len(piece)
                self._require_length(announced, size, is_whole=False)
                yield piece
            self._more()
        piece = self._taken(position)
        del self._buffer[: len(self._delimiter)]
        self._require_length(announced, size + len(piece), is_whole=True)
        if piece:
            yield piece

    def _taken(self, size: int) -> bytes:
        with memoryview(self._buffer) as view:
            piece = bytes(view[:size])
        del self._buffer[:size]
        return piece

    @staticmethod
    def _require_length(announced: str, size: int, *, is_whole: bool) -> None:
        if announced and (size > int(announced[:18]) or (is_whole and size != int(announced[:18]))):
            raise PartLengthError
