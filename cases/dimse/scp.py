"""The server: which contexts it accepts, its folders, its threads, its end."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
import resource
import ssl
import tempfile
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pynetdicom
from django.conf import settings
from django.db import connection
from pydicom.uid import VLWholeSlideMicroscopyImageStorage
from pynetdicom import AE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from cases.dimse.answers import answer_all
from cases.dimse.bounded import BoundedServer, Bounds
from cases.dimse.handlers import Handlers
from cases.dimse.peers import PeerBook
from cases.services import store
from cases.services.network import batches_close
from cases.wsi.formats import readable_transfer_syntaxes

log = logging.getLogger(__name__)

LOOP_SECONDS = 1.0
M_ARENA_MAX = -8
THREAD_STACK_BYTES = 1 << 20
LOCK = "lock"


def limit_memory(limit_bytes: int) -> None:
    """Bound the address space of this process: a thread that wants more fails, nothing else.

    Call it before threads are started.
    """
    with contextlib.suppress(OSError, AttributeError):
        # glibc reserves 64 MiB of addresses for each thread's arena.
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)
    threading.stack_size(THREAD_STACK_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def server_tls() -> ssl.SSLContext | None:
    """Return the server's TLS by the settings; with a CA, peers must show its certificates."""
    if not settings.DICOM_TLS_CERTIFICATE:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.DICOM_TLS_CERTIFICATE, settings.DICOM_TLS_KEY or None)
    if settings.DICOM_TLS_CA:
        context.load_verify_locations(settings.DICOM_TLS_CA)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls() -> ssl.SSLContext | None:
    """Return the TLS for answers: our certificate, and the CA that the peers' must be of."""
    if not settings.DICOM_TLS_CERTIFICATE:
        return None
    context = ssl.create_default_context(cafile=settings.DICOM_TLS_CA or None)
    context.check_hostname = False  # peers are known by address; their CA is ours
    context.load_cert_chain(settings.DICOM_TLS_CERTIFICATE, settings.DICOM_TLS_KEY or None)
    return context


class Scp:
    """The running server. start() returns at once; stop() ends it."""

    def __init__(self) -> None:
        self.peers = PeerBook()
        self.handlers = Handlers(settings.DICOM_AE_TITLE, self.peers)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._incoming = _Incoming(settings.DATA_DIR / "dimse")
        self._server: BoundedServer | None = None

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        assert self._server is not None
        return self._server.server_address[1]

    def start(self) -> None:
        """Listen and serve."""
        self.peers.refresh()
        # Instances go to files as they come, in a folder of ours beside the spool.
        pynetdicom._config.STORE_RECV_CHUNKED_DATASET = True
        pynetdicom._config.LOG_HANDLER_LEVEL = "none"
        tempfile.tempdir = str(self._incoming.path)
        ae = AE(ae_title=settings.DICOM_AE_TITLE)
        ae.maximum_pdu_size = settings.DICOM_MAX_PDU_BYTES
        ae.maximum_associations = settings.DICOM_MAX_ASSOCIATIONS
        seconds = settings.DICOM_TIMEOUT_SECONDS
        ae.acse_timeout, ae.dimse_timeout, ae.network_timeout = min(seconds, 15), seconds, seconds
        ae.add_supported_context(Verification)
        ae.add_supported_context(VLWholeSlideMicroscopyImageStorage, readable_transfer_syntaxes())
        ae.add_supported_context(StorageCommitmentPushModel)
        self._server = ae.make_server(
            (settings.DICOM_HOST, settings.DICOM_PORT),
            ssl_context=server_tls(),
            evt_handlers=self.handlers.events(),
            server_class=BoundedServer,
            bounds=Bounds(
                max_pdu_bytes=settings.DICOM_MAX_PDU_BYTES,
                max_instance_bytes=settings.UPLOAD_MAX_BYTES,
                max_connections=2 * settings.DICOM_MAX_ASSOCIATIONS,
                patience_seconds=seconds,
            ),
            is_listed=self.peers.is_listed,
            on_progress=self.handlers.on_progress,
        )
        ae._servers.append(self._server)
        tls = client_tls()
        self._run("accept", lambda: self._server.serve_forever(0.2))
        self._run("batches", lambda: self._repeat(self._keep))
        self._run("answers", lambda: self._repeat(lambda: answer_all(tls)))

    def _run(self, name: str, target: Callable[[], object]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _repeat(self, act: Callable[[], object]) -> None:
        """Do it again and again; the database may be away for a while."""
        while not self._stopping.is_set():
            try:
                act()
            except Exception as error:
                log.error("%s: %s", threading.current_thread().name, type(error).__name__)
                connection.close()
            self._stopping.wait(LOOP_SECONDS)
        connection.close()

    def _keep(self) -> None:
        self.peers.refresh()
        busy = self.handlers.busy_peers(settings.DICOM_TIMEOUT_SECONDS)
        batches_close(quiet_seconds=settings.DICOM_QUIET_SECONDS, busy=busy)

    def stop(self) -> None:
        """Accept nothing more and end the associations; what was acknowledged is kept."""
        self._stopping.set()
        if self._server is not None:
            for association in self._server.active_associations:
                association.abort()
            self._server.shutdown()
        for thread in self._threads:
            thread.join(timeout=10)
        tempfile.tempdir = None
        self._incoming.remove()


class _Incoming:
    """The folder of half-received files of this process; those of dead ones are removed."""

    def __init__(self, base: Path) -> None:
        base.mkdir(parents=True, exist_ok=True)
        for other in base.iterdir():
            if _is_dead(other):
                store.remove(other)
        self.path = base / str(uuid.uuid4())
        self.path.mkdir(mode=0o700)
        self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove the folder; nothing in it was acknowledged."""
        os.close(self._lock)
        store.remove(self.path)


def _is_dead(folder: Path) -> bool:
    """Return whether the process that received into this folder is gone."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
