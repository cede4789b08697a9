"""Watch folders that scanners write to, and take in what lies there complete."""

import argparse
import json
import logging
import signal
import threading
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection

from cases.errors import DomainError
from cases.models import Department
from cases.watching.watcher import Watch, Watcher

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Take in what scanners write to a folder: move it to done/, or to rejected/ with the "
        "reason beside it."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("path", type=Path, nargs="?")
        parser.add_argument("--department", help="the department's code")
        parser.add_argument(
            "--configuration",
            type=Path,
            help='several folders: a JSON list of {"path", "department", "quiet_seconds", '
            '"needs_marker"}',
        )
        parser.add_argument(
            "--quiet-seconds",
            type=float,
            default=60.0,
            help="seconds without a change after which a delivery counts as complete",
        )
        parser.add_argument(
            "--needs-marker",
            action="store_true",
            help="take a delivery only when <name>.done lies beside it",
        )
        parser.add_argument("--every-seconds", type=float, default=5.0, help="how often to look")
        parser.add_argument("--once", action="store_true", help="look once and end")

    def handle(self, *args: Any, **options: Any) -> None:
        watchers = []
        for watch in self._watches(options):
            try:
                watchers.append(Watcher(watch))
            except OSError as error:
                raise CommandError(f"{watch.path}: {error.strerror or error}") from error
            except DomainError as error:
                raise CommandError(f"{watch.path}: {error.message}") from error
        stop = threading.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_signal: stop.set())
        self.stdout.write(f"watching {len(watchers)} folders")
        self.stdout.flush()
        while not stop.is_set():
            for watcher in watchers:
                self._look(watcher)
            if options["once"]:
                break
            stop.wait(options["every_seconds"])

    def _look(self, watcher: Watcher) -> None:
        try:
            watcher.look()
        except OSError as error:
            log.error("a watched folder cannot be read: %s", type(error).__name__)
        except DatabaseError as error:
            # The lock on the folder went with the session: another process may have it.
            log.error("the database is away (%s); ending", type(error).__name__)
            connection.close()
            raise CommandError("The database is away. Start again when it is back.") from error

    def _watches(self, options: dict[str, Any]) -> list[Watch]:
        if options["configuration"]:
            try:
                rows = json.loads(options["configuration"].read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise CommandError("The configuration cannot be read.") from error
        elif options["path"] and options["department"]:
            rows = [options]
        else:
            raise CommandError("Give a PATH with --department, or --configuration.")
        return [self._watch(row) for row in rows]

    def _watch(self, row: dict[str, Any]) -> Watch:
        department = Department.objects.filter(code=row["department"]).first()
        if department is None:
            raise CommandError(f"There is no department {row['department']}.")
        return Watch(
            path=Path(row["path"]),
            department=department,
            quiet_seconds=float(row.get("quiet_seconds", 60.0)),
            needs_marker=bool(row.get("needs_marker", False)),
        )
