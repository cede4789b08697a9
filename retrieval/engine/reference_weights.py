"""Reads the released state dict of the reference configuration, name by name.

Nothing is taken on trust: a name that is missing, unknown or of another shape is an error that
says which, since a forgotten layer would otherwise search with random weights. Imports torch.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from retrieval.engine.aggregator import ReferenceAligner, ReferenceConfig
from retrieval.engine.errors import ModelCorrupt, ModelMissing

# (theirs, ours); the first that matches the start of a name is used.
_NAMES = (
    ("visual.proj.0.", "visual.project."),
    ("visual.cls_token", "visual.cls_token"),
    ("visual.trans_layer1.norm.", "visual.layer1.norm."),
    ("visual.trans_layer1.attn.", "visual.layer1.attention."),
    ("visual.trans_layer2.norm.", "visual.layer2.norm."),
    ("visual.trans_layer2.attn.", "visual.layer2.attention."),
    ("visual.pos_layer.proj.", "visual.positions.conv7."),
    ("visual.pos_layer.proj1.", "visual.positions.conv5."),
    ("visual.pos_layer.proj2.", "visual.positions.conv3."),
    ("visual.abmil.dim_reduction.fc1.", "visual.pool.reduce."),
    ("visual.abmil.dim_reduction.norm_act.1.", "visual.pool.norm."),
    ("visual.abmil.attention_2.", "visual.pool.final."),
    ("visual.abmil.attention.", "visual.pool.heads."),
    ("text_projection.", "text_projection."),
    ("logit_scale", "logit_scale"),
)
_INSIDE_ATTENTION = (
    (".attention_V.0.", ".tanh."),
    (".attention_U.0.", ".gate."),
    (".attention_weights.", ".score."),
)
_TEXT_TOWER = "text_model."


@dataclass(frozen=True)
class ReferenceWeights:
    """The network with its weights, in eval mode, and the text tower's own tensors by name."""

    model: ReferenceAligner
    text_tower: dict[str, torch.Tensor]


def our_name(theirs: str) -> str | None:
    """Return our name of one of their tensors; None when it is not of this network."""
    for start, ours in _NAMES:
        if theirs.startswith(start):
            name = ours + theirs[len(start) :]
            if ours.startswith("visual.pool.") and not ours.endswith(("reduce.", "norm.")):
                for inside, replacement in _INSIDE_ATTENTION:
                    name = name.replace(inside, replacement)
            return name
    return None


def their_name(ours: str) -> str:
    """Return the released name of one of our tensors.

    Raises
    ------
    KeyError
        The tensor is not of this network.
    """
    for start, own in _NAMES:
        if ours.startswith(own):
            name = start + ours[len(own) :]
            if own.startswith("visual.pool."):
                for inside, replacement in _INSIDE_ATTENTION:
                    name = name.replace(replacement, inside)
            return name
    raise KeyError(ours)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file by name, without prefixes; nothing else is unpickled.

    A ``model`` level and DataParallel's ``module.`` prefix are removed.

    Raises
    ------
    ModelMissing
        There is no such file.
    ModelCorrupt
        It cannot be read, or holds anything but tensors by name.
    """
    if not path.is_file():
        raise ModelMissing(f"There is no file {path.name} with weights of the reference network.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: Any = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelCorrupt(
            f"The weights {path.name} cannot be read, or hold more than tensors."
        ) from error
    return _bare(loaded)


def _bare(loaded: Any) -> dict[str, torch.Tensor]:
    if isinstance(loaded, Mapping) and isinstance(loaded.get("model"), Mapping):
        loaded = loaded["model"]
    if not isinstance(loaded, Mapping) or not loaded:
        raise ModelCorrupt("The file holds no tensors by name.")
    state = {}
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ModelCorrupt(f"The entry {name!r} of the weights is no tensor.")
        bare = name.removeprefix("module.")
        if bare in state:
            raise ModelCorrupt(f"The tensor {bare!r} is there twice, with and without prefix.")
        state[bare] = tensor
    return state


def _config(state: Mapping[str, torch.Tensor]) -> tuple[ReferenceConfig, int]:
    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in state:
            raise ModelCorrupt(f"The weights lack the tensor {name!r}.", code="missing_tensor")
        if state[name].ndim != dimensions:
            raise ModelCorrupt(
                f"The tensor {name!r} has the shape {tuple(state[name].shape)}.",
                code="misshaped_tensor",
            )
        return tuple(state[name].shape)

    dim, input_dim = shape("visual.proj.0.weight", 2)
    convolution = shape("visual.trans_layer1.attn.res_conv.weight", 4)
    hidden = shape("visual.abmil.attention_2.attention_V.0.weight", 2)[0]
    text_dim = shape("text_projection.weight", 2)[1]
    heads = [re.match(r"visual\.abmil\.attention\.(\d+)\.", name) for name in state]
    count = max((int(found.group(1)) + 1 for found in heads if found), default=0)
    try:
        config = ReferenceConfig(
            input_dim=input_dim,
            dim=dim,
            token_count=count,
            heads=convolution[0],
            hidden=hidden,
            residual_kernel=convolution[2],
        )
    except ValueError as error:
        raise ModelCorrupt(f"The weights fit no network: {error}.") from error
    return config, text_dim


def load_reference(state_or_path: Mapping[str, torch.Tensor] | Path) -> ReferenceWeights:
    """Build the network that the weights describe and fill it.

    Parameters
    ----------
    state_or_path : mapping or Path
        The released state dict, or its file (`.pt`, `.pth`, `.bin` or `.safetensors`).

    Raises
    ------
    ModelMissing, ModelCorrupt
        With the code ``missing_tensor``, ``unexpected_tensor`` or ``misshaped_tensor`` and
        the names, where names are at fault.
    """
    if isinstance(state_or_path, Path):
        state = read_state_dict(state_or_path)
    else:
        state = _bare(state_or_path)
    text_tower = {
        name.removeprefix(_TEXT_TOWER): tensor
        for name, tensor in state.items()
        if name.startswith(_TEXT_TOWER)
    }
    theirs = {name: tensor for name, tensor in state.items() if not name.startswith(_TEXT_TOWER)}
    config, text_dim = _config(theirs)
    model = ReferenceAligner(config, text_dim)
    expected = model.state_dict()
    ours = {}
    unexpected = []
    for name, tensor in theirs.items():
        own = our_name(name)
        if own is None or own not in expected:
            unexpected.append(name)
        elif tensor.shape != expected[own].shape:
            raise ModelCorrupt(
                f"The tensor {name!r} has the shape {tuple(tensor.shape)}, "
                f"not {tuple(expected[own].shape)}.",
                code="misshaped_tensor",
            )
        else:
            ours[own] = tensor
    missing = [their_name(name) for name in expected if name not in ours]
    if missing:
        raise ModelCorrupt(f"The weights lack {_listed(missing)}.", code="missing_tensor")
    if unexpected:
        raise ModelCorrupt(
            f"The weights hold unknown tensors: {_listed(unexpected)}.", code="unexpected_tensor"
        )
    model.load_state_dict(ours, strict=True)
    return ReferenceWeights(model.eval(), text_tower)


def released_state(model: ReferenceAligner) -> dict[str, torch.Tensor]:
    """Return the model's tensors under the released names."""
    return {their_name(name): tensor for name, tensor in model.state_dict().items()}


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more
