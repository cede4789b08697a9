"""The attacked site: one web process under the production settings, with a database of its own.

TLS ends at a proxy in production; the attacks speak as that proxy does (X-Forwarded-Proto).
"""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from django.db import connections

from tests.live_site import ROOT, free_port, wait_until
from tests.permissions.world import MISSING, MISSING_OF, Actor

HOST = "pathsearch.test"
ORIGIN = f"https://{HOST}"
_CSRF_TOKEN = "a" * 32


@dataclass
class Reply:
    """What came back of one request. headers: names in lower case; cookies as they were set."""

    status: int
    headers: dict[str, str]
    body: bytes
    set_cookies: list[str]

    @property
    def text(self) -> str:
        """Return the body as text; pictures become noise that holds no marker."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body parsed."""
        return json.loads(self.body)


@dataclass
class Attacker:
    """Sends requests as one of the cast, over one connection that is kept."""

    port: int
    actor: Actor
    headers: dict[str, str]
    asked: int = 0
    named: str = ""  # what earlier requests named themselves
    _connection: HTTPConnection | None = None

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send one request and return what came back; never follow a redirect."""
        self.asked += 1
        sent = {"Host": HOST, "X-Forwarded-Proto": "https", **self.headers, **(headers or {})}
        for again in (True, False):
            if self._connection is None:
                self._connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                self._connection.request(method, path, body, sent)
                got = self._connection.getresponse()
                reply = Reply(
                    got.status,
                    {name.lower(): value for name, value in got.getheaders()},
                    got.read(),
                    got.headers.get_all("Set-Cookie") or [],
                )
            except (HTTPException, ConnectionError):
                # The server closes a kept connection when it likes; a new one must do.
                self._connection.close()
                self._connection = None
                if not again:
                    raise
            else:
                if got.will_close:
                    self._connection = None
                return reply
        raise AssertionError("never reached")

    def send(self, method: str, path: str, data: Any) -> Reply:
        """Send the data as JSON."""
        return self.ask(
            method, path, json.dumps(data).encode(), {"Content-Type": "application/json"}
        )

    def post_form(self, path: str, fields: dict[str, str], **headers: str) -> Reply:
        """Post a form."""
        body = "&".join(f"{quote(k)}={quote(str(v))}" for k, v in fields.items()).encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", path, body, {**kind, **headers})


@dataclass
class AttackedSite:
    """The running site, its world and its database."""

    folder: Path
    port: int = field(default_factory=free_port)
    database: str = ""
    world: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of the site: production, nothing of the test run."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PATHSEARCH_", "DATABASE_URL", "DJANGO_", "PYTEST_"))
        }
        return {
            **inherited,
            "DJANGO_SETTINGS_MODULE": "pathsearch_site.settings.production",
            "DATABASE_URL": self.database,
            "PATHSEARCH_DATA_DIR": str(self.folder),
            "PATHSEARCH_SECRET_KEY": hashlib.sha256(str(self.folder).encode()).hexdigest(),
            "PATHSEARCH_ALLOWED_HOSTS": HOST,
            "PATHSEARCH_DISK_RESERVE_GB": "0",
            "PATHSEARCH_API_RATE": "1000000/min",
            "PATHSEARCH_THREADS": "1",
            # The cast has passwords alone; the second factor has tests of its own.
            "PATHSEARCH_MFA_ROLES": "none",
        }

    def start(self) -> None:
        """Make the database and the world, start the server, wait until it answers."""
        name = f"attacked_{self.folder.name.replace('-', '_')}_{os.getpid()}"
        self._sql(f"CREATE DATABASE {name}")
        self.database = self._url(name)
        self.run("manage.py", "migrate", "--verbosity", "0")
        self.run("manage.py", "collectstatic", "--noinput", "--verbosity", "0")
        file = self.folder / "world.json"
        self.run("-m", "tests.attacks.seed", str(file))
        self.world = json.loads(file.read_text(encoding="utf-8"))
        command = ["-m", "uvicorn", "pathsearch_site.asgi:application", "--port", str(self.port)]
        command += ["--log-level", "warning", "--no-server-header", "--lifespan", "off"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        anybody = self.attacker("anonymous")

        def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            try:
                return anybody.ask("GET", "/healthz/").status == 200
            except OSError:
                return False

        wait_until(answers, seconds=60, what="the attacked site")

    def end(self) -> None:
        """Stop the server and drop its database."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=30)
        if self.database:
            name = self.database.split("?")[0].rsplit("/", 1)[1]
            self._sql(f"DROP DATABASE {name} WITH (FORCE)")

    @property
    def log(self) -> Path:
        """Return the file of the server's log."""
        return self.folder / "web.log"

    def run(self, *arguments: str) -> str:
        """Run one of the site's own commands."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def actors(self) -> list[Actor]:
        """Return the cast."""
        return [self._actor(kept) for kept in self.world["actors"]]

    @staticmethod
    def _actor(kept: dict[str, Any]) -> Actor:
        return Actor(
            kept["name"],
            kept["letter"],
            frozenset(kept["places"]),
            kept["username"] or None,
            () if kept["by_token"] else None,
            kept["token_lacks_scope"],
        )

    def attacker(self, name: str) -> Attacker:
        """Return a new connection of this actor, by session (with its CSRF token) or by token."""
        if not self.world:
            return Attacker(self.port, Actor(name, "", frozenset()), {})
        kept = next(kept for kept in self.world["actors"] if kept["name"] == name)
        headers = {}
        if kept["authorization"]:
            headers["Authorization"] = kept["authorization"]
        elif kept["session"]:
            headers["Cookie"] = f"__Host-sessionid={kept['session']}; "
            headers["Cookie"] += f"__Host-csrftoken={_CSRF_TOKEN}"
            headers |= {"X-CSRFToken": _CSRF_TOKEN, "Origin": ORIGIN}
        return Attacker(self.port, self._actor(kept), headers)

    def id(self, kind: str, place: str) -> str:
        """Return the id of the world's object there; for "missing" one that nothing has."""
        if place == "missing":
            return "0" if kind == "session" else str(MISSING_OF.get(kind, MISSING))
        return str(self.world["ids"][kind][place])

    def rows_of(self, places: set[str]) -> dict[str, str]:
        """Return, by table, a hash of all rows that name an object of these places.

        Left out: what a request leaves for itself (sessions, the audit, a token's last use).
        """
        ids = [
            str(pk)
            for kind, by_place in self.world["ids"].items()
            for place, pk in by_place.items()
            if place in places and len(str(pk)) > 8
        ]
        pattern = "|".join(ids)
        found = {}
        with psycopg.connect(self.database) as connection:
            tables = connection.execute(
                "SELECT table_name FROM information_schema.tables"
                " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
            ).fetchall()
            for (table,) in tables:
                if any(part in table for part in ("access", "session", "apitoken", "axes")):
                    continue
                row = connection.execute(
                    f"SELECT count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text)) "
                    f'FROM "{table}" t WHERE t::text ~ %s',
                    [pattern],
                ).fetchone()
                if row[0]:
                    found[table] = f"{row[0]} rows, {row[1]}"
        return found

    def ask_database(self, sql: str, *values: Any) -> list[tuple]:
        """Return the rows of a statement run in the site's own database."""
        with psycopg.connect(self.database) as connection:
            done = connection.execute(sql, values)
            return done.fetchall() if done.description else []

    @staticmethod
    def _at() -> dict[str, Any]:
        at = connections["default"].settings_dict
        return {
            "host": at["OPTIONS"].get("host") or at["HOST"],
            "port": at["PORT"] or 5432,
            "user": at["USER"],
            "password": at["PASSWORD"],
        }

    def _url(self, name: str) -> str:
        at = self._at()
        password = f":{quote(at['PASSWORD'])}" if at.get("PASSWORD") else ""
        return f"postgresql://{at['user']}{password}@/{name}?host={quote(at['host'])}&port={at['port']}"

    def _sql(self, statement: str) -> None:
        with psycopg.connect(**self._at(), dbname="postgres", autocommit=True) as connection:
            connection.execute(statement)
