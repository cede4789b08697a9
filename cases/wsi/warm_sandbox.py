"""Check instances in children that fork from a warm server process.

A store answers per instance, so its headers must be read while the sender waits; starting
Python and the decoders for each request would take longer than the bytes. The server (see
cases.wsi.instance_check) has no secrets in its environment; its children have little memory, a
time limit per file, and cannot write. When one dies, its file is refused by name and another
child goes on with the rest.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from cases.wsi.errors import ParseCrashError
from cases.wsi.instance_facts import InstanceFacts
from cases.wsi.sandbox import ROOT, _environment

MAX_WAITING = 32
STARTUP_SECONDS = 60.0


class CheckServer:
    """The warm server of this process: started at the first job, again when it has died."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def job(self, *, memory_bytes: int, seconds: int) -> socket.socket:
        """Return the socket of a new child: paths in, facts out."""
        orders = json.dumps({"memory_bytes": memory_bytes, "seconds": seconds}).encode()
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                socket.send_fds(self._running(), [orders], [theirs.fileno()])
            except OSError:
                self._stop()
                socket.send_fds(self._running(), [orders], [theirs.fileno()])
        return ours

    @property
    def is_running(self) -> bool:
        """Return whether the server lives; its children may have died."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the server; the next job starts another."""
        with self._lock:
            self._stop()

    def _running(self) -> socket.socket:
        if self._control is not None and self.is_running:
            return self._control
        self._stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cases.wsi.instance_check", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
                env=_environment(),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._control = ours
        return ours

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()  # the server ends when this end is gone
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


class InstanceChecker:
    """Checks the instances of one request, in the order they come, while more are arriving.

    with InstanceChecker(server) as checker:
        checker.put(path)       # as often as there are files
        facts = checker.facts() # of all of them, in that order
    """

    def __init__(
        self,
        server: CheckServer,
        *,
        memory_bytes: int = 2**30,
        seconds: int = 30,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._server = server
        self._memory_bytes = memory_bytes
        self._seconds = seconds
        self._tick = tick
        self._waiting: deque[Path] = deque()
        self._facts: list[InstanceFacts] = []
        self._job: socket.socket | None = None
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def put(self, path: Path) -> None:
        """Have a file checked. It must stay until `facts` was called."""
        self._waiting.append(path)
        if self._job is None:
            self._open()
        else:
            self._send(path)
        while len(self._waiting) >= MAX_WAITING:
            self._take()

    def facts(self) -> list[InstanceFacts]:
        """Return the facts of every file, in the order they were put."""
        while self._waiting:
            self._tick()
            self._take()
        return self._facts

    def _open(self) -> None:
        self._job = self._server.job(memory_bytes=self._memory_bytes, seconds=self._seconds)
        # Patience for a server that has just started, and a machine that is busy.
        self._job.settimeout(self._seconds + STARTUP_SECONDS)
        self._rest = b""
        for path in self._waiting:
            self._send(path)

    def _send(self, path: Path) -> None:
        # A child that is gone is noticed where its answer is missing.
        with contextlib.suppress(OSError):
            assert self._job is not None
            self._job.sendall(os.fsencode(path) + b"\n")

    def _take(self) -> None:
        """Take in one answer; a child that gives none is to be replaced."""
        facts = self._answer()
        if facts is None:
            self._close()
            if not self._server.is_running:
                raise ParseCrashError("The server that checks instances ended by itself.")
            error = ParseCrashError("The reader stopped unexpectedly on this instance.")
            facts = InstanceFacts(code=error.code, message=error.message)
        self._facts.append(facts)
        self._waiting.popleft()
        if self._job is None and self._waiting:
            self._open()

    def _answer(self) -> InstanceFacts | None:
        assert self._job is not None
        try:
            while b"\n" not in self._rest:
                data = self._job.recv(1 << 16)
                if not data:
                    return None
                self._rest += data
        except OSError:
            return None
        line, _newline, self._rest = self._rest.partition(b"\n")
        return InstanceFacts.from_json(json.loads(line))

    def _close(self) -> None:
        if self._job is not None:
            self._job.close()
            self._job = None
