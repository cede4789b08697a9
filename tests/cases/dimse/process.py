"""The receiver as a process of its own, on the test's database and data folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.cases.intake.test_crash import ROOT, worker_environment
from tests.live_site import free_port


class Receiver:
    """A running `manage.py dicom_scp`."""

    def __init__(self, data_dir: Path, **more: str) -> None:
        self.port = free_port()
        self.environment = {
            **worker_environment(data_dir),
            "PATHSEARCH_DICOM_PORT": str(self.port),
            "PATHSEARCH_DISK_RESERVE_GB": "0",
            **more,
        }
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "dicom_scp"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "listens on port" in line, line

    def kill(self) -> None:
        """Kill it without a word."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=60)

    def status(self, field: str) -> int:
        """Return a number of /proc/<pid>/status in KiB."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith(field)).split()[1])


@contextlib.contextmanager
def running_receiver(data_dir: Path, **more: str) -> Iterator[Receiver]:
    """Start a receiver and end it, whatever happens."""
    receiver = Receiver(data_dir, **more)
    receiver.start()
    try:
        yield receiver
    finally:
        if receiver.process is not None and receiver.process.poll() is None:
            os.kill(receiver.process.pid, signal.SIGKILL)
            receiver.process.wait()
