"""The networks behind the registry. Imports torch: only `encoders` imports this, and late."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrieval.engine.encoders.spec import (
    Float32Array,
    ImageEncoderSpec,
    Runtime,
    TextEncoderSpec,
    UInt8Array,
)
from retrieval.engine.errors import ModelCorrupt, ModelMissing
from retrieval.engine.loaders.weights import fill, read_state

log = logging.getLogger(__name__)

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Texts to token tensors (B, T), by the names that the network's forward takes.
Tokenize = Callable[[list[str]], Mapping[str, torch.Tensor]]


def pick_device(name: str) -> torch.device:
    """Return the device; ``auto`` is a GPU when torch sees one.

    Raises
    ------
    ModelMissing
        A GPU was asked for by name and this machine, or this build of torch, has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelMissing(
            f"The device {name} was asked for, but torch {torch.__version__} sees no GPU here. "
            "Install the CUDA build of torch, or set PATHSEARCH_DEVICE=cpu.",
            code="no_gpu",
        )
    return device


def pick_type(precision: str, own: str, device: torch.device) -> torch.dtype:
    """Return the type under autocast; see `Runtime.precision` and `EncoderSpec.gpu_precision`.

    A GPU without bfloat16 gets float16 in its place. A CPU computes in float32 unless the site
    asks for another type by name: most CPUs are slower in any other.
    """
    if precision == "auto":
        precision = own if device.type == "cuda" else "float32"
    if precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        precision = "float16"
    return _TYPES[precision]


class _Runner:
    """Runs a network in one type on one device, compiled where that works."""

    def __init__(self, network: torch.nn.Module, own_precision: str, runtime: Runtime) -> None:
        if runtime.threads > 0:
            torch.set_num_threads(runtime.threads)
        self.device = pick_device(runtime.device)
        self.type = pick_type(runtime.precision, own_precision, self.device)
        # eval: batch norm by its running statistics, no dropout, no stochastic depth.
        self.network: Any = network.float().eval().to(self.device)
        self._compiled: Any = torch.compile(self.network) if runtime.compiled else None

    def __call__(self, *inputs: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        """Return the network's output as float32, always finite where the weights are."""
        vectors = self._autocast(self.type, inputs, named)
        if self.type != torch.float32 and not torch.isfinite(vectors).all():
            # float16 ends at 65504; a few networks have larger values inside.
            log.warning("%s gave values that are not finite; computed again in float32", self.type)
            vectors = self._autocast(torch.float32, inputs, named)
        return vectors

    def _autocast(
        self, kind: torch.dtype, inputs: tuple[torch.Tensor, ...], named: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        with torch.autocast(self.device.type, dtype=kind, enabled=kind != torch.float32):
            if self._compiled is not None:
                try:
                    return self._compiled(*inputs, **named).float()
                except Exception as error:
                    # No compiler, an operator it cannot take: never a reason not to encode.
                    log.warning("torch.compile failed (%s); running uncompiled", error)
                    self._compiled = None
            return self.network(*inputs, **named).float()


class PatchNetwork:
    """An image network over patches, on one device.

    Parameters
    ----------
    spec : ImageEncoderSpec
        Its registry entry.
    network : torch.nn.Module
        Maps (B, 3, P, P) normalised float images to (B, D) features.
    runtime : Runtime
    channels_last : bool, optional
        Memory layout; the entry's own by default. Channels-last nearly doubles a CNN's speed
        on a CPU.
    """

    def __init__(
        self,
        spec: ImageEncoderSpec,
        network: torch.nn.Module,
        runtime: Runtime | None = None,
        *,
        channels_last: bool | None = None,
    ) -> None:
        self.spec = spec
        if channels_last is None:
            channels_last = spec.channels_last
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        network = network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self._run = _Runner(network, spec.gpu_precision, runtime or Runtime())
        self.network, self.device = self._run.network, self._run.device
        self._mean = torch.tensor(spec.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std, device=self.device).view(1, 3, 1, 1)

    def encode(self, patches: UInt8Array) -> Float32Array:
        """Return float32 (B, D) features of uint8 RGB patches (B, P, P, 3).

        Raises
        ------
        ValueError
            Patches of another size or type.
        ModelCorrupt
            The network gives vectors of another length than its entry says.
        """
        size = self.spec.patch_px
        if patches.dtype != np.uint8 or patches.shape[1:] != (size, size, 3):
            raise ValueError(
                f"{self.spec.name} takes uint8 (B, {size}, {size}, 3), "
                f"not {patches.dtype} {patches.shape}"
            )
        if not len(patches):
            return np.empty((0, self.spec.dimension), np.float32)
        with torch.inference_mode():
            # A view of (B, P, P, 3) as (B, 3, P, P) is channels-last already: no copy.
            batch = torch.from_numpy(np.ascontiguousarray(patches)).to(self.device)
            images = batch.permute(0, 3, 1, 2).to(torch.float32)
            images = ((images - self._mean) / self._std).contiguous(
                memory_format=self.memory_format
            )
            features = self._run(images).cpu().numpy()
        return _of_width(features, self.spec)


class SentenceNetwork:
    """A network over texts; its vectors are L2-normalised.

    Parameters
    ----------
    spec : TextEncoderSpec
    tokenize : callable
        Cuts at `spec.max_tokens`.
    network : torch.nn.Module
        Maps what `tokenize` returns to (B, D) vectors.
    runtime : Runtime
    """

    def __init__(
        self,
        spec: TextEncoderSpec,
        tokenize: Tokenize,
        network: torch.nn.Module,
        runtime: Runtime | None = None,
        *,
        batch: int = 32,
    ) -> None:
        self.spec = spec
        self.batch = batch
        self._tokenize = tokenize
        self._run = _Runner(network, spec.gpu_precision, runtime or Runtime())
        self.network, self.device = self._run.network, self._run.device

    def encode(self, texts: list[str]) -> Float32Array:
        """Return float32 (n, D) L2-normalised vectors; a text is cut at `max_tokens`."""
        vectors = np.empty((len(texts), self.spec.dimension), np.float32)
        # By length: a batch is padded to its longest text.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), self.batch):
            chosen = order[start : start + self.batch]
            vectors[chosen] = self._encode_batch([texts[index] for index in chosen])
        return vectors

    def _encode_batch(self, texts: list[str]) -> Float32Array:
        tokens = {name: ids.to(self.device) for name, ids in self._tokenize(texts).items()}
        with torch.inference_mode():
            vectors = torch.nn.functional.normalize(self._run(**tokens), dim=1)
            return _of_width(vectors.cpu().numpy(), self.spec)


def _of_width(vectors: Float32Array, spec: ImageEncoderSpec | TextEncoderSpec) -> Float32Array:
    if vectors.shape[1] != spec.dimension:
        raise ModelCorrupt(
            f"The encoder {spec.name} gives vectors of {vectors.shape[1]} values; "
            f"{spec.dimension} are expected. {spec.remedy}"
        )
    return vectors


class _PooledFeatures(torch.nn.Module):
    """Global average pool over the last feature map."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network.extract_features(images).mean(dim=(2, 3))


def efficientnet_lite0(spec: ImageEncoderSpec, weights: Path, runtime: Runtime) -> PatchNetwork:
    """Return EfficientNet-Lite0 without its classifier: 1280 features a patch."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    fill(spec, network, read_state(spec, weights))
    return PatchNetwork(spec, _PooledFeatures(network), runtime)


class MeanOfTokens(torch.nn.Module):
    """Mean of a transformer's last states over the tokens of a text."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, attention_mask: torch.Tensor, **tokens: torch.Tensor) -> torch.Tensor:
        states = self.network(attention_mask=attention_mask, **tokens).last_hidden_state.float()
        weight = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1).clamp(min=1e-9)


def tokenizer_of(spec: TextEncoderSpec, tokenizer: Any, *, padding: Any = True) -> Tokenize:
    """Return the function that cuts and pads texts by a tokenizer of transformers."""

    def tokenize(texts: list[str]) -> Mapping[str, torch.Tensor]:
        return dict(
            tokenizer(
                texts,
                padding=padding,
                truncation=True,
                max_length=spec.max_tokens,
                return_tensors="pt",
            )
        )

    return tokenize


def mean_pooled_sentences(
    spec: TextEncoderSpec, weights: Path, runtime: Runtime
) -> SentenceNetwork:
    """Return a sentence encoder from the local folder of its weights; nothing is downloaded."""
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(weights.parent, local_files_only=True)
        network = AutoModel.from_pretrained(
            weights.parent, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelCorrupt(
            f"The files of the encoder {spec.name} cannot be read. {spec.remedy}"
        ) from error
    return SentenceNetwork(spec, tokenizer_of(spec, tokenizer), MeanOfTokens(network), runtime)
