"""Examine a delivery in a child process that may die without harm.

Decoders are large C libraries that read what strangers sent. The child has little memory, no
secrets in its environment, and is ended when it stays silent for too long. When it dies, the
file it was at is refused by name and another child goes on with the rest.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cases.wsi.delivery import Delivery, FoundSlide, Limits, RefusedFile
from cases.wsi.errors import (
    ParseCrashError,
    ParseMemoryError,
    ParseTimeoutError,
    WsiError,
)

CHILD = (sys.executable, "-m", "cases.wsi.examine")
ROOT = Path(__file__).resolve().parents[2]
STARTUP_SECONDS = 60.0
"""Extra patience before the first sign of life: a busy machine imports slowly."""

MAX_EVENT_BYTES = 64 * 2**20
MAX_DEATHS_BETWEEN_ITEMS = 2
_MEMORY_WORDS = (b"MemoryError", b"Cannot allocate", b"failed to allocate", b"bad_alloc")


@dataclass
class _Findings:
    """What the children have told so far."""

    slides: list[FoundSlide] = field(default_factory=list)
    refused: list[RefusedFile] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    current: tuple[str, str] | None = None
    is_complete: bool = False

    def take(self, line: bytes) -> None:
        """Take in one event of the child."""
        event: dict[str, Any] = json.loads(line)
        if "start" in event:
            self._finish()
            self.current = (event["start"], event["name"])
        elif "slide" in event:
            self.slides.append(FoundSlide.from_json(event["slide"]))
        elif "refused" in event:
            self.refused.append(RefusedFile.from_json(event["refused"]))
        elif "end" in event:
            self._finish()
            self.is_complete = True

    def blame(self, error: WsiError) -> bool:
        """Refuse what the child died on; return whether it was at something."""
        if self.current is None:
            return False
        key, name = self.current
        self.slides = [slide for slide in self.slides if slide.key != key]
        self.refused.append(RefusedFile(key, name, error.code, error.message))
        self._finish()
        return True

    def _finish(self) -> None:
        if self.current is not None:
            self.finished.append(self.current[0])
        self.current = None


def examine_in_child(
    folder: Path,
    *,
    limits: Limits | None = None,
    memory_bytes: int = 4 * 2**30,
    timeout_seconds: float = 300.0,
    command: Sequence[str] = CHILD,
) -> Delivery:
    """Return what `cases.wsi.examine.examine` would, without trusting the files.

    Parameters
    ----------
    folder
        The delivered files; archives are unpacked in it.
    limits
        What the delivery may hold.
    memory_bytes
        Address space of the child; its libraries alone take about 300 MiB of it.
    timeout_seconds
        Longest silence: the time for one slide's headers and tiles, or 64 MiB of hashing.
    command
        The child's program.

    Raises
    ------
    ParseCrashError, ParseTimeoutError, ParseMemoryError
        When children end while at no file at all, which is a fault of the installation.
    """
    limits = limits or Limits()
    findings = _Findings()
    deaths_between = 0
    while not findings.is_complete:
        error = _run_child(
            findings, folder.resolve(), limits, memory_bytes, timeout_seconds, command
        )
        if findings.is_complete:
            break
        if not findings.blame(error):
            deaths_between += 1
            if deaths_between >= MAX_DEATHS_BETWEEN_ITEMS:
                raise error
    return Delivery(tuple(findings.slides), tuple(findings.refused))


def _run_child(
    findings: _Findings,
    folder: Path,
    limits: Limits,
    memory_bytes: int,
    timeout_seconds: float,
    command: Sequence[str],
) -> WsiError:
    """Run one child until it ends; return why it ended when it did not finish."""
    read_end, write_end = os.pipe()
    with tempfile.TemporaryFile() as errors, os.fdopen(read_end, "rb", buffering=0) as events:
        orders = {
            "folder": str(folder),
            "limits": limits.to_json(),
            "memory_bytes": memory_bytes,
            "max_written_bytes": limits.max_unpacked_bytes,
            "skip": findings.finished,
            "descriptor": write_end,
        }
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=ROOT,
                env=_environment(),
                pass_fds=(write_end,),
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        try:
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError), child.stdin:
                child.stdin.write(json.dumps(orders).encode())
            is_silent = not _read_events(events, findings, timeout_seconds)
        finally:
            _end(child)
        if is_silent:
            return ParseTimeoutError()
        errors.seek(0)
        return _reason(child.returncode, errors.read(1 << 20))


def _read_events(events: Any, findings: _Findings, timeout_seconds: float) -> bool:
    """Take in events until the child closes its end; return False when it fell silent."""
    rest = b""
    deadline = time.monotonic() + timeout_seconds + STARTUP_SECONDS
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not select.select([events], [], [], remaining)[0]:
            return False
        data = events.read(1 << 16)
        if not data:
            return True
        deadline = time.monotonic() + timeout_seconds
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > MAX_EVENT_BYTES:
            return True
        for line in lines:
            try:
                findings.take(line)
            except (ValueError, KeyError, TypeError):
                return True


def _end(child: subprocess.Popen[bytes]) -> None:
    """Make sure that the child and whatever it started are gone."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=1)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _reason(code: int, errors: bytes) -> WsiError:
    """Return why the child died, by its exit code and last words."""
    if any(words in errors for words in _MEMORY_WORDS):
        return ParseMemoryError()
    return ParseCrashError(f"The reader stopped unexpectedly on this file (exit code {code}).")


def _environment() -> dict[str, str]:
    """Return what the child needs of the environment: no secrets, one thread per library."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "LANG", "LC_ALL", "TMPDIR")
        if name in os.environ
    }
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **kept,
        **dict.fromkeys(threads, "1"),
        "MALLOC_ARENA_MAX": "2",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
