"""What is known of an encoder without loading it, and the registries' own class. No torch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from retrieval.engine.errors import UnknownEncoder

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


class ImageEncoder(Protocol):
    """Turns patches into features."""

    spec: "ImageEncoderSpec"

    def encode(self, patches: UInt8Array) -> Float32Array:
        """Return (B, D) features of uint8 RGB patches (B, P, P, 3)."""


class TextEncoder(Protocol):
    """Turns texts into vectors of length one."""

    spec: "TextEncoderSpec"

    def encode(self, texts: list[str]) -> Float32Array:
        """Return (n, D) L2-normalised vectors of the texts."""


@dataclass(frozen=True)
class Runtime:
    """Where and how a network runs.

    Attributes
    ----------
    device : str
        ``auto`` (a GPU when there is one), ``cpu``, ``cuda`` or ``cuda:N``.
    threads : int
        CPU threads of the network; 0: torch's own choice.
    precision : str
        ``auto`` (the entry's own on a GPU, float32 on a CPU), ``float32``, ``bfloat16`` or
        ``float16``: the type under autocast; weights stay float32.
    compiled : bool
        Whether to try torch.compile; where it fails, the network runs uncompiled.
    """

    device: str = "auto"
    threads: int = 0
    precision: str = "auto"
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise ValueError(f"the precision {self.precision!r} is none of {known}")


@dataclass(frozen=True)
class ModelFiles:
    """Where the files of a model that the site provides are looked for.

    Attributes
    ----------
    folder : str
        Name of its folder in the models folder. Entries that come out of one release share it,
        and are pinned together.
    repositories : tuple of str
        On the Hugging Face hub; the first that is in the hub's cache is taken.
    weights : tuple of str
        Names of the weights file; the first that is there is taken.
    required : tuple of str
        Other files that loading needs, beside the weights; ``a|b``: either will do.
    """

    folder: str
    repositories: tuple[str, ...]
    weights: tuple[str, ...]
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class EncoderSpec:
    """What is known of an encoder without loading it.

    Attributes
    ----------
    name : str
        Its name in the registry and in `EmbeddingModel.encoder`.
    dimension : int
        Length D of its vectors.
    licence, source : str
        Terms of the weights, and where they come from.
    weights_sha256 : str
        SHA-256 of the weights file, hexadecimal; empty for a model that the site provides:
        an administrator pins its files.
    locate : callable
        Returns the path of the weights file; raises ImportError where the package that
        holds it is missing.
    builder : str
        ``module:function`` that makes the encoder from (spec, weights, runtime). Named by text
        so that its module, and torch with it, is imported on loading only.
    remedy : str
        What to do when the weights are missing or wrong.
    files : ModelFiles, optional
        Of a model that the site provides.
    library : str
        What loads it: ``transformers``, ``timm`` or ``open_clip``; empty: torch alone.
    gated : bool
        Whether the hub gives the files only to accounts that accepted the terms.
    shares_space_with : str
        Name of the encoder of the other kind whose vectors can be compared with these.
    gpu_precision : str
        Type under autocast on a GPU, unless the site sets another.
    note : str
        What users must know: what is ours and not the authors', what is left out.
    options : mapping
        What the builder needs: the architecture, how tokens become one vector.
    """

    name: str
    dimension: int
    licence: str
    source: str
    weights_sha256: str
    locate: Callable[[], Path]
    builder: str
    remedy: str
    files: ModelFiles | None = None
    library: str = ""
    gated: bool = False
    shares_space_with: str = ""
    gpu_precision: str = "float16"
    note: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageEncoderSpec(EncoderSpec):
    """An image encoder: takes patches of `patch_px` pixels at `mpp` um per pixel.

    `mean` and `std` are in grey levels (0 to 255): x -> (x - mean) / std per channel.
    `channels_last` is the memory layout: it helps convolutional networks, not transformers.
    """

    patch_px: int = 224
    mpp: float = 0.5
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)
    channels_last: bool = False


@dataclass(frozen=True)
class TextEncoderSpec(EncoderSpec):
    """A text encoder; longer texts are cut after `max_tokens`."""

    max_tokens: int = 256


SpecT = TypeVar("SpecT", bound=EncoderSpec)


class Registry(Mapping[str, SpecT], Generic[SpecT]):
    """Encoders by name.

    Parameters
    ----------
    kind : str
        ``image`` or ``text``, for messages.
    by_name : callable, optional
        Makes the entry of a name that is not registered, or returns None: for families of
        encoders whose names the site chooses.
    """

    def __init__(
        self, kind: str, by_name: Callable[[str], SpecT | None] = lambda name: None
    ) -> None:
        self.kind = kind
        self._by_name = by_name
        self._specs: dict[str, SpecT] = {}

    def register(self, spec: SpecT) -> SpecT:
        """Add an encoder; a name is given once."""
        if spec.name in self._specs:
            raise ValueError(f"The {self.kind} encoder {spec.name!r} is registered already.")
        self._specs[spec.name] = spec
        return spec

    def __getitem__(self, name: str) -> SpecT:
        found = self._specs.get(name) or self._by_name(name)
        if found is None:
            known = ", ".join(sorted(self._specs)) or "none"
            raise UnknownEncoder(f"There is no {self.kind} encoder {name!r}; registered: {known}.")
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)
