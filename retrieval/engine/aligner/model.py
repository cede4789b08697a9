"""The default model: what a slide and a report become, and how two of them compare.

A slide vector has two parts, each of length one before they are weighted. The *label part* is
the softened probability of each diagnosis that the model knows; the *look part* is the slide's
statistics along their whitened main axes, whatever the diagnosis. A token is the centre of one
kind of tissue, along the directions that tell diagnoses apart. All of it is free of the order of
the patches, signed and centred; the similarity is symmetric. The text side predicts both parts of
the vector from words.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.engine.aligner.discriminant import Discriminant, Whitening, soft_labels
from retrieval.engine.aligner.statistics import QUANTILES, slide_statistics
from retrieval.engine.aligner.words import Ridge, WordConfig, WordWeights
from retrieval.engine.errors import EngineError, ModelCorrupt, ModelMissing
from retrieval.engine.mosaic import Mosaic, normalised, prototypes
from retrieval.engine.ranking import mosaic_similarity, pad_mosaics

Floats = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

FORMAT = "pathsearch-aligner-1"


class NoTextSide(EngineError):
    """The model was trained without reports and cannot place a text."""

    code = "no_text_side"


@dataclass(frozen=True)
class AlignerConfig:
    """Everything about a model that is no array.

    Attributes
    ----------
    input_dim : int
        Width of a patch feature.
    label_names : tuple of str
        The diagnoses that the label part speaks of.
    temperature, text_temperature : float
        Soften the label scores of slides and of texts.
    label_share : float, 0 to 1
        Weight of the label part in the cosine of two vectors; the look part has the rest.
    token_count : int
        Most tokens of a slide.
    token_share : float, 0 to 1
        Weight of the tokens in the similarity; the vectors have the rest.
    quantiles : tuple of float
    words : WordConfig
    """

    input_dim: int
    label_names: tuple[str, ...]
    temperature: float = 3.0
    text_temperature: float = 0.07
    label_share: float = 0.8
    token_count: int = 16
    token_share: float = 0.2
    quantiles: tuple[float, ...] = QUANTILES
    words: WordConfig = field(default_factory=WordConfig)

    def to_json(self) -> str:
        """Return the configuration as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "AlignerConfig":
        """Return the configuration that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        fields["words"] = WordConfig(**fields["words"])
        fields["label_names"] = tuple(fields["label_names"])
        fields["quantiles"] = tuple(fields["quantiles"])
        return cls(**fields)


@dataclass(frozen=True)
class Comparison:
    """Why two slides are alike: the parts of the similarity, which add up to it.

    Attributes
    ----------
    similarity, label_part, look_part, token_part : float
    labels : list of (str, float)
        Each diagnosis' contribution to the label part, largest first.
    cosines : float32 (Mq, Mc)
        Of all pairs of tokens.
    """

    similarity: float
    label_part: float
    look_part: float
    token_part: float
    labels: list[tuple[str, float]]
    cosines: Float32Array


@dataclass(frozen=True)
class Aligner:
    """A trained model.

    Attributes
    ----------
    config : AlignerConfig
    slide : Discriminant
        Over the statistics of a slide.
    look : Whitening
        Over the standardised statistics of a slide.
    patch : Discriminant
        Over single patches; its directions are the space of the tokens.
    centre : float32 (K,)
        Mean of the training patches along the directions.
    words, text_labels, text_look : optional
        The text side: weights of words, and ridges to the two parts.
    """

    config: AlignerConfig
    slide: Discriminant
    look: Whitening
    patch: Discriminant
    centre: Float32Array
    words: WordWeights | None = None
    text_labels: Ridge | None = None
    text_look: Ridge | None = None

    @property
    def dimension(self) -> int:
        """Return the length of a slide vector."""
        return len(self.config.label_names) + int(self.look.axes.shape[1])

    @property
    def token_dimension(self) -> int:
        """Return the length of a token."""
        return int(self.patch.directions.shape[1])

    def with_settings(self, **settings: Any) -> "Aligner":
        """Return the model with other temperatures or shares; nothing is fitted again."""
        return replace(self, config=replace(self.config, **settings))

    def embed(
        self, features: Floats, coords_l0: Ints | None = None, size_l0: int = 1, seed: int = 0
    ) -> Mosaic:
        """Return the tokens, their places and the slide vector of a bag of patches.

        Parameters
        ----------
        features : float (N, D)
            N >= 1.
        coords_l0 : int64 (N, 2), optional
            Corners of the patches in level-0 pixels; they only say where a token lies.
        size_l0 : int
            Side of a patch in level-0 pixels.
        seed : int
            Of the k-means starts.

        Raises
        ------
        ValueError
            Another width, no patch, or features that are not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.config.input_dim:
            raise ValueError(f"the model takes (N, {self.config.input_dim}), not {features.shape}")
        statistics = slide_statistics(features, self.config.quantiles)
        # One order for one bag, by place or else by content: rounding, too, is then the same.
        if coords_l0 is None:
            features = features[np.lexsort(features.T[::-1])]
            coords_l0 = np.stack([np.zeros(len(features)), np.arange(len(features))], 1)
            coords_l0 = coords_l0.astype(np.int64)
        elif len(coords_l0) == len(features):
            order = np.lexsort((coords_l0[:, 0], coords_l0[:, 1]))
            features, coords_l0 = features[order], coords_l0[order]
        projected = self.patch.project(features)
        mosaic = prototypes(
            projected,
            coords_l0,
            size_l0,
            token_count=self.config.token_count,
            centre=self.centre,
            seed=seed,
        )
        scores, look = self.describe(statistics[None])
        vector = self.join(scores, look, self.config.temperature)[0]
        return replace(mosaic, slide_vector=vector)

    def describe(self, statistics: Floats) -> tuple[Float32Array, Float32Array]:
        """Return the label scores (n, C) and looks (n, L) of slide statistics (n, F)."""
        return self.slide.scores(statistics), self.look.project(self.slide.standardised(statistics))

    def join(self, scores: Floats, looks: Floats, temperature: float) -> Float32Array:
        """Return unit vectors (n, C + L) of label scores (n, C) and looks (n, L)."""
        share = self.config.label_share
        return np.hstack(
            [
                np.sqrt(share) * soft_labels(scores, temperature),
                np.sqrt(1 - share) * normalised(looks),
            ]
        ).astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> Float32Array:
        """Return a vector (n, C + L) for each text, in the space of the slide vectors.

        Raises
        ------
        NoTextSide
            The model was trained without reports.
        ValueError
            A text has no word that the model knows: any answer would be made up.
        """
        if self.words is None or self.text_labels is None or self.text_look is None:
            raise NoTextSide("This model was trained without reports and cannot place a text.")
        encoded = self.words.encode(texts)
        if (np.diff(encoded.indptr) == 0).any() or not np.all(encoded.sum(axis=1) > 0):
            raise ValueError("a text has no word that the model knows")
        return self.join(
            self.text_labels.predict(encoded),
            self.text_look.predict(encoded),
            self.config.text_temperature,
        )

    def label_probabilities(self, vectors: Floats) -> Float32Array:
        """Return the softened probabilities (n, C) inside slide or text vectors (n, C + L)."""
        part = np.asarray(vectors)[:, : len(self.config.label_names)].astype(np.float32) ** 2
        return part / np.maximum(part.sum(1, keepdims=True), 1e-12)

    def compare(self, query: Mosaic, candidate: Mosaic) -> Comparison:
        """Return the similarity of two slides and the parts it is made of."""
        labels = len(self.config.label_names)
        weight = 1 - self.config.token_share
        products = query.slide_vector * candidate.slide_vector * weight
        shares = [np.array([p["share"] for p in m.places], np.float32) for m in (query, candidate)]
        tokens, token_shares, present = pad_mosaics([candidate.tokens], [shares[1]])
        value, cosines = mosaic_similarity(query.tokens, shares[0], tokens, token_shares, present)
        token_part = float(value[0]) * self.config.token_share
        named = [(name, float(products[at])) for at, name in enumerate(self.config.label_names)]
        return Comparison(
            similarity=float(products.sum()) + token_part,
            label_part=float(products[:labels].sum()),
            look_part=float(products[labels:].sum()),
            token_part=token_part,
            labels=sorted(named, key=lambda pair: (-pair[1], pair[0])),
            cosines=cosines[0],
        )


_DISCRIMINANT = ("centre", "scale", "weight", "bias", "directions")


def save_aligner(model: Aligner, path: Path) -> None:
    """Write the model as one safetensors file; it replaces an older one only when complete."""
    from safetensors.numpy import save_file

    arrays: dict[str, npt.NDArray[Any]] = {
        "centre": model.centre,
        "look.centre": model.look.centre,
        "look.axes": model.look.axes,
    }
    for name, part in (("slide", model.slide), ("patch", model.patch)):
        arrays |= {f"{name}.{field}": getattr(part, field) for field in _DISCRIMINANT}
    if model.words is not None and model.text_labels and model.text_look:
        arrays["words.idf"] = model.words.idf
        for name, ridge in (("labels", model.text_labels), ("look", model.text_look)):
            # Half precision: these maps are most of the file, and their error is far below noise.
            arrays[f"text.{name}.weight"] = ridge.weight.astype(np.float16)
            arrays[f"text.{name}.bias"] = ridge.bias
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    partial = path.with_name(path.name + ".partial")
    save_file(whole, partial, metadata={"format": FORMAT, "config": model.config.to_json()})
    partial.replace(path)


def load_aligner(path: Path) -> Aligner:
    """Read a model that `save_aligner` wrote.

    Raises
    ------
    ModelMissing, ModelCorrupt
    """
    from safetensors import safe_open

    if not path.is_file():
        raise ModelMissing(f"There is no model file {path.name}.")
    try:
        with safe_open(path, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise ValueError("another format")
        config = AlignerConfig.from_json(metadata["config"])
        slide, patch = (
            Discriminant(*(arrays[f"{name}.{field}"] for field in _DISCRIMINANT))
            for name in ("slide", "patch")
        )
        words = labels = look = None
        if "words.idf" in arrays:
            words = WordWeights(config.words, arrays["words.idf"])
            labels, look = (
                Ridge(
                    arrays[f"text.{name}.weight"].astype(np.float32),
                    arrays[f"text.{name}.bias"],
                )
                for name in ("labels", "look")
            )
        model = Aligner(
            config,
            slide,
            Whitening(arrays["look.centre"], arrays["look.axes"]),
            patch,
            arrays["centre"],
            words,
            labels,
            look,
        )
    except Exception as error:
        raise ModelCorrupt(f"The model {path.name} cannot be read: {error}.") from error
    _check_shapes(model, path.name)
    return model


def _check_shapes(model: Aligner, name: str) -> None:
    labels, width = len(model.config.label_names), model.config.input_dim
    inputs = width * (2 + len(model.config.quantiles))
    directions = model.token_dimension
    expected = [
        (model.slide.weight, (inputs, labels)),
        (model.slide.centre, (inputs,)),
        (model.look.axes, (inputs, model.dimension - labels)),
        (model.look.centre, (inputs,)),
        (model.patch.weight, (width, labels)),
        (model.patch.directions, (width, directions)),
        (model.centre, (directions,)),
    ]
    if model.words is not None and model.text_labels and model.text_look:
        columns = model.words.idf.size
        expected += [
            (model.text_labels.weight, (columns, labels)),
            (model.text_look.weight, (columns, model.dimension - labels)),
        ]
    if any(array.shape != shape for array, shape in expected):
        raise ModelCorrupt(f"The arrays of the model {name} do not fit each other.")
