"""manage.py add_model: an embedding model of prototypes with another encoder."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases.errors import DomainError
from retrieval.engine.encoders import load_image_encoder
from retrieval.engine.errors import EngineError
from retrieval.services import centres
from retrieval.services.encoders import runtime_arguments
from retrieval.services.models import encoder_model_register


class Command(BaseCommand):
    help = (
        "Make an embedding model with another image encoder: its patch features, 16 prototypes "
        "a slide, their mean. It is not active, and has no slides yet. Afterwards manage.py "
        "fit_centre can fit its centre to the archive."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("encoder", help="Name of an image encoder: manage.py encoders list")
        parser.add_argument("--name", default="", help="Default: ENCODER-prototypes-v1")
        parser.add_argument(
            "--centre",
            default="none",
            help="none; procedural: the mean over synthetic tissue; or a safetensors file",
        )
        parser.add_argument("--seeds", type=int, default=2, help="With --centre procedural")

    def handle(self, *args: Any, **options: Any) -> None:
        encoder, source = options["encoder"], options["centre"]
        try:
            centre = None
            if source == "procedural":
                loaded = load_image_encoder(encoder, *runtime_arguments())
                centre = centres.procedural_centre(loaded, seeds=range(options["seeds"]))
            elif source != "none":
                centre = centres.centre_read(Path(source))
            model = encoder_model_register(
                encoder=encoder, name=options["name"] or _name(encoder), centre=centre
            )
        except (DomainError, EngineError) as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{model.name}: {model.dimension} values, not active")


def _name(encoder: str) -> str:
    # A slug: an encoder's name may hold a dot.
    return f"{encoder.replace('.', '-')}-prototypes-v1"
