"""manage.py encoders: which encoders there are, whether they can run here, and accepting files."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases.errors import DomainError
from retrieval.engine.encoders import (
    IMAGE_ENCODERS,
    TEXT_ENCODERS,
    EncoderSpec,
    ImageEncoderSpec,
    load_image_encoder,
    load_text_encoder,
    weights_digest,
)
from retrieval.engine.encoders.files import located, models_folder, pins_path
from retrieval.engine.errors import EngineError
from retrieval.services.encoders import encoder_pin, runtime_arguments, specs_of


class Command(BaseCommand):
    help = (
        "list: the encoders that can be used. check NAME: whether its files are here, accepted "
        "and loadable. pin NAME: accept the files of an encoder that the site provides, once, "
        "after you have made sure where they come from."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True)
        acts.add_parser("list", help="All encoders")
        check = acts.add_parser("check", help="Check files, then load and try")
        check.add_argument("names", nargs="*", help="Default: all whose files are here")
        accept = acts.add_parser("pin", help="Accept the files that are here now")
        accept.add_argument("name")
        accept.add_argument(
            "--sha256", default="", help="Of the weights file, as its authors publish it"
        )
        accept.add_argument(
            "--replace", action="store_true", help="Give up an earlier pin of other files"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["act"] == "list":
                self._list()
            elif options["act"] == "check":
                self._check(options["names"])
            else:
                self._pin(options["name"], options["sha256"], options["replace"])
        except (DomainError, EngineError) as error:
            raise CommandError(error.message) from error

    def _list(self) -> None:
        self.stdout.write(f"models folder: {models_folder()}\n")
        for spec in _all():
            self.stdout.write(
                f"{_kind(spec):5}  {spec.name:18} {spec.dimension:5}  {_state(spec):14} "
                f"{spec.licence}"
            )

    def _check(self, names: list[str]) -> None:
        chosen = [spec for name in names for spec in specs_of(name)]
        failed = 0
        for spec in chosen or [s for s in _all() if _state(s) != "not here"]:
            try:
                self.stdout.write(f"{_kind(spec)} {spec.name}: {_try(spec)}")
            except EngineError as error:
                failed += 1
                self.stdout.write(f"{_kind(spec)} {spec.name}: {error.code}. {error.message}")
        if failed:
            raise CommandError(f"{failed} cannot be used.")

    def _pin(self, name: str, sha256: str, replace: bool) -> None:
        spec, pinned = encoder_pin(name=name, expected_sha256=sha256, replace=replace)
        for file, digest in sorted(pinned.files.items()):
            self.stdout.write(f"{digest}  {file}")
        self.stdout.write(
            f"{spec.name} is accepted as it is now ({pins_path()}). Licence: {spec.licence}"
        )


def _all() -> Iterator[EncoderSpec]:
    yield from IMAGE_ENCODERS.values()
    yield from TEXT_ENCODERS.values()


def _kind(spec: EncoderSpec) -> str:
    return "image" if isinstance(spec, ImageEncoderSpec) else "text"


def _state(spec: EncoderSpec) -> str:
    """Return whether its files are here and accepted; `check` reads them, which takes longer."""
    try:
        located(spec)
        weights_digest(spec)
    except EngineError as error:
        return {"model_missing": "not here", "model_unpinned": "not accepted"}[error.code]
    return "accepted" if spec.files else "comes along"


def _try(spec: EncoderSpec) -> str:
    """Load it and encode once. Raises EngineError."""
    if isinstance(spec, ImageEncoderSpec):
        blank = np.full((1, spec.patch_px, spec.patch_px, 3), 200, np.uint8)
        vector = load_image_encoder(spec.name, *runtime_arguments()).encode(blank)
    else:
        vector = load_text_encoder(spec.name, *runtime_arguments()).encode(["adenocarcinoma"])
    if not np.isfinite(vector).all():
        return "loads, but gives values that are not finite"
    return f"ready, {vector.shape[1]} values"
