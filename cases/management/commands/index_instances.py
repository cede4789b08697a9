"""Make the DICOMweb index (metadata, frame offsets) of instances that have none yet."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cases.services.instances import index_all, without_index


class Command(BaseCommand):
    """Instances taken in from now on get theirs at intake; others at the first request."""

    help = "Index DICOM instances taken in before DICOMweb was there, so that no viewer waits"

    def handle(self, *args: Any, **options: Any) -> None:
        made, failed = index_all(without_index().iterator())
        self.stdout.write(f"{made} instances indexed.")
        for pk, code in failed:
            self.stderr.write(f"instance {pk}: {code}")
        if failed:
            raise CommandError(f"{len(failed)} instances could not be indexed.")
