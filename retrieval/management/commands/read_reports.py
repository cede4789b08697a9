"""Read all reports that the search of words does not know yet, or knows by older rules."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from retrieval.services.report_words import BATCH, report_words_sweep


class Command(BaseCommand):
    help = (
        "Read the current reports that are not read yet, in batches; run it again after a stop, "
        "it goes on where it was. New reports are read when they are saved."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--batch", type=int, default=BATCH, help="reports per transaction")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.perf_counter()
        done = report_words_sweep(most=None, batch=options["batch"])
        took = time.perf_counter() - started
        self.stdout.write(f"{done} reports read in {took:.0f} s")
