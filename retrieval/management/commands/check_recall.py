"""Compare a sample of each department's searches with exact search."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases.models import Department
from retrieval.services.search_self_check import RECALL_LEAST, self_checks_run


class Command(BaseCommand):
    help = "Compare searches with exact search, as a task does each night; fails on an alert."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--department", default="", help="code of one department")

    def handle(self, *args: Any, **options: Any) -> None:
        code = options["department"]
        if code and not Department.objects.filter(code=code).exists():
            raise CommandError(f"No department has the code {code}.")
        rows = self_checks_run(department_code=code)
        for row in rows:
            ways = ", ".join(f"{way}: {count}" for way, count in sorted(row.by_way.items()))
            self.stdout.write(
                f"{row.department.code}  {row.model.name}  recall@10 {row.recall:.3f}"
                f" (worst {row.worst:.2f}, {row.asked} asked; {ways})"
                f"{'  ALERT' if row.is_alert else ''}"
            )
        if not rows:
            self.stdout.write("Nothing to compare: no department has slides of two patients.")
        alerts = sum(row.is_alert for row in rows)
        if alerts:
            raise CommandError(f"{alerts} departments are under {RECALL_LEAST}: see docs/recall.md")
