"""Networks of open_clip's parts: QuiltNet as it is, CONCH put together from the same blocks.

open_clip needs torchvision, which is not in the default environment: see docs/encoders.md.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import AttentionalPooler, Transformer
from transformers import PreTrainedTokenizerFast

from retrieval.engine.encoders.spec import EncoderSpec, ImageEncoderSpec, Runtime, TextEncoderSpec
from retrieval.engine.errors import ModelCorrupt
from retrieval.engine.loaders.timm_models import build_trunk
from retrieval.engine.loaders.weights import fill, part, read_state
from retrieval.engine.networks import PatchNetwork, SentenceNetwork, Tokenize

_CONFIG = "open_clip_config.json"
_SPECIAL = {"bos_token": "<start_of_text>", "eos_token": "<end_of_text>", "pad_token": "<pad>"}


def _clip(spec: EncoderSpec, weights: Path) -> CLIP:
    """Return the CLIP model that a folder's open_clip_config.json describes, filled."""
    try:
        said = json.loads((weights.parent / _CONFIG).read_text(encoding="utf-8"))["model_cfg"]
        parts = {**said["vision_cfg"], **said["text_cfg"]}
        if "hf_model_name" in parts or "timm_model_name" in parts:
            raise ValueError("towers of other libraries")
        network = CLIP(
            embed_dim=said["embed_dim"],
            vision_cfg=said["vision_cfg"],
            text_cfg=said["text_cfg"],
            quick_gelu=said.get("quick_gelu", False),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelCorrupt(
            f"{_CONFIG} of the encoder {spec.name} does not describe a plain CLIP model. "
            f"{spec.remedy}"
        ) from error
    fill(spec, network, read_state(spec, weights))
    return network


class _ClipSide(torch.nn.Module):
    """One side of a CLIP model, projected."""

    def __init__(self, network: CLIP, side: str) -> None:
        super().__init__()
        self.network, self.side = network, side

    def forward(
        self, images: torch.Tensor | None = None, text: torch.Tensor | None = None
    ) -> torch.Tensor:
        if self.side == "image":
            return self.network.encode_image(images)
        return self.network.encode_text(text)


def clip_patches(spec: ImageEncoderSpec, weights: Path, runtime: Runtime) -> PatchNetwork:
    """Return the image side of a CLIP model in open_clip's layout."""
    return PatchNetwork(spec, _ClipSide(_clip(spec, weights), "image"), runtime)


def clip_texts(spec: TextEncoderSpec, weights: Path, runtime: Runtime) -> SentenceNetwork:
    """Return the text side of a CLIP model in open_clip's layout, with CLIP's own tokenizer."""
    network = _clip(spec, weights)
    # The vocabulary comes with the package.
    tokenizer = SimpleTokenizer(context_length=spec.max_tokens)

    def tokenize(texts: list[str]) -> Mapping[str, torch.Tensor]:
        return {"text": tokenizer(texts)}

    return SentenceNetwork(spec, tokenize, _ClipSide(network, "text"), runtime)


class ConchVision(torch.nn.Module):
    """CONCH's image side up to its contrastive embedding, before the projection or after it."""

    def __init__(self, options: Mapping[str, Any], dimension: int) -> None:
        super().__init__()
        self.projected = bool(options["projected"])
        self.trunk = build_trunk(options)
        self.attn_pool_contrast = AttentionalPooler(
            dimension, self.trunk.num_features, n_head=options["pool_heads"], n_queries=1
        )
        self.ln_contrast = torch.nn.LayerNorm(dimension)
        self.proj_contrast = torch.nn.Parameter(torch.zeros(dimension, dimension))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.trunk.forward_features(images)
        pooled = self.ln_contrast(self.attn_pool_contrast(tokens)[:, 0])
        return pooled @ self.proj_contrast if self.projected else pooled


def conch_patches(spec: ImageEncoderSpec, weights: Path, runtime: Runtime) -> PatchNetwork:
    """Return CONCH's image side; its decoder and captioning pool are left out."""
    network = ConchVision(spec.options, spec.dimension)
    wanted = ("trunk.", "attn_pool_contrast.", "ln_contrast.", "proj_contrast")
    state = part(read_state(spec, weights), "visual.")
    fill(spec, network, {k: v for k, v in state.items() if k.startswith(wanted)})
    return PatchNetwork(spec, network, runtime)


class ConchText(torch.nn.Module):
    """CONCH's text side: a causal transformer with the class token last.

    The mask hides padding from the class token as the release does: it is the padding of the
    tokens moved by one place, since the place was made for a class token that comes first.
    Equal vectors need the same mask.
    """

    def __init__(self, options: Mapping[str, Any], dimension: int) -> None:
        super().__init__()
        width, length = options["width"], options["context_length"]
        self.heads, self.pad_id = options["heads"], 0
        self.token_embedding = torch.nn.Embedding(options["vocab_size"], width)
        self.positional_embedding = torch.nn.Parameter(torch.zeros(length, width))
        self.cls_emb = torch.nn.Parameter(torch.zeros(width))
        self.transformer = Transformer(
            width=width, layers=options["layers"], heads=self.heads, batch_first=True
        )
        self.ln_final = torch.nn.LayerNorm(width)
        self.text_projection = torch.nn.Parameter(torch.zeros(width, dimension))

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Return (B, D) of token numbers (B, T)."""
        batch, length = text.shape
        cls = self.cls_emb.expand(batch, 1, -1)
        x = torch.cat([self.token_embedding(text), cls], dim=1)
        x = x + self.positional_embedding[: length + 1]
        x = self.transformer(x, attn_mask=self.mask(text).to(x.dtype))
        return self.ln_final(x[:, -1]) @ self.text_projection

    def mask(self, text: torch.Tensor) -> torch.Tensor:
        """Return the additive mask (B * heads, T + 1, T + 1) of token numbers (B, T)."""
        batch, length = text.shape
        hidden = torch.ones(length + 1, length + 1, device=text.device).triu(1).bool()
        mask = hidden.expand(batch, -1, -1).clone()
        mask[:, -1, 1:] |= text == self.pad_id
        return (
            torch.zeros_like(mask, dtype=torch.float32)
            .masked_fill(mask, float("-inf"))
            .repeat_interleave(self.heads, 0)
        )


def conch_texts(spec: TextEncoderSpec, weights: Path, runtime: Runtime) -> SentenceNetwork:
    """Return CONCH's text side; tokenizer.json is the one of CONCH's repository."""
    network = ConchText(spec.options, spec.dimension)
    state = part(read_state(spec, weights), "text.")
    fill(spec, network, {k: v for k, v in state.items() if k != "attn_mask"})
    return SentenceNetwork(spec, _conch_tokenizer(spec, weights.parent), network, runtime)


def _conch_tokenizer(spec: TextEncoderSpec, folder: Path) -> Tokenize:
    try:
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"),
            **_SPECIAL,
        )
    except Exception as error:
        # The tokenizers library raises bare Exceptions.
        raise ModelCorrupt(
            f"The tokenizer of the encoder {spec.name} cannot be read. {spec.remedy}"
        ) from error

    def tokenize(texts: list[str]) -> Mapping[str, torch.Tensor]:
        ids = tokenizer(
            texts,
            # The last place of the context is the class token's.
            max_length=spec.max_tokens,
            padding="max_length",
            truncation=True,
            return_token_type_ids=False,
            return_tensors="pt",
        )["input_ids"]
        return {"text": ids}

    return tokenize
