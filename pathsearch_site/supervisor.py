"""`make run`: everything a one-machine site needs, under one parent.

Starts the embedded Postgres (unless DATABASE_URL is set), migrates, makes what must exist,
then keeps the web server, the encoder and both task clusters running until Ctrl-C or
SIGTERM, and stops all of them. A process that dies is started again; work it held is taken
up by another through its lease. If this parent itself is killed, its children end with it.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from pathsearch_site import embedded_postgres

BASE_DIR = embedded_postgres.BASE_DIR
MANAGE = [sys.executable, str(BASE_DIR / "manage.py")]
STOP_SECONDS = 15
RESTART_SECONDS = 2.0
ONCE_RESTARTS = 3
PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Run in the child before exec: be told to stop when the parent is gone (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Child:
    """One process to keep running (or, once=True, to run to its end)."""

    name: str
    command: list[str]
    once: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen | None = None
    started_at: float = 0.0
    restarts: int = 0

    def start(self, log_dir: Path) -> None:
        """Start the process in a group of its own, so that Ctrl-C reaches only the parent."""
        output = None if self.once else (log_dir / f"{self.name}.log").open("ab")
        self.process = subprocess.Popen(
            self.command,
            cwd=BASE_DIR,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
            preexec_fn=_die_with_parent,  # this parent has no threads
        )
        self.started_at = time.monotonic()
        if output is not None:
            output.close()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Starts the children, watches them, stops them."""

    def __init__(self, children: list[Child], log_dir: Path) -> None:
        self.children = children
        self.log_dir = log_dir
        self.stopping = False

    def request_stop(self, *_signal: object) -> None:
        """Signal handler: leave the watch loop."""
        self.stopping = True

    def start(self) -> None:
        """Start every child."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        for child in self.children:
            child.start(self.log_dir)

    def watch(self) -> None:
        """Start again what dies, until asked to stop."""
        while not self.stopping:
            self.restart_dead()
            time.sleep(0.2)

    def restart_dead(self) -> None:
        """Start again each child that died and has waited long enough."""
        for child in self.children:
            if self._must_restart(child):
                child.restarts += 1
                say(f"{child.name} stopped; starting it again (see {self.log_dir})")
                # What it left behind would hold its port or its socket.
                _signal_group(child, signal.SIGKILL)
                child.start(self.log_dir)

    def _must_restart(self, child: Child) -> bool:
        if child.is_running or child.process is None:
            return False
        if child.once and (child.process.returncode == 0 or child.restarts >= ONCE_RESTARTS):
            return False
        return time.monotonic() - child.started_at >= RESTART_SECONDS

    def stop(self) -> None:
        """Stop all children: politely, then for good."""
        running = [child for child in self.children if child.is_running]
        for child in running:
            _signal_group(child, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and any(child.is_running for child in running):
            time.sleep(0.05)
        for child in running:
            _signal_group(child, signal.SIGKILL)
            if child.process is not None:
                child.process.wait()


def _signal_group(child: Child, number: int) -> None:
    if child.process is None:
        return
    try:
        os.killpg(child.process.pid, number)
    except ProcessLookupError:
        return  # the whole group is gone already


def say(text: str) -> None:
    """Print a line to the person at the terminal."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def manage(*arguments: str) -> None:
    """Run one management command to its end; its failure ends the start."""
    subprocess.run([*MANAGE, *arguments], cwd=BASE_DIR, check=True, stdin=subprocess.DEVNULL)


def port_is_free(host: str, port: int) -> bool:
    """Return whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def wait_for_web(host: str, port: int, supervisor: Supervisor) -> bool:
    """Return True once the web server accepts connections; what dies until then starts again."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not supervisor.stopping:
        supervisor.restart_dead()
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex((host, port)) == 0:
                return True
        time.sleep(0.1)
    return False


def children_of_site(host: str, port: int, with_demo: bool) -> list[Child]:
    """Return the processes of a one-machine site."""
    web_workers = os.environ.get("PATHSEARCH_WEB_WORKERS", "2")
    children = [
        Child(
            "web",
            [
                sys.executable,
                "-m",
                "uvicorn",
                "pathsearch_site.asgi:application",
                "--host",
                host,
                "--port",
                str(port),
                "--workers",
                web_workers,
                "--log-level",
                "warning",
                "--no-server-header",
                "--lifespan",
                "off",
            ],
            environment={"PATHSEARCH_DB_POOL": os.environ.get("PATHSEARCH_DB_POOL", "16")},
        ),
        Child("encoder", [*MANAGE, "encoder_server", "--preload"]),
        Child("intake", [*MANAGE, "qcluster"]),
        Child("indexing", [*MANAGE, "qcluster"], environment={"Q_CLUSTER_NAME": "indexing"}),
    ]
    if os.environ.get("PATHSEARCH_DICOM_SCP", "false").lower() in {"1", "true", "yes", "on"}:
        children.append(Child("dicom", [*MANAGE, "dicom_scp"]))
    folders = os.environ.get("PATHSEARCH_WATCH_FOLDERS", "")
    if folders:
        watch = [*MANAGE, "watch_folder", "--configuration", folders]
        children.append(Child("folders", watch))
    if with_demo:
        # It talks to the person at the terminal; the queue's own lines would drown it.
        quiet = {"PATHSEARCH_LOG_LEVEL": "WARNING"}
        children.append(Child("demo", [*MANAGE, "load_demo"], once=True, environment=quiet))
    return children


def print_welcome(host: str, port: int) -> None:
    """Print the address and, where there is a demo archive, its logins."""
    say(f"\n  PathSearch is running at http://{host}:{port}/   (Ctrl-C stops it)")
    logins = embedded_postgres.data_dir() / "demo_logins.json"
    if logins.exists():
        demo = json.loads(logins.read_text(encoding="utf-8"))
        say(f"\n  Demo logins, all with the password  {demo['password']}")
        for user in demo["users"]:
            say(f"    {user['username']:<22} {user['description']}")
    say("")


def main() -> int:
    """Run the site until it is told to stop; returns the exit code."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pathsearch_site.settings.development")
    host = os.environ.get("PATHSEARCH_HOST", "127.0.0.1")
    port = int(os.environ.get("PATHSEARCH_PORT", "8000"))
    with_demo = os.environ.get("PATHSEARCH_DEMO", "true").lower() in {"1", "true", "yes", "on"}
    if not port_is_free(host, port):
        say(
            f"Port {port} is taken. Stop what uses it, or choose another one: "
            "PATHSEARCH_PORT=8001 make run"
        )
        return 1
    data_dir = embedded_postgres.data_dir()
    data_dir.mkdir(parents=True, exist_ok=True)
    embedded = not embedded_postgres.has_own_server()
    if embedded:
        say("Starting the embedded Postgres …")
    embedded_postgres.ensure_database_url(keep_running=True)
    os.environ.setdefault("PATHSEARCH_ENCODER_SOCKET", str(data_dir / "encoder.sock"))
    supervisor = Supervisor(children_of_site(host, port, with_demo), data_dir / "logs")
    signal.signal(signal.SIGINT, supervisor.request_stop)
    signal.signal(signal.SIGTERM, supervisor.request_stop)
    try:
        say("Preparing the database …")
        manage("migrate", "--verbosity", "0")
        manage("ensure_models")
        manage("ensure_schedules")
        manage("collectstatic", "--noinput", "--verbosity", "0")
        if with_demo:
            manage("load_demo", "--people-only")
        supervisor.start()
        if wait_for_web(host, port, supervisor):
            print_welcome(host, port)
        supervisor.watch()
    except subprocess.CalledProcessError as error:
        say(f"Could not start: {' '.join(map(str, error.cmd[2:]))} failed.")
        return 1
    finally:
        say("Stopping …")
        supervisor.stop()
        if embedded:
            embedded_postgres.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
