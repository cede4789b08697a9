"""The encoder process: encodes queries for the web processes, over a Unix socket.

Web processes then need no torch, and a GPU serves all of them. Speaks the small protocol of
retrieval.engine.encoder_client. Models load at their first use; `/healthz` answers at once.
"""

import logging
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.engine.encoder_client import (
    CONTENT_TYPE,
    MAX_REQUEST_BYTES,
    MAX_TEXTS,
    pack,
    unpack,
)
from retrieval.engine.encoders import (
    IMAGE_ENCODERS,
    ImageEncoder,
    TextEncoder,
    load_image_encoder,
    load_text_encoder,
)
from retrieval.engine.errors import EngineError, UnknownEncoder

log = logging.getLogger(__name__)

# Seconds that a client may be silent in the middle of a request.
_SOCKET_TIMEOUT = 30


class BadRequest(ValueError):
    """A request that no encoder can answer."""


class EncoderService:
    """The loaded encoders; one request at a time runs on the device."""

    def __init__(
        self,
        device: str = "auto",
        threads: int = 0,
        precision: str = "auto",
        compiled: bool = False,
    ) -> None:
        self._runtime = (device, threads, precision, compiled)
        self._image: dict[str, ImageEncoder] = {}
        self._text: dict[str, TextEncoder] = {}
        self._lock = threading.Lock()

    def preload(self, image: str | None, text: str | None) -> None:
        """Load encoders before the first request."""
        with self._lock:
            if image:
                self._image_encoder(image)
            if text:
                self._text_encoder(text)

    def loaded(self) -> list[str]:
        """Return the names of the encoders in memory."""
        return sorted([*self._image, *self._text])

    def patches(self, header: dict[str, Any], raw: bytes) -> np.ndarray:
        """Return features of the patches in a request."""
        shape = header.get("shape")
        spec = IMAGE_ENCODERS[str(header.get("encoder"))]
        expected = [spec.patch_px, spec.patch_px, 3]
        if not isinstance(shape, list) or len(shape) != 4 or shape[1:] != expected:
            raise BadRequest(f"shape must be [n, {spec.patch_px}, {spec.patch_px}, 3]")
        if type(shape[0]) is not int or shape[0] < 0 or len(raw) != int(np.prod(shape)):
            raise BadRequest("shape and bytes disagree")
        pixels = np.frombuffer(raw, np.uint8).reshape(shape)
        with self._lock:
            return self._image_encoder(spec.name).encode(pixels)

    def texts(self, header: dict[str, Any], raw: bytes) -> np.ndarray:
        """Return vectors of the texts in a request."""
        texts = header.get("texts")
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise BadRequest("texts must be a list of text")
        if len(texts) > MAX_TEXTS:
            raise BadRequest(f"at most {MAX_TEXTS} texts in one request")
        with self._lock:
            return self._text_encoder(str(header.get("encoder"))).encode(texts)

    def _image_encoder(self, name: str) -> ImageEncoder:
        if name not in self._image:
            self._image[name] = load_image_encoder(name, *self._runtime)
        return self._image[name]

    def _text_encoder(self, name: str) -> TextEncoder:
        if name not in self._text:
            self._text[name] = load_text_encoder(name, *self._runtime)
        return self._text[name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SOCKET_TIMEOUT
    server: "EncoderServer"

    def do_GET(self) -> None:
        if self.path != "/healthz":
            self._refuse(404, "not_found", "There is no such address.")
            return
        self._answer(200, {"status": "ok", "loaded": self.server.service.loaded()})

    def do_POST(self) -> None:
        service = self.server.service
        work: Callable[[dict[str, Any], bytes], np.ndarray] | None = {
            "/patches": service.patches,
            "/texts": service.texts,
        }.get(self.path)
        length = self.headers.get("Content-Length", "")
        if work is None:
            self._refuse(404, "not_found", "There is no such address.")
        elif not length.isdecimal():
            self._refuse(411, "length_required", "Content-Length is needed.")
        elif int(length) > self.server.max_request_bytes:
            self._refuse(413, "too_large", "The request is too large.")
        else:
            self._run(work, self.rfile.read(int(length)))

    def _run(self, work: Callable[[dict[str, Any], bytes], np.ndarray], body: bytes) -> None:
        try:
            header, raw = unpack(body)
            array = np.ascontiguousarray(work(header, raw), "<f4")
        except UnknownEncoder as error:
            self._refuse(404, error.code, error.message)
        except EngineError as error:
            log.error("%s: %s", error.code, error.message)
            self._refuse(503, error.code, error.message)
        except ValueError as error:
            self._refuse(400, "bad_request", str(error))
        except Exception:
            # One request must not end the process; its content stays out of the log.
            log.exception("encoding failed")
            self._refuse(500, "encoder_failed", "The encoder failed; its log has the error.")
        else:
            self._answer(200, {"shape": array.shape}, array.tobytes())

    def _refuse(self, status: int, code: str, message: str) -> None:
        # The body may be unread: this connection serves no further request.
        self.close_connection = True
        self._answer(status, {"code": code, "message": message})

    def _answer(self, status: int, header: dict[str, Any], raw: bytes = b"") -> None:
        body = pack(header, raw)
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *arguments: Any) -> None:
        log.debug(format, *arguments)


class EncoderServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """HTTP on a Unix socket that only this user may open."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        path: Path,
        service: EncoderService,
        *,
        max_request_bytes: int = MAX_REQUEST_BYTES,
    ) -> None:
        self.service, self.max_request_bytes = service, max_request_bytes
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # A socket file that a killed process left behind.
        path.unlink(missing_ok=True)
        super().__init__(str(path), _Handler)
        path.chmod(0o600)

    def server_close(self) -> None:
        super().server_close()
        self.path.unlink(missing_ok=True)
