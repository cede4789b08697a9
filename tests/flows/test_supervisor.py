"""`make run` stops all it started, keeps its data, and brings back what dies."""

import os
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from pathsearch_site import supervisor
from tests.live_site import LiveSite, free_port, wait_until


@pytest.fixture
def site(tmp_path):
    """Return a site that is not started yet, and is gone after the test whatever happens."""
    made = LiveSite(tmp_path, free_port())
    yield made
    made.end()


def test_the_site_starts_stops_cleanly_and_keeps_its_data(site, tmp_path):
    site.start()
    processes = site.descendants()
    assert len(processes) >= 4
    site.manage(
        "shell", "--no-imports", "-c",
        "from cases.models import Department as D;"
        "D.objects.create(code='a', name='A', mrn_issuer='a', accession_issuer='a')",
    )  # fmt: skip
    assert site.stop() == 0
    wait_until(
        lambda: not any(psutil.pid_exists(pid) for pid in processes),
        seconds=120,
        what="every child process to end",
    )
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()

    site.start()
    assert site.ask("Department.objects.count()") == 1
    assert site.stop() == 0


def test_a_killed_child_is_started_again_and_a_killed_parent_leaves_none(site, tmp_path):
    site.start()
    web = next(
        child
        for child in psutil.Process(site.process.pid).children()
        if "uvicorn" in " ".join(child.cmdline())
    )
    web.send_signal(signal.SIGKILL)
    wait_until(
        lambda: (
            "web stopped; starting it again" in (tmp_path / "supervisor.log").read_text()
            and site._answers()
        ),
        seconds=120,
        what="the web server to come back",
    )
    processes = site.descendants()
    site.process.kill()
    wait_until(
        lambda: (
            not any(
                psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
                for pid in processes
            )
        ),
        seconds=120,
        what="the orphans to end",
    )
    # The database server is left behind on purpose: it ends with the next clean stop.
    site.start()
    assert site.stop() == 0


def test_a_web_server_that_dies_before_it_answers_is_started_again(monkeypatch, tmp_path):
    """The start waits for the web server, and must not wait for a dead one."""
    monkeypatch.setattr(supervisor, "RESTART_SECONDS", 0.0)
    port, mark = free_port(), tmp_path / "died once"
    code = (
        "import http.server, pathlib, sys\n"
        f"mark = pathlib.Path({str(mark)!r})\n"
        "if not mark.exists():\n"
        "    mark.touch()\n"
        "    sys.exit(1)\n"
        f"http.server.HTTPServer(('127.0.0.1', {port}), http.server.BaseHTTPRequestHandler)"
        ".serve_forever()\n"
    )
    web = supervisor.Child("web", [sys.executable, "-c", code])
    watcher = supervisor.Supervisor([web], tmp_path)
    watcher.start()
    try:
        assert supervisor.wait_for_web("127.0.0.1", port, watcher)
        assert web.restarts == 1
    finally:
        watcher.stop()


def test_the_doors_for_scanners_open_only_when_asked_for(monkeypatch):
    def names() -> set[str]:
        return {child.name for child in supervisor.children_of_site("127.0.0.1", 1, False)}

    monkeypatch.delenv("PATHSEARCH_DICOM_SCP", raising=False)
    monkeypatch.delenv("PATHSEARCH_WATCH_FOLDERS", raising=False)
    assert not {"dicom", "folders"} & names()
    monkeypatch.setenv("PATHSEARCH_DICOM_SCP", "true")
    monkeypatch.setenv("PATHSEARCH_WATCH_FOLDERS", "/etc/pathsearch/folders.json")
    assert {"dicom", "folders"} < names()


def test_a_taken_port_is_named(site, tmp_path):
    blocker = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(site.port), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(site._answers, seconds=10, what="the blocker")
        done = subprocess.run(
            [sys.executable, "-m", "pathsearch_site.supervisor"],
            cwd=tmp_path.cwd(),
            env=site.environment,
            capture_output=True,
            text=True,
        )
    finally:
        blocker.kill()
        blocker.wait()
    assert done.returncode == 1
    assert f"Port {site.port} is taken" in done.stdout


def test_a_server_of_ones_own_is_used_and_left_running(site, tmp_path):
    """DATABASE_URL wins: nothing embedded starts, and the server outlives the site."""
    url = os.environ["DATABASE_URL"]
    name = f"own_server_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    own = urlsplit(url)._replace(path=f"/{name}").geturl()
    try:
        site.start(DATABASE_URL=own)
        assert site.stop() == 0
        assert not (tmp_path / "postgres").exists()
        with psycopg.connect(own) as server:
            tables = server.execute("SELECT to_regclass('retrieval_slideembedding')").fetchone()
        assert tables != (None,)
    finally:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")
