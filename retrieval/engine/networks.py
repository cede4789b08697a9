"""The networks behind the registry. Imports torch: only `encoders` imports this, and late."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrieval.engine.encoders import (
    EncoderSpec,
    Float32Array,
    ImageEncoderSpec,
    TextEncoderSpec,
    UInt8Array,
)
from retrieval.engine.errors import ModelCorrupt, ModelMissing


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


def _prepare(device: str, threads: int) -> torch.device:
    if threads > 0:
        torch.set_num_threads(threads)
    return pick_device(device)


class PatchNetwork:
    """A convolutional network over patches, on one device.

    Parameters
    ----------
    spec : ImageEncoderSpec
        Its registry entry.
    network : torch.nn.Module
        Maps (B, 3, P, P) normalised float images to (B, D) features.
    device : torch.device
        Where it runs. On a GPU under float16 autocast, on a CPU in float32.
    channels_last : bool
        Memory layout; channels-last nearly doubles a CNN's speed on a CPU.
    """

    def __init__(
        self,
        spec: ImageEncoderSpec,
        network: torch.nn.Module,
        device: torch.device,
        *,
        channels_last: bool = True,
    ) -> None:
        self.spec = spec
        self.device = device
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        # eval: batch norm by its running statistics, no dropout, no stochastic depth.
        network = network.eval().to(device)
        self.network = network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self._mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1)

    def encode(self, patches: UInt8Array) -> Float32Array:
        """Return float32 (B, D) features of uint8 RGB patches (B, P, P, 3)."""
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
            with torch.autocast(
                self.device.type, dtype=torch.float16, enabled=self.device.type == "cuda"
            ):
                features = self.network(images)
            return features.float().cpu().numpy()


class _PooledFeatures(torch.nn.Module):
    """Global average pool over the last feature map."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network.extract_features(images).mean(dim=(2, 3))


def _state_dict(spec: EncoderSpec, weights: Path) -> dict[str, torch.Tensor]:
    try:
        # weights_only: the file is a pickle, and nothing but tensors may come out of it.
        return torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelCorrupt(
            f"The weights of the encoder {spec.name} cannot be read. {spec.remedy}"
        ) from error


def efficientnet_lite0(
    spec: ImageEncoderSpec, weights: Path, device: str, threads: int
) -> PatchNetwork:
    """Return EfficientNet-Lite0 without its classifier: 1280 features a patch."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    try:
        network.load_state_dict(_state_dict(spec, weights), strict=True)
    except RuntimeError as error:
        raise ModelCorrupt(
            f"The weights of the encoder {spec.name} do not fit its network. {spec.remedy}"
        ) from error
    return PatchNetwork(spec, _PooledFeatures(network), _prepare(device, threads))


class SentenceNetwork:
    """A transformer over sentences: mean over the tokens, then L2-normalised."""

    def __init__(
        self,
        spec: TextEncoderSpec,
        tokenizer: Any,
        network: torch.nn.Module,
        device: torch.device,
        *,
        batch: int = 32,
    ) -> None:
        self.spec = spec
        self.device = device
        self.batch = batch
        self.tokenizer = tokenizer
        self.network = network.eval().to(device)

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
        tokens = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self.spec.max_tokens,
            return_tensors="pt",
        ).to(self.device)
        with torch.inference_mode():
            states = self.network(**tokens).last_hidden_state.float()
            weight = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
            mean = (states * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1).cpu().numpy()


def mean_pooled_sentences(
    spec: TextEncoderSpec, weights: Path, device: str, threads: int
) -> SentenceNetwork:
    """Return a sentence encoder from the local folder of its weights; nothing is downloaded."""
    from transformers import AutoModel, AutoTokenizer

    chosen = _prepare(device, threads)
    try:
        tokenizer = AutoTokenizer.from_pretrained(weights.parent, local_files_only=True)
        network = AutoModel.from_pretrained(
            weights.parent, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelCorrupt(
            f"The files of the encoder {spec.name} cannot be read. {spec.remedy}"
        ) from error
    return SentenceNetwork(spec, tokenizer, network, chosen)
