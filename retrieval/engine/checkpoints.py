"""The state of a training on disk: whole or not at all, and of one run only. Imports torch."""

import os
from pathlib import Path
from typing import Any

import torch

from retrieval.engine.errors import ModelCorrupt


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state; an older one is replaced only when the new one is complete on the disk."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_checkpoint(path: Path, identity: str) -> dict[str, Any]:
    """Return the state of the run with this identity; only tensors and texts are unpickled.

    Raises ModelCorrupt when it cannot be read or is of another run.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        same = state["identity"] == identity
    except Exception as error:
        raise ModelCorrupt(f"The checkpoint {path.name} cannot be read.") from error
    if not same:
        raise ModelCorrupt(
            f"The checkpoint {path.name} is of a run with other data or settings. "
            "Remove it, or give another name."
        )
    return state
