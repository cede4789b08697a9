"""A whole site as `make run` starts it, with a data folder and a database of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(
    condition: Callable[[], Any], *, seconds: float, what: str, every: float = 0.25
) -> Any:
    """Return the condition's first true value; fail the test, saying what, after so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(every)
    raise AssertionError(f"waited {seconds} s in vain for: {what}")


@dataclass
class LiveSite:
    """A running supervisor with its children."""

    data_dir: Path
    port: int
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of the site's own commands: no variable of the test run."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PATHSEARCH_", "DATABASE_URL", "DJANGO_"))
        }
        return {
            **inherited,
            "DJANGO_SETTINGS_MODULE": "pathsearch_site.settings.development",
            "PATHSEARCH_DATA_DIR": str(self.data_dir),
            "PATHSEARCH_PORT": str(self.port),
            "PATHSEARCH_DEMO": "false",
            "PATHSEARCH_WEB_WORKERS": "1",
            "PATHSEARCH_DISK_RESERVE_GB": "0",
            "PATHSEARCH_LEASE_SECONDS": "5",
        }

    def start(self, **more: str) -> None:
        """Start the site and wait until it answers."""
        log = (self.data_dir / "supervisor.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pathsearch_site.supervisor"],
            cwd=ROOT,
            env={**self.environment, **more},
            stdout=log,
            stderr=log,
        )
        wait_until(self._answers, seconds=120, what=f"{self.url} ({self.data_dir})")

    def _answers(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError((self.data_dir / "supervisor.log").read_text())
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> int:
        """Press Ctrl-C and return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)

    def end(self) -> None:
        """Stop whatever still runs, also after a failed test."""
        if self.process is None or self.process.poll() is not None:
            return
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            for pid in [*self.descendants(), self.process.pid]:
                os.kill(pid, signal.SIGKILL)

    def manage(self, *arguments: str) -> str:
        """Run a management command on this site and return what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, expression: str) -> Any:
        """Return the value (JSON) of a Python expression evaluated inside the site."""
        code = (
            "import json; from cases.models import *; from retrieval.models import *; "
            f"print('=>' + json.dumps({expression}))"
        )
        lines = self.manage("shell", "--no-imports", "-c", code).splitlines()
        return json.loads(next(line[2:] for line in lines if line.startswith("=>")))

    def descendants(self) -> list[int]:
        """Return the process ids of everything the site runs."""
        import psutil

        assert self.process is not None
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]
