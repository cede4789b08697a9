"""manage.py fit_centre: fit the centre of the image features."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases.errors import DomainError
from retrieval.engine.encoders import load_image_encoder
from retrieval.engine.errors import EngineError
from retrieval.services import centres
from retrieval.services.encoders import runtime_arguments
from retrieval.services.models import CENTRE_ASSET, Modality, active_model


class Command(BaseCommand):
    help = (
        "Fit the centre of the image features. By default from the features stored in this "
        "archive: registers a new model, aggregates every slide by it without reading pixels, "
        "and activates it. With --procedural: from synthetic tissue, into a file; that is how "
        "the centre that ships with PathSearch was made."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", default="", help="Name of the new model")
        parser.add_argument("--procedural", action="store_true", help="From synthetic tissue")
        parser.add_argument("--encoder", default="efficientnet-lite0", help="With --procedural")
        parser.add_argument("--seeds", type=int, default=12, help="With --procedural")
        parser.add_argument(
            "--output", type=Path, default=CENTRE_ASSET, help="With --procedural: the file"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["procedural"]:
                self._procedural(options["encoder"], options["seeds"], options["output"])
            else:
                self._archive(options["name"])
        except (DomainError, EngineError) as error:
            raise CommandError(error.message) from error

    def _procedural(self, name: str, seeds: int, output: Path) -> None:
        encoder = load_image_encoder(name, *runtime_arguments())
        centre = centres.procedural_centre(encoder, seeds=range(seeds))
        description = (
            f"Mean of {name} features over synthetic tissue "
            f"(manage.py fit_centre --procedural --seeds {seeds})"
        )
        centres.centre_write(output, centre, description=description)
        self.stdout.write(f"{description}: {output}")

    def _archive(self, name: str) -> None:
        model = active_model(Modality.IMAGE)
        name = name or f"{model.encoder}-{model.aggregator}-site-{model.pk}"
        new = centres.recentre(model=model, name=name, tell=self.stdout.write)
        self.stdout.write(f"{new.name} is active")
