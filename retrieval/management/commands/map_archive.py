"""Lay the map of the archive out now, in this process."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from retrieval.models import EmbeddingModel
from retrieval.services.archive_map import map_compute


class Command(BaseCommand):
    help = "Lay the map of the archive out now; a worker does it each night."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--model", help="Name of an image model; default: the active one")

    def handle(self, *args: Any, **options: Any) -> None:
        models = EmbeddingModel.objects.filter(modality=EmbeddingModel.Modality.IMAGE)
        wanted = {"name": options["model"]} if options["model"] else {"is_active": True}
        model = models.filter(**wanted).first()
        if model is None:
            raise CommandError("There is no such image model: see `manage.py models`.")
        run = map_compute(model.pk)
        if run is None:
            raise CommandError(f"No slide is embedded by {model.name} yet.")
        self.stdout.write(
            f"{run.slide_count} slides laid out by {model.name} in {run.seconds:.1f} s"
            f" (fitted on {run.sample_count})."
        )
