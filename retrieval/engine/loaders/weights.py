"""Reads weights files, and puts them into networks of which every part must be given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from retrieval.engine.encoders.spec import EncoderSpec
from retrieval.engine.errors import ModelCorrupt

State = dict[str, torch.Tensor]


def read_state(spec: EncoderSpec, path: Path) -> State:
    """Return the tensors of a file by name, on the CPU.

    A state dict under ``state_dict`` or ``model`` is taken out, and the prefix ``module.`` of
    DataParallel removed.

    Raises
    ------
    ModelCorrupt
        The file is damaged, or holds something else than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            said: Any = load_file(path)
        else:
            # weights_only: the file is a pickle, and nothing but tensors may come out of it.
            said = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model"):
            if isinstance(said.get(key), dict):
                said = said[key]
        state = {str(k).removeprefix("module."): v for k, v in said.items()}
        if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError("something else than tensors")
    except Exception as error:
        raise ModelCorrupt(
            f"The weights of the encoder {spec.name} cannot be read. {spec.remedy}"
        ) from error
    return state


def part(state: Mapping[str, torch.Tensor], *prefixes: str) -> State:
    """Return the tensors whose names start with one of the prefixes, without it."""
    chosen: State = {}
    for prefix in prefixes:
        chosen |= {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return chosen


def without_buffers(state: Mapping[str, torch.Tensor]) -> State:
    """Return the tensors without position numbers, which old releases of libraries saved."""
    return {k: v for k, v in state.items() if not k.endswith("position_ids")}


def fill(spec: EncoderSpec, network: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Put the tensors into the network, which must want exactly these.

    Raises
    ------
    ModelCorrupt
        A tensor is missing, is one too many, or has another shape: never a random weight.
    """
    try:
        network.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise misfit(spec, str(error)) from error


def misfit(spec: EncoderSpec, detail: str) -> ModelCorrupt:
    """Return the error for weights of another network."""
    return ModelCorrupt(
        f"The weights of the encoder {spec.name} do not fit its network "
        f"({' '.join(detail.split())[:300]}). {spec.remedy}"
    )
