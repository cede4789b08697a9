"""Encoders of this site: how they run, and which files of theirs are accepted."""

from django.conf import settings
from django.db.models import Q

from cases.errors import Conflict, DomainError
from retrieval.engine.encoders import (
    IMAGE_ENCODERS,
    TEXT_ENCODERS,
    EncoderSpec,
    weights_digest,
)
from retrieval.engine.encoders.files import Pin, pin
from retrieval.engine.errors import UnknownEncoder
from retrieval.models import EmbeddingModel

# Device, threads, precision, compiled: what `load_*_encoder` takes after the name.
Arguments = tuple[str, int, str, bool]


class ModelChanged(DomainError):
    """An encoder's weights are not the ones that a model's vectors were made with."""

    http_status = 503
    code = "model_changed"


def runtime_arguments() -> Arguments:
    """Return how the settings want encoders to run."""
    return (
        settings.ENCODER_DEVICE,
        settings.ENCODER_THREADS,
        settings.ENCODER_PRECISION,
        settings.ENCODER_COMPILE,
    )


def specs_of(name: str) -> list[EncoderSpec]:
    """Return the image and the text entry of this name. Raises UnknownEncoder when neither is."""
    found: list[EncoderSpec] = []
    for registry in (IMAGE_ENCODERS, TEXT_ENCODERS):
        try:
            found.append(registry[name])
        except UnknownEncoder:
            continue
    if not found:
        raise UnknownEncoder(f"There is no encoder {name!r}. All names: manage.py encoders list")
    return found


def recipe_check(model: EmbeddingModel) -> None:
    """Refuse to mix vectors: the encoder's weights must be those of the model's recipe.

    Encoders that come with PathSearch are checked on loading, by their entry.

    Raises
    ------
    ModelChanged
    EngineError
        The files of the encoder are not accepted on this site.
    """
    try:
        spec = specs_of(model.encoder)[0]
    except UnknownEncoder:
        return  # loading it says so, with the names that are known
    if spec.files is not None and weights_digest(spec) != model.weights_sha256:
        raise ModelChanged(
            f"The files that are accepted for {model.encoder} are not the ones that the model "
            f"{model.name} was made with. Restore those, or make a new model: manage.py add_model"
        )


def encoder_pin(
    *, name: str, expected_sha256: str = "", replace: bool = False
) -> tuple[EncoderSpec, Pin]:
    """Accept the files of an encoder that the site provides, and return what was kept.

    Raises
    ------
    Conflict
        Models of this site were made with other weights of it.
    EngineError
        See `retrieval.engine.encoders.files.pin`.
    """
    spec = specs_of(name)[0]
    if replace and spec.files is not None:
        shared = {
            other.name
            for registry in (IMAGE_ENCODERS, TEXT_ENCODERS)
            for other in registry.values()
            if other.files and other.files.folder == spec.files.folder
        } | {name}
        made_with = Q(encoder__in=shared) | Q(text_encoder__in=shared)
        used = EmbeddingModel.objects.filter(made_with).values_list("name", flat=True)
        if used:
            raise Conflict(
                f"The models {', '.join(sorted(used))} were made with the files that are pinned "
                "now. Put other weights into the models folder under another name.",
                code="encoder_in_use",
            )
    return spec, pin(spec, expected_sha256=expected_sha256, replace=replace)
