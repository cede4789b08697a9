"""Learn from labelled cases how often neighbours of a similarity had the same diagnosis."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases.models import Department
from retrieval.models import VoteCalibration
from retrieval.services.vote_calibration import PAIRS_MIN, votes_calibrate


class Command(BaseCommand):
    help = "Calibrate the vote for the active model; a task does it each night for all departments."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--department", default="", help="code of one department")

    def handle(self, *args: Any, **options: Any) -> None:
        code = options["department"]
        if code and not Department.objects.filter(code=code).exists():
            raise CommandError(f"No department has the code {code}.")
        done = votes_calibrate(department_code=code)
        self.stdout.write(
            f"{done} departments calibrated; the others have fewer than {PAIRS_MIN} labelled pairs"
        )
        rows = VoteCalibration.objects.select_related("department", "model")
        for row in rows.filter(department__code=code) if code else rows:
            knots = zip(row.similarities, row.agreements, strict=True)
            steps = ", ".join(f"{near:.2f}: {share:.0%}" for near, share in knots)
            self.stdout.write(
                f"{row.department.code}  {row.model.name}  {row.pairs} pairs  {steps}"
            )
