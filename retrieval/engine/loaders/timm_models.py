"""Vision transformers that timm builds, from the architecture in the registry's entry.

timm needs torchvision, which is not in the default environment: see docs/encoders.md.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import SwiGLUPacked

from retrieval.engine.encoders.spec import ImageEncoderSpec, Runtime
from retrieval.engine.loaders.weights import State, fill, misfit, part, read_state
from retrieval.engine.networks import PatchNetwork

# Entries name layers by text, so that the registry imports no torch.
_LAYERS = {"SwiGLUPacked": SwiGLUPacked, "SiLU": torch.nn.SiLU}


def build_trunk(options: Mapping[str, Any]) -> Any:
    """Return timm's network of an entry, with random weights and without a classifier."""
    arguments = {
        name: _LAYERS[value] if name in ("mlp_layer", "act_layer") else value
        for name, value in options["arguments"].items()
    }
    return timm.create_model(options["architecture"], pretrained=False, num_classes=0, **arguments)


class PooledTrunk(torch.nn.Module):
    """The class token of a vision transformer, or it and the mean of the patch tokens.

    The mean leaves out the register tokens.
    """

    def __init__(self, trunk: Any, pooling: str) -> None:
        super().__init__()
        self.trunk, self.pooling = trunk, pooling

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.trunk.forward_features(images)
        if self.pooling == "class":
            return tokens[:, 0]
        patches = tokens[:, self.trunk.num_prefix_tokens :]
        return torch.cat([tokens[:, 0], patches.mean(1)], dim=-1)


def vit_patches(spec: ImageEncoderSpec, weights: Path, runtime: Runtime) -> PatchNetwork:
    """Return a vision transformer whose release is timm's own state dict."""
    trunk = build_trunk(spec.options)
    fill(spec, trunk, read_state(spec, weights))
    return PatchNetwork(spec, PooledTrunk(trunk, spec.options["pooling"]), runtime)


class KeepVision(torch.nn.Module):
    """KEEP's image side: a vision transformer and a projection of two layers.

    The modules carry the names of the release: ``visual.*`` and ``visual_head.*``. The length
    of the output is one, as in the release.
    """

    def __init__(self, options: Mapping[str, Any], dimension: int) -> None:
        super().__init__()
        self.visual = build_trunk(options)
        self.visual_head = torch.nn.Sequential(
            torch.nn.Linear(self.visual.num_features, dimension),
            torch.nn.GELU(),
            torch.nn.Linear(dimension, dimension),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        vectors = self.visual_head(self.visual.forward_features(images)[:, 0])
        return torch.nn.functional.normalize(vectors, dim=-1)


def keep_patches(spec: ImageEncoderSpec, weights: Path, runtime: Runtime) -> PatchNetwork:
    """Return KEEP's image side. The repository's own code is not needed."""
    network = KeepVision(spec.options, spec.dimension)
    state = read_state(spec, weights)
    fill(spec, network, {k: v for k, v in state.items() if k.startswith("visual")})
    return PatchNetwork(spec, network, runtime)


class OneQueryPool(torch.nn.Module):
    """Attention pooling by learned queries over all tokens, without biases.

    Written from the description of CONCH v1.5's release; the names are those of its weights.
    """

    def __init__(self, dimension: int, context: int, heads: int, queries: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.query = torch.nn.Parameter(torch.zeros(queries, dimension))
        self.ln_k = torch.nn.LayerNorm(context)
        self.ln_q = torch.nn.LayerNorm(dimension)
        self.to_q = torch.nn.Linear(dimension, dimension, bias=False)
        self.to_kv = torch.nn.Linear(context, 2 * dimension, bias=False)
        self.to_out = torch.nn.Linear(dimension, dimension, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (B, Q, D) of tokens (B, T, C)."""
        query = self.to_q(self.ln_q(self.query)).expand(len(tokens), -1, -1)
        keys, values = self.to_kv(self.ln_k(tokens)).chunk(2, dim=-1)

        def split(x: torch.Tensor) -> torch.Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        pooled = torch.nn.functional.scaled_dot_product_attention(
            split(query), split(keys), split(values)
        )
        return self.to_out(pooled.transpose(1, 2).flatten(2))


class Conch15Vision(torch.nn.Module):
    """CONCH v1.5's image side: ViT-L/16, one pooled query, layer norm."""

    def __init__(self, options: Mapping[str, Any], dimension: int) -> None:
        super().__init__()
        self.trunk = build_trunk(options)
        self.attn_pool_contrast = OneQueryPool(
            dimension, self.trunk.num_features, options["pool_heads"]
        )
        self.ln_contrast = torch.nn.LayerNorm(dimension)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.trunk.forward_features(images)
        return self.ln_contrast(self.attn_pool_contrast(tokens)[:, 0])


def conch15_patches(spec: ImageEncoderSpec, weights: Path, runtime: Runtime) -> PatchNetwork:
    """Return CONCH v1.5 from the file that TITAN's `return_conch` loads, without TITAN's code."""
    network = Conch15Vision(spec.options, spec.dimension)
    state = read_state(spec, weights)
    # The whole of TITAN, saved as one, keeps this encoder elsewhere: then it is not in there.
    wanted = ("trunk.", "attn_pool_contrast.", "ln_contrast.")
    state = {name: value for name, value in state.items() if name.startswith(wanted)}
    key = "trunk.pos_embed"
    if key in state:
        state[key] = fitted_positions(spec, state[key], network.trunk.patch_embed.grid_size[0])
    fill(spec, network, state)
    return PatchNetwork(spec, network, runtime)


def fitted_positions(spec: ImageEncoderSpec, positions: torch.Tensor, side: int) -> torch.Tensor:
    """Return position embeddings (1, 1 + side^2, D) from those of another square grid.

    As DINO does on each forward pass: bicubic, by the scale factor (side + 0.1) / old side.
    """
    old = round((positions.shape[1] - 1) ** 0.5)
    if old == side:
        return positions
    if old * old != positions.shape[1] - 1:
        raise misfit(spec, f"{positions.shape[1]} position embeddings are no square and one")
    grid = positions[:, 1:].float().unflatten(1, (old, old)).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(
        grid, scale_factor=((side + 0.1) / old,) * 2, mode="bicubic"
    )
    return torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


class BiomedClipVision(torch.nn.Module):
    """BiomedCLIP's image tower as open_clip saved it: a trunk and one linear layer."""

    def __init__(self, options: Mapping[str, Any], dimension: int) -> None:
        super().__init__()
        self.trunk = build_trunk(options)
        self.head = torch.nn.Sequential()
        self.head.add_module(
            "proj", torch.nn.Linear(self.trunk.num_features, dimension, bias=False)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk.forward_features(images)[:, 0])


def biomedclip_patches(spec: ImageEncoderSpec, weights: Path, runtime: Runtime) -> PatchNetwork:
    """Return BiomedCLIP's image tower."""
    network = BiomedClipVision(spec.options, spec.dimension)
    state: State = part(read_state(spec, weights), "visual.")
    fill(spec, network, state)
    return PatchNetwork(spec, network, runtime)
