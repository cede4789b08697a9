"""The wire between a web process and the encoder process: HTTP over a Unix socket.

A request's body, and an answer's, is a JSON header in one line, then raw array bytes: no
pickle, no copy through text. Both ends run on one machine, in little-endian order.
"""

import http.client
import json
import socket
from typing import Any

import numpy as np
import numpy.typing as npt

# Patches of one request: 32 of 224 px are 4.8 MB, 64 of 512 px are 50 MB.
MAX_REQUEST_BYTES = 64 * 1024**2
MAX_TEXTS = 1024
CONTENT_TYPE = "application/x-pathsearch-arrays"


class EncoderServerError(Exception):
    """The encoder process cannot be reached, or refused the request."""

    def __init__(self, message: str, code: str = "encoder_unavailable") -> None:
        self.message, self.code = message, code
        super().__init__(message)


def pack(header: dict[str, Any], raw: bytes = b"") -> bytes:
    """Return a message of a header and raw bytes."""
    return json.dumps(header).encode() + b"\n" + raw


def unpack(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Return header and raw bytes of a message. Raises ValueError."""
    line, newline, raw = message.partition(b"\n")
    header = json.loads(line)
    if not newline or not isinstance(header, dict):
        raise ValueError("the message has no header")
    return header, raw


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class EncoderClient:
    """Speaks to one encoder process.

    Parameters
    ----------
    path : str
        Its Unix socket.
    timeout : float
        Seconds to wait for an answer; the first one may load a model.
    """

    def __init__(self, path: str, timeout: float = 60.0) -> None:
        self.path, self.timeout = path, timeout

    def encode_patches(
        self, encoder: str, patches: npt.NDArray[np.uint8], *, batch: int = 32
    ) -> npt.NDArray[np.float32]:
        """Return float32 (N, D) features of uint8 patches (N, P, P, 3), batch by batch.

        Raises
        ------
        EncoderServerError
        """
        answers = []
        for start in range(0, max(1, len(patches)), batch):
            part = np.ascontiguousarray(patches[start : start + batch])
            header = {"encoder": encoder, "shape": part.shape}
            answers.append(self._post("/patches", pack(header, part.tobytes())))
        return np.concatenate(answers)

    def encode_texts(self, encoder: str, texts: list[str]) -> npt.NDArray[np.float32]:
        """Return float32 (n, D) vectors of the texts. Raises EncoderServerError."""
        return self._post("/texts", pack({"encoder": encoder, "texts": texts}))

    def _post(self, target: str, body: bytes) -> npt.NDArray[np.float32]:
        if len(body) > MAX_REQUEST_BYTES:
            raise EncoderServerError("The query is too large for the encoder.", "too_large")
        connection = _UnixConnection(self.path, self.timeout)
        try:
            connection.request("POST", target, body, {"Content-Type": CONTENT_TYPE})
            answer = connection.getresponse()
            header, raw = unpack(answer.read())
            if answer.status != 200:
                raise EncoderServerError(str(header.get("message")), str(header.get("code")))
            return np.frombuffer(raw, "<f4").reshape(header["shape"]).copy()
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise EncoderServerError("The encoder process does not answer.") from error
        finally:
            connection.close()
