"""manage.py add_model: an embedding model with another encoder, of slides or of reports."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases.errors import DomainError
from retrieval.engine.encoders import load_image_encoder
from retrieval.engine.errors import EngineError
from retrieval.services import centres
from retrieval.services.encoders import runtime_arguments
from retrieval.services.models import PROTOTYPES, Modality, encoder_model_register


class Command(BaseCommand):
    help = (
        "Make an embedding model with another encoder. Of slides: its patch features, 16 "
        "prototypes a slide, their mean. With --text, of reports. It is not active and has no "
        "vectors yet: see manage.py models."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("encoder", help="Name of an encoder: manage.py encoders list")
        parser.add_argument("--text", action="store_true", help="Of reports, by a text encoder")
        parser.add_argument("--name", default="", help="Default: ENCODER-prototypes-v1 or -text-v1")
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
                encoder=encoder,
                name=options["name"] or _name(encoder, "text" if options["text"] else PROTOTYPES),
                modality=Modality.TEXT if options["text"] else Modality.IMAGE,
                centre=centre,
            )
        except (DomainError, EngineError) as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{model.name}: {model.dimension} values, not active")


def _name(encoder: str, kind: str) -> str:
    # A slug: an encoder's name may hold a dot or a colon.
    return f"{encoder.replace('.', '-').replace(':', '-')}-{kind}-v1"
