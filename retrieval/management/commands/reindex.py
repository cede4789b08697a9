"""manage.py reindex: queue slides for indexing again."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases.errors import DomainError
from retrieval.services.indexing import FINISHED_STATES, State, reindex


class Command(BaseCommand):
    help = (
        "Queue slides for indexing again: the failed ones, or those of the states that are "
        "named. For a new centre no pixels are needed: see fit_centre."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--state",
            action="append",
            choices=[str(state) for state in FINISHED_STATES],
            help="May be given several times; default: failed",
        )
        parser.add_argument("--department", default="", help="Code; default: all")

    def handle(self, *args: Any, **options: Any) -> None:
        states = options["state"] or [State.FAILED]
        try:
            count = reindex(states=states, department_code=options["department"])
        except DomainError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{count} slides queued")
