"""From the patch features of a slide to its vectors, by any of the kinds that a site can use.

`prototypes` needs no file. `aligner` and `reference` are trained: their weights are one
safetensors file, pinned by its SHA-256. Importing this module is cheap; torch is imported by a
reference network only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from retrieval.engine.aligner.model import Aligner, NoTextSide, load_aligner
from retrieval.engine.encoders import sha256_of
from retrieval.engine.errors import ModelCorrupt, ModelMissing
from retrieval.engine.explain import PatchAttention, assigned_patches, pooled_patches
from retrieval.engine.mosaic import Mosaic, normalised, prototypes

Floats = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
# Texts -> their unit vectors (n, T) by the sentence encoder that the model was trained with.
SentenceVectors = Callable[[list[str]], Float32Array]

PROTOTYPES, ALIGNER, REFERENCE = "prototypes", "aligner", "reference"
TRAINED = (ALIGNER, REFERENCE)


class UnknownWords(ValueError):
    """A text has no word that the model knows: any answer would be made up."""


class Aggregator(Protocol):
    """Makes a mosaic of a bag of patches.

    Attributes
    ----------
    input_dim, dimension, token_dimension : int
        Width of a patch feature, of a slide vector and of a token.
    has_text_side : bool
        Whether texts can be placed among the slide vectors.
    token_share : float or None
        Weight of the tokens in the similarity of two slides, where the model was calibrated.
    """

    @property
    def input_dim(self) -> int: ...
    @property
    def dimension(self) -> int: ...
    @property
    def token_dimension(self) -> int: ...
    @property
    def has_text_side(self) -> bool: ...
    @property
    def token_share(self) -> float | None: ...

    def embed(self, features: Floats, coords_l0: Ints, size_l0: int) -> Mosaic:
        """Return the mosaic of features (N, D_in) at corners (N, 2) of patches of a side."""

    def embed_texts(self, texts: Sequence[str], sentences: SentenceVectors) -> Float32Array:
        """Return unit vectors (n, D) of texts. Raises NoTextSide, UnknownWords."""

    def attention(self, features: Floats, coords_l0: Ints, tokens: Float32Array) -> PatchAttention:
        """Return which patches the slide's tokens (M, K), as `embed` made them, consist of."""


@dataclass(frozen=True)
class Prototypes:
    """Centred mean and tissue prototypes; nothing is learned but the centre."""

    dimension: int
    token_count: int
    centre: Float32Array | None = None
    has_text_side: bool = False
    token_share: float | None = None

    @property
    def input_dim(self) -> int:
        """Return the width of a feature: the same as that of the vectors."""
        return self.dimension

    @property
    def token_dimension(self) -> int:
        """Return the width of a token: the same as that of the vectors."""
        return self.dimension

    def embed(self, features: Floats, coords_l0: Ints, size_l0: int) -> Mosaic:
        """Return the mosaic; see `prototypes`."""
        return prototypes(
            features, coords_l0, size_l0, token_count=self.token_count, centre=self.centre
        )

    def embed_texts(self, texts: Sequence[str], sentences: SentenceVectors) -> Float32Array:
        """Raise NoTextSide: prototypes know no words."""
        raise NoTextSide("Prototypes cannot place a text among slides.")

    def attention(self, features: Floats, coords_l0: Ints, tokens: Float32Array) -> PatchAttention:
        """Return the patches of each cluster."""
        centre = 0 if self.centre is None else self.centre
        return assigned_patches(
            features, tokens, project=lambda rows: rows.astype(np.float32) - centre
        )


@dataclass(frozen=True)
class AlignerAggregator:
    """The default trained model; see `retrieval.engine.aligner`."""

    model: Aligner

    @property
    def input_dim(self) -> int:
        """Return the width of a patch feature."""
        return self.model.config.input_dim

    @property
    def dimension(self) -> int:
        """Return the width of a slide vector."""
        return self.model.dimension

    @property
    def token_dimension(self) -> int:
        """Return the width of a token."""
        return self.model.token_dimension

    @property
    def has_text_side(self) -> bool:
        """Return whether the model was trained with reports."""
        return self.model.words is not None

    @property
    def token_share(self) -> float:
        """Return the weight of the tokens that was chosen on held-out slides."""
        return self.model.config.token_share

    def embed(self, features: Floats, coords_l0: Ints, size_l0: int) -> Mosaic:
        """Return the mosaic, free of the order of the patches."""
        return self.model.embed(features, coords_l0, size_l0)

    def embed_texts(self, texts: Sequence[str], sentences: SentenceVectors) -> Float32Array:
        """Return the vectors of texts by the model's own words; no sentence encoder is asked."""
        try:
            return self.model.embed_texts(texts)
        except ValueError as error:
            raise UnknownWords(str(error)) from error

    def attention(self, features: Floats, coords_l0: Ints, tokens: Float32Array) -> PatchAttention:
        """Return the patches of each cluster along the patches' discriminant."""
        return assigned_patches(
            features,
            tokens,
            project=lambda rows: self.model.patch.project(rows) - self.model.centre,
        )


@dataclass(frozen=True)
class ReferenceNetwork:
    """The reference configuration. Patches are put in the order of their places first."""

    model: Any
    text_trained: bool
    token_share: float | None = None

    @property
    def input_dim(self) -> int:
        """Return the width of a patch feature."""
        return int(self.model.visual.config.input_dim)

    @property
    def dimension(self) -> int:
        """Return the width of a slide vector."""
        return int(self.model.visual.config.dim)

    @property
    def token_dimension(self) -> int:
        """Return the width of a token: the same as that of the vectors."""
        return self.dimension

    @property
    def has_text_side(self) -> bool:
        """Return whether the text projection was trained."""
        return self.text_trained

    def embed(self, features: Floats, coords_l0: Ints, size_l0: int) -> Mosaic:
        """Return the mosaic; a token lies at the patch that it attends to most."""
        made, order = self._made(features, coords_l0)
        vector = made.embedding[0].float().cpu().numpy()
        if not np.isfinite(vector).all():
            raise ValueError("features are not finite")
        shares = made.token_attention[0].float().cpu().numpy()
        at = order[made.attention[0].argmax(1).cpu().numpy()]
        ranked = np.argsort(-shares, kind="stable")
        places = [
            {
                "x_l0": int(coords_l0[at[token], 0]),
                "y_l0": int(coords_l0[at[token], 1]),
                "size_l0": int(size_l0),
                "share": round(float(shares[token]), 6),
            }
            for token in ranked
        ]
        return Mosaic(made.tokens[0].float().cpu().numpy()[ranked], places, vector)

    def _made(self, features: Floats, coords_l0: Ints) -> tuple[Any, Ints]:
        """Return what the network makes of the patches in the order of their places."""
        import torch

        order = np.lexsort((coords_l0[:, 0], coords_l0[:, 1])).astype(np.int64)
        bag = torch.from_numpy(np.ascontiguousarray(features[order], np.float32))
        with torch.inference_mode():
            return self.model.visual(bag[None].to(self.model.logit_scale.device)), order

    def attention(self, features: Floats, coords_l0: Ints, tokens: Float32Array) -> PatchAttention:
        """Return the attention of each token, in the order of the tokens and the patches."""
        made, order = self._made(features, coords_l0)
        ranked = np.argsort(-made.token_attention[0].float().cpu().numpy(), kind="stable")
        weights = np.empty((len(ranked), len(order)), np.float32)
        weights[:, order] = made.attention[0].float().cpu().numpy()[ranked]
        return pooled_patches(weights)

    def embed_texts(self, texts: Sequence[str], sentences: SentenceVectors) -> Float32Array:
        """Return the projected sentence vectors of texts."""
        if not self.text_trained:
            raise NoTextSide("This model was trained without reports and cannot place a text.")
        import torch

        vectors = torch.from_numpy(np.asarray(sentences(list(texts)), np.float32))
        with torch.inference_mode():
            made = self.model.embed_text(vectors.to(self.model.logit_scale.device))
        return normalised(made.float().cpu().numpy())


def load_aggregator(kind: str, path: Path, sha256: str, *, text_trained: bool) -> Aggregator:
    """Read a trained model whose bytes are the ones that were registered.

    Parameters
    ----------
    kind : str
        ``aligner`` or ``reference``.
    path : Path
        A safetensors file; nothing is unpickled.
    sha256 : str
        What its bytes must hash to.
    text_trained : bool
        Of a reference network: whether its text projection means anything.

    Raises
    ------
    ModelMissing, ModelCorrupt
    """
    if kind not in TRAINED:
        raise ModelMissing(f"There is no trained aggregator of the kind {kind!r}.")
    if not path.is_file():
        raise ModelMissing(
            f"The weights {path.name} of this model are missing. Put the file back from the "
            "backup, or train the model again: manage.py train_aligner"
        )
    if sha256_of(path) != sha256:
        raise ModelCorrupt(
            f"The weights {path.name} are not the ones that were registered (another SHA-256). "
            "Put the file back from the backup, or train the model again: manage.py train_aligner"
        )
    if kind == ALIGNER:
        return AlignerAggregator(load_aligner(path))
    from retrieval.engine.reference_weights import load_reference

    return ReferenceNetwork(load_reference(path).model, text_trained)
