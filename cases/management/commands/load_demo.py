"""Makes the demo archive: `manage.py load_demo`."""

import os
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from cases.demo import archive, found
from cases.demo.people import NameTaken, logins_file, password_ensure, people_ensure
from cases.demo.plan import PlannedSlide, planned_slides
from cases.demo.tissue import DIAGNOSES
from cases.models import SlideUpload
from cases.services.processing import upload_process

DEFAULT_SLIDES = 64
# Two of these commands at once would paint everything twice.
_LOCK = 0x64656D6F
_STALLED_SECONDS = 300


class Command(BaseCommand):
    """Departments, users, cases, reports, and slides that take the ordinary way in."""

    help = (
        "Make the demo archive: synthetic slides of "
        f"{len(DIAGNOSES)} diagnoses in two departments, with reports and users. Can be run "
        "again at any time: it adds what is missing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--slides", type=int, default=DEFAULT_SLIDES, metavar="N")
        parser.add_argument(
            "--from",
            dest="folders",
            action="append",
            default=[],
            type=Path,
            metavar="FOLDER",
            help="also take the real slides and patches in this folder (may be repeated)",
        )
        parser.add_argument(
            "--only-synthetic",
            action="store_true",
            help="leave out the real slides of shared/data beside the checkout",
        )
        parser.add_argument(
            "--people-only", action="store_true", help="make departments and users, then stop"
        )
        parser.add_argument(
            "--process-now",
            action="store_true",
            help="process each upload in this process instead of leaving it to the workers",
        )
        parser.add_argument(
            "--no-wait",
            action="store_true",
            help="do not wait for the workers; the cohort then follows with the next run",
        )
        parser.add_argument(
            "--jobs", type=int, default=max(1, min(4, (os.cpu_count() or 1) // 2)), metavar="N"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make what is missing."""
        for folder in options["folders"]:
            if not folder.is_dir():
                raise CommandError(f"There is no folder {folder}.")
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
            if not cursor.fetchone()[0]:
                raise CommandError("Another load_demo is running on this database.")
        try:
            self._load(options)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])

    def _load(self, options: dict[str, Any]) -> None:
        try:
            users = people_ensure(password_ensure())
        except NameTaken as error:
            raise CommandError(str(error)) from error
        if options["people_only"]:
            return
        started = time.monotonic()
        self._process_now = options["process_now"]
        slides = planned_slides(max(0, options["slides"]))
        cases = archive.cases_ensure(slides, users)
        made = archive.slides_ensure(
            slides, users, jobs=options["jobs"], note=self._note, uploaded=self._uploaded
        )
        folders = list(options["folders"])
        if not options["only_synthetic"]:
            folders += found.default_folders(Path(settings.BASE_DIR))
        real = found.found_ensure(folders, users, note=self._note)
        for upload in real:
            self._uploaded(upload)
        if made or real or cases:
            self._note(
                f"{cases} cases, {made} synthetic and {len(real)} real uploads "
                f"in {time.monotonic() - started:.0f} s."
            )
        if not options["no_wait"] and not self._process_now:
            self._wait(slides)
        added = archive.cohort_ensure(slides, users)
        if added:
            self._note(f"{added} slides entered the shared cohort.")
        self._note(f"The demo archive is complete. Logins: {logins_file()}")

    def _note(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def _uploaded(self, upload: SlideUpload) -> None:
        if self._process_now:
            upload_process(upload.pk)

    def _wait(self, slides: list[PlannedSlide]) -> None:
        """Wait until the workers took the uploads in; gives up when nothing moves."""
        waiting, moved_at = archive.pending(slides), time.monotonic()
        if waiting:
            self._note(f"Waiting for the workers to take in {waiting} uploads.")
        while waiting and time.monotonic() - moved_at < _STALLED_SECONDS:
            time.sleep(1)
            left = archive.pending(slides)
            if left != waiting:
                waiting, moved_at = left, time.monotonic()
        if waiting:
            self._note(
                f"{waiting} uploads still wait: are the workers running? "
                "Run load_demo again for the cohort."
            )
