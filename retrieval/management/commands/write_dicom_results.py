"""Write regions and maps of indexed slides as DICOM objects, where missing or outdated."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from retrieval.services.dicom_results import results_outdated, results_write_for


class Command(BaseCommand):
    help = "Write what the models saw as DICOM annotations and parametric maps."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--slide", help="Only this slide image (its id)")
        parser.add_argument("--department", help="Only this department (its code)")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = results_outdated()
        if options["slide"]:
            rows = rows.filter(slide_image=options["slide"])
        if options["department"]:
            rows = rows.filter(department__code=options["department"])
        keys = list(rows.values_list("pk", flat=True))
        written = sum(results_write_for(pk) for pk in keys)
        self.stdout.write(f"{written} of {len(keys)} slides written.")
