"""pynetdicom's upper layer with bounds on what a peer can make it hold.

pynetdicom 3.0.4 reads as many bytes as a PDU announces (4 GiB) before it knows who sends, waits
for them without end, shakes TLS hands in the loop that accepts connections, and collects
command sets of any length. Here each of these has a limit, checked before the bytes are read.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connections
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

log = logging.getLogger(__name__)

A_ASSOCIATE_RQ, P_DATA_TF = 0x01, 0x04
# 128 presentation contexts with thirty transfer syntaxes each take 150 KB.
MAX_ASSOCIATE_BYTES = 256 * 2**10
MAX_OTHER_BYTES = 64
MAX_COMMAND_BYTES = 64 * 2**10
# Datasets kept in memory: a storage commitment request takes about 150 bytes an instance.
MAX_MESSAGE_BYTES = 8 * 2**20
MAX_WAITING_MESSAGES = 2
MAX_THREADS = 256
SPACE_CHECK_BYTES = 16 * 2**20
INVALID_PDU_PARAMETER = 0x06
PROVIDER = 0x02


@dataclass(frozen=True)
class Bounds:
    """Limits of one server. patience_seconds: for the whole of one PDU, or of a handshake."""

    max_pdu_bytes: int
    max_instance_bytes: int
    max_connections: int
    patience_seconds: float


class TooMuch(Exception):
    """A peer sent more than it may."""


class BoundedSocket(AssociationSocket):
    """Reads a PDU's bytes in large pieces, all of them before the deadline."""

    def recv(self, nr_bytes: int) -> bytearray:
        deadline = time.monotonic() + self.assoc._server.bounds.patience_seconds
        buffer = bytearray(nr_bytes)
        view, got = memoryview(buffer), 0
        while got < nr_bytes:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("the peer is too slow")
            self.socket.settimeout(remaining)
            count = self.socket.recv_into(view[got:])
            if not count:
                break
            got += count
        view.release()
        del buffer[got:]
        return buffer


class BoundedUpperLayer(DULServiceProvider):
    """Checks the length of a PDU before its body is read."""

    def _limit(self, pdu_type: int) -> int:
        if pdu_type == P_DATA_TF:
            return self.assoc._server.bounds.max_pdu_bytes
        return MAX_ASSOCIATE_BYTES if pdu_type == A_ASSOCIATE_RQ else MAX_OTHER_BYTES

    def _is_transport_event(self) -> bool:
        # Only requests that were answered make room for more: the peer waits, not our memory.
        if self.assoc.dimse.msg_queue.qsize() >= MAX_WAITING_MESSAGES:
            return False
        return super()._is_transport_event()

    def _read_pdu_data(self) -> None:
        try:
            head = self.socket.recv(6)
            if len(head) < 6:
                self.event_queue.put("Evt17")  # connection closed
                return
            length = int.from_bytes(head[2:], "big")
            if length > self._limit(head[0]):
                self._refuse(f"a PDU of type {head[0]} announces {length} bytes")
                return
            if not 1 <= head[0] <= 7:
                self.event_queue.put("Evt19")  # unrecognised PDU
                return
            body = self.socket.recv(length)
        except OSError as error:
            log.info("connection lost or too slow: %s", type(error).__name__)
            self.event_queue.put("Evt17")
            return
        if len(body) < length:
            self.event_queue.put("Evt17")
            return
        try:
            pdu, event = self._decode_pdu(head + body)
        except Exception as error:
            self._refuse(f"a PDU cannot be decoded ({type(error).__name__})")
            return
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)

    def _refuse(self, why: str) -> None:
        """Abort and hang up: what follows on this connection cannot be told apart."""
        log.warning("association aborted: %s", why)
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = PROVIDER, INVALID_PDU_PARAMETER
        with contextlib.suppress(OSError):
            self.socket.send(abort.encode())
        self.socket.close()
        self.assoc.is_aborted = True
        self.assoc.is_established = False
        self.assoc._kill = True
        self._kill_thread = True


class BoundedMessages(DIMSEServiceProvider):
    """Bounds command sets, datasets in memory and instances on disk."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self._command_bytes = self._data_bytes = self._checked_bytes = 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take in the parts of a message (see DIMSEServiceProvider)."""
        try:
            self._count(primitive)
            if threading.active_count() > MAX_THREADS:
                raise TooMuch("too many requests at once")
        except TooMuch as error:
            self.assoc.dul._refuse(str(error))
            return
        super().receive_primitive(primitive)
        if self.message is None:
            self._command_bytes = self._data_bytes = self._checked_bytes = 0

    def _count(self, primitive: P_DATA) -> None:
        for _context, data in primitive.presentation_data_value_list:
            if data[0] & 1:
                self._command_bytes += len(data)
            else:
                self._data_bytes += len(data)
        server = self.assoc._server
        to_file = self.message is not None and self.message._data_set_file is not None
        limit = server.bounds.max_instance_bytes if to_file else MAX_MESSAGE_BYTES
        if self._command_bytes > MAX_COMMAND_BYTES or self._data_bytes > limit:
            raise TooMuch("a message is larger than is allowed")
        if to_file and self._data_bytes - self._checked_bytes > SPACE_CHECK_BYTES:
            self._checked_bytes = self._data_bytes
            server.on_progress(self.assoc)

    def discard(self) -> None:
        """Remove the files of messages that nobody will handle any more."""
        paths = [self.message._data_set_path] if self.message is not None else []
        while not self.msg_queue.empty():
            _context, request = self.msg_queue.get_nowait()
            paths.append(getattr(request, "_dataset_path", None))
        for path in filter(None, paths):
            with contextlib.suppress(OSError):
                Path(path).unlink()


class BoundedAssociation(Association):
    """An acceptor's association made of the bounded parts. peer: set when it is known."""

    def __init__(self, ae: Any, mode: str) -> None:
        super().__init__(ae, mode)
        self.peer: Any = None
        self.dul = BoundedUpperLayer(self)
        self.dul.daemon = True
        self.dimse = BoundedMessages(self)
        # Their timers are the new upper layer's.
        self.acse_timeout, self.network_timeout = ae.acse_timeout, ae.network_timeout

    def run(self) -> None:
        """Serve until the end, then give back files and the thread's database connection."""
        try:
            super().run()
        finally:
            self.dul.kill_dul()
            self.dimse.discard()
            connections.close_all()


class BoundedRequestHandler(RequestHandler):
    """Makes bounded associations of accepted connections."""

    def _create_association(self) -> Association:
        # As in pynetdicom, which names its classes itself.
        server, ae = self.server, self.ae
        assoc = BoundedAssociation(ae, "acceptor")
        assoc._server = server
        assoc.name = f"AcceptorThread@{self.client_address[0]}"
        assoc.set_socket(BoundedSocket(assoc, client_socket=self.request))
        assoc.acceptor.maximum_length = ae.maximum_pdu_size
        assoc.acceptor.ae_title = server.ae_title
        assoc.acceptor.address_info = self.local
        assoc.acceptor.implementation_class_uid = ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = ae.implementation_version_name
        assoc.acceptor.supported_contexts = deepcopy(server.contexts)
        assoc.requestor.address_info = self.remote
        for event, handlers in server._handlers.items():
            if event.is_intervention and handlers:
                assoc.bind(event, *handlers)
            elif not event.is_intervention:
                for handler in handlers:
                    assoc.bind(event, handler[0], handler[1])
        return assoc


class BoundedServer(ThreadedAssociationServer):
    """Accepts connections from listed addresses only, and not more than it can serve.

    Parameters
    ----------
    bounds
        Its limits.
    is_listed
        Returns whether a connection from this address may be served at all.
    on_progress
        Called with the association every 16 MiB of an instance; raises TooMuch to abort.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        *args: Any,
        bounds: Bounds,
        is_listed: Callable[[str], bool],
        on_progress: Callable[[Association], None],
        **kwargs: Any,
    ) -> None:
        self.bounds, self.is_listed, self.on_progress = bounds, is_listed, on_progress
        self._handshakes = threading.Semaphore(bounds.max_connections)
        super().__init__(*args, request_handler=BoundedRequestHandler, **kwargs)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; the handshake of TLS is left to a thread of its own."""
        connection, address = self.socket.accept()
        connection.settimeout(self.bounds.patience_seconds)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether to serve the connection; it is closed at once otherwise."""
        if not self.is_listed(client_address[0]):
            log.warning("connection from an address that no active peer has")
            return False
        if len(self.active_associations) >= self.bounds.max_connections:
            log.warning("connection refused: %d are open", self.bounds.max_connections)
            return False
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve the connection in a thread, unless too many shake hands already."""
        if not self._handshakes.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands where TLS is on, then start the association."""
        try:
            if self.ssl_context:
                request = self.ssl_context.wrap_socket(request, server_side=True)
            self.finish_request(request, client_address)
        except (OSError, ssl.SSLError) as error:
            log.warning("connection refused: %s", type(error).__name__)
            self.shutdown_request(request)
        except Exception as error:
            log.error("a connection broke: %s", type(error).__name__)
            self.shutdown_request(request)
        finally:
            self._handshakes.release()
