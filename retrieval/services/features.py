"""Patch features on disk: written once, so that a new aggregation needs no pixels."""

import os
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
from django.conf import settings
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cases.errors import DomainError


class FeaturesUnreadable(DomainError):
    """The stored features of a slide image are missing or damaged; indexing it again mends it."""

    http_status = 409
    code = "features_unreadable"


@dataclass(frozen=True)
class StoredFeatures:
    """float16 (N, D) features of patches, their int64 (N, 2) places and their side, level 0."""

    features: np.ndarray
    coords_l0: np.ndarray
    size_l0: int


def features_path(slide_image_id: UUID, model_name: str) -> str:
    """Return where the features lie, relative to the data folder."""
    return f"features/{slide_image_id}/{model_name}.safetensors"


def features_prepare(
    path: str, *, features: np.ndarray, coords_l0: np.ndarray, size_l0: int
) -> Path:
    """Write the features beside their place and return that file; `features_place` moves it."""
    target = settings.DATA_DIR / path
    target.parent.mkdir(parents=True, exist_ok=True)
    # What a killed worker left half written.
    for left in target.parent.glob(f".{target.name}.*"):
        left.unlink(missing_ok=True)
    data = save(
        {
            "features": np.ascontiguousarray(features, np.float16),
            "coords_l0": np.ascontiguousarray(coords_l0, np.int64),
        },
        metadata={"size_l0": str(size_l0)},
    )
    prepared = target.with_name(f".{target.name}.{os.getpid()}")
    with prepared.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return prepared


def features_place(prepared: Path, path: str) -> None:
    """Put prepared features in their place, whole and in one step."""
    prepared.replace(settings.DATA_DIR / path)


def features_read(path: str) -> StoredFeatures:
    """Return stored features. Raises FeaturesUnreadable."""
    try:
        with safe_open(settings.DATA_DIR / path, framework="numpy") as file:
            return StoredFeatures(
                file.get_tensor("features"),
                file.get_tensor("coords_l0"),
                int(file.metadata()["size_l0"]),
            )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FeaturesUnreadable("The stored features cannot be read; index it again.") from error


def features_are_usable(path: str) -> bool:
    """Return whether the file is there and whole, by its header and length alone."""
    try:
        with safe_open(settings.DATA_DIR / path, framework="numpy") as file:
            count = file.get_slice("features").get_shape()[0]
            return bool(count and count == file.get_slice("coords_l0").get_shape()[0])
    except (OSError, SafetensorError):
        return False
