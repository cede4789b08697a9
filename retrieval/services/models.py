"""Embedding models: which are there, which are active, and the ANN index of each."""

from pathlib import Path
from typing import Any

import numpy as np
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from safetensors.numpy import load_file

from cases.errors import DomainError
from retrieval.engine.encoders import IMAGE_ENCODERS, TEXT_ENCODERS, weights_digest
from retrieval.models import EmbeddingModel, ReportEmbedding, SlideEmbedding
from retrieval.querysets import vector_index_ensure

Modality = EmbeddingModel.Modality

DEFAULT_IMAGE_MODEL = "efficientnet-lite0-prototypes-v1"
DEFAULT_TEXT_MODEL = "all-minilm-l6-v2-v1"
PROTOTYPES = "prototypes"
MEAN_OF_TOKENS = "mean-of-tokens"
OWN_POOLING = "own-pooling"  # as the text encoder's authors make one vector of a text
TOKEN_COUNT = 16
CENTRE_ASSET = (
    Path(__file__).parent.parent / "engine" / "assets" / "efficientnet-lite0-centre-v1.safetensors"
)

# Any number that no other code of the site takes: one process at a time makes models.
_LOCK = 7_203_001
_TABLES = {Modality.IMAGE: SlideEmbedding, Modality.TEXT: ReportEmbedding}


class NoActiveModel(DomainError):
    """No embedding model of this kind is switched on."""

    http_status = 503
    code = "no_active_model"
    message = _("No embedding model is active. The operator runs: manage.py ensure_models")


def active_model(modality: str) -> EmbeddingModel:
    """Return the model that searches of this modality use. Raises NoActiveModel."""
    model = EmbeddingModel.objects.filter(modality=modality, is_active=True).first()
    if model is None:
        raise NoActiveModel
    return model


def centre_asset() -> np.ndarray:
    """Return the float32 (1280,) centre that ships with the default model."""
    return load_file(CENTRE_ASSET)["centre"].astype("<f4")


def ensure_default_models() -> tuple[EmbeddingModel, EmbeddingModel]:
    """Make the two default models where they are missing, and activate each where none is.

    Returns the default image and text model. Safe to call at any time, by any number.
    """
    image_spec = IMAGE_ENCODERS["efficientnet-lite0"]
    text_spec = TEXT_ENCODERS["all-minilm-l6-v2"]
    with transaction.atomic():
        models_lock()
        image = _get_or_create(
            name=DEFAULT_IMAGE_MODEL,
            modality=Modality.IMAGE,
            encoder=image_spec.name,
            aggregator=PROTOTYPES,
            weights_sha256=image_spec.weights_sha256,
            dimension=image_spec.dimension,
            token_count=TOKEN_COUNT,
            patch_px=image_spec.patch_px,
            mpp=image_spec.mpp,
            description=(
                "Centred mean of ImageNet features and 16 tissue prototypes. Not trained on "
                "pathology: it compares texture, colour and structure."
            ),
        )
        text = _get_or_create(
            name=DEFAULT_TEXT_MODEL,
            modality=Modality.TEXT,
            encoder=text_spec.name,
            aggregator=MEAN_OF_TOKENS,
            weights_sha256=text_spec.weights_sha256,
            dimension=text_spec.dimension,
            description="A general sentence encoder over report texts.",
        )
        for model in (image, text):
            if not EmbeddingModel.objects.filter(modality=model.modality, is_active=True).exists():
                model.is_active = True
                model.save(update_fields=["is_active"])
            vector_index_ensure(_TABLES[model.modality], model)
    return image, text


def _get_or_create(**fields: Any) -> EmbeddingModel:
    existing = EmbeddingModel.objects.filter(name=fields["name"]).first()
    if existing:
        return existing
    if fields["modality"] == Modality.IMAGE:
        fields["centre"] = centre_asset().tobytes()
    return EmbeddingModel.objects.create(**fields)


def model_register(*, like: EmbeddingModel, name: str, centre: np.ndarray, description: str):
    """Return a new inactive image model: `like` with another centre. Its rows come later."""
    with transaction.atomic():
        models_lock()
        if EmbeddingModel.objects.filter(name=name).exists():
            raise DomainError(f"There is a model named {name} already.", code="name_taken")
        model = EmbeddingModel(
            name=name,
            modality=like.modality,
            encoder=like.encoder,
            aggregator=like.aggregator,
            weights_sha256=like.weights_sha256,
            dimension=like.dimension,
            token_count=like.token_count,
            patch_px=like.patch_px,
            mpp=like.mpp,
            centre=centre.astype("<f4").tobytes(),
            description=description,
        )
        model.full_clean()
        model.save()
    # After the commit, and so beside running searches and writes.
    vector_index_ensure(_TABLES[model.modality], model)
    return model


def encoder_model_register(
    *, encoder: str, name: str, modality: str = Modality.IMAGE, centre: np.ndarray | None = None
) -> EmbeddingModel:
    """Return a new inactive model with a registered encoder: prototypes of slides, or texts.

    Its recipe keeps the SHA-256 of the weights that are accepted now.

    Raises
    ------
    DomainError
        The name is taken or no slug, or the centre has another length than the features.
    EngineError
        There is no such encoder, or its files are not accepted on this site.
    """
    recipe = _image_recipe(encoder, centre) if modality == Modality.IMAGE else _text_recipe(encoder)
    with transaction.atomic():
        models_lock()
        if EmbeddingModel.objects.filter(name=name).exists():
            raise DomainError(f"There is a model named {name} already.", code="name_taken")
        model = EmbeddingModel(name=name, modality=modality, **recipe)
        try:
            model.full_clean(exclude=["centre"])
        except ValidationError as error:
            raise DomainError(" ".join(error.messages), code="model_invalid") from error
        model.save()
    # After the commit, and so beside running searches and writes.
    vector_index_ensure(_TABLES[model.modality], model)
    return model


def _image_recipe(encoder: str, centre: np.ndarray | None) -> dict[str, Any]:
    spec = IMAGE_ENCODERS[encoder]
    if centre is not None and centre.shape != (spec.dimension,):
        raise DomainError(
            f"The centre has {centre.size} values, {encoder} gives {spec.dimension}.",
            code="centre_misfits",
        )
    return {
        "encoder": spec.name,
        "aggregator": PROTOTYPES,
        "weights_sha256": weights_digest(spec),
        "dimension": spec.dimension,
        "token_count": TOKEN_COUNT,
        "patch_px": spec.patch_px,
        "mpp": spec.mpp,
        "centre": b"" if centre is None else centre.astype("<f4").tobytes(),
        "description": (
            f"Centred mean of {spec.name} features and {TOKEN_COUNT} tissue prototypes. "
            f"Licence of the encoder: {spec.licence}."
        ),
    }


def _text_recipe(encoder: str) -> dict[str, Any]:
    spec = TEXT_ENCODERS[encoder]
    return {
        "encoder": spec.name,
        "aggregator": OWN_POOLING,
        "weights_sha256": weights_digest(spec),
        "dimension": spec.dimension,
        "description": f"Report texts by {spec.name}. Licence of the encoder: {spec.licence}.",
    }


def models_kept_current() -> list[EmbeddingModel]:
    """Return the image models that new slides are indexed by, the active one first."""
    return list(
        EmbeddingModel.objects.filter(modality=Modality.IMAGE)
        .filter(Q(is_active=True) | Q(is_kept_current=True))
        .order_by("-is_active", "pk")
    )


def models_lock() -> None:
    """Wait until no other transaction makes or switches models; held until its end."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def embedding_table(model: EmbeddingModel) -> type[SlideEmbedding] | type[ReportEmbedding]:
    """Return the table that holds the model's vectors."""
    return _TABLES[model.modality]
