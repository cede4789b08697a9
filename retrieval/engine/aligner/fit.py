"""Trains the default model in closed form, and chooses its few settings on held-out hospitals.

There is no loop of gradient steps: on archives of some thousand slides networks of several kinds
did no better in hospitals that they had not seen (docs/model-results.md), and this takes a minute.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.engine.aligner.archive import Archive, ArchiveInvalid, slide_means
from retrieval.engine.aligner.discriminant import (
    Discriminant,
    fit_discriminant,
    fit_whitening,
    soft_labels,
)
from retrieval.engine.aligner.model import Aligner, AlignerConfig
from retrieval.engine.aligner.statistics import bag_statistics
from retrieval.engine.aligner.words import (
    Ridge,
    WordConfig,
    WordWeights,
    balanced_weights,
    fit_ridge,
    fit_words,
)
from retrieval.engine.evaluation import evaluate_retrieval
from retrieval.engine.mosaic import normalised
from retrieval.engine.ranking import mosaic_similarity, pad_mosaics

Float32Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Progress = Callable[[str], None]

# Two labels alone would leave a token one direction, along which all cosines are 1 or -1.
_DIRECTIONS_MIN = 16
# Fewer reports than this teach no words.
_REPORTS_MIN = 20


@dataclass(frozen=True)
class FitSettings:
    """What a fit needs; the shares and temperatures can also be changed afterwards.

    Attributes
    ----------
    shrinkage, patch_shrinkage : float
        Of the discriminants over slides and over patches.
    direction_count : int
        Directions of the tokens' space; 0: one less than there are labels, but 16 at least.
    look_count : int
        Axes of the look part.
    text_penalty : float
        Of the ridge from words.
    model : dict
        Fields of `AlignerConfig`, by name.
    words : WordConfig
    """

    shrinkage: float = 0.1
    patch_shrinkage: float = 0.1
    direction_count: int = 0
    look_count: int = 32
    text_penalty: float = 1.0
    model: dict[str, Any] = field(default_factory=dict)
    words: WordConfig = field(default_factory=WordConfig)


def fit_aligner(
    archive: Archive,
    train: Ints,
    settings: FitSettings,
    *,
    statistics: Float32Array | None = None,
    progress: Progress = lambda _: None,
) -> Aligner:
    """Fit a model on some slides of an archive.

    Parameters
    ----------
    archive : Archive
    train : int (n,)
        Positions of the slides to learn from; those without a label are left out.
    settings : FitSettings
    statistics : float32 (S, F), optional
        Of all slides, to spare their computation when several fits are made.
    progress : callable
        Told in a few words what is done next.

    Raises
    ------
    ArchiveInvalid
        Fewer than two labels among the slides.
    """
    names = archive.label_names()
    labels = archive.subjects().labels
    train = train[labels[train] >= 0]
    if len(np.unique(labels[train])) < 2:
        raise ArchiveInvalid("Slides of at least two diagnoses are needed to learn from.")
    config = AlignerConfig(
        input_dim=archive.features.shape[1],
        label_names=names,
        words=settings.words,
        **settings.model,
    )
    progress("statistics")
    if statistics is None:
        statistics = bag_statistics(archive.features, archive.offsets, config.quantiles)
    progress("slide discriminant")
    slide = fit_slide(statistics, labels, train, len(names), settings.shrinkage)
    look = fit_whitening(slide.standardised(statistics[train]), settings.look_count)
    progress("patch discriminant")
    directions = settings.direction_count or max(_DIRECTIONS_MIN, len(names) - 1)
    counts = np.diff(archive.offsets)[train]
    rows = np.concatenate([np.arange(*archive.offsets[i : i + 2]) for i in train])
    patch = fit_discriminant(
        archive.features[rows],
        np.repeat(labels[train], counts),
        label_count=len(names),
        shrinkage=settings.patch_shrinkage,
        direction_count=min(directions, config.input_dim),
        weights=np.repeat(1 / counts, counts),
    )
    centre = patch.project(slide_means(archive, train)).mean(0, dtype=np.float64)
    model = Aligner(config, slide, look, patch, centre.astype(np.float32))
    progress("words")
    text = _fit_text(archive, train, labels, model.describe(statistics)[1], settings)
    if text is None:
        return model
    return replace(model, words=text[0], text_labels=text[1], text_look=text[2])


def fit_slide(
    statistics: Float32Array, labels: Ints, train: Ints, label_count: int, shrinkage: float
) -> Discriminant:
    """Return the discriminant over the statistics of the training slides."""
    return fit_discriminant(
        statistics[train], labels[train], label_count=label_count, shrinkage=shrinkage
    )


def _fit_text(
    archive: Archive, train: Ints, labels: Ints, looks: Float32Array, settings: FitSettings
) -> tuple[WordWeights, Ridge, Ridge] | None:
    slides_of: dict[str, list[int]] = {}
    for slide in train:
        if archive.reports.get(archive.patients[slide], "").strip():
            slides_of.setdefault(archive.patients[slide], []).append(int(slide))
    if len(slides_of) < _REPORTS_MIN:
        return None
    texts = [archive.reports[patient] for patient in slides_of]
    # A patient's slides share the report: one example, whose target is their mean.
    target_labels = np.array([labels[slides[0]] for slides in slides_of.values()])
    target_looks = np.stack([normalised(looks[slides]).mean(0) for slides in slides_of.values()])
    words = fit_words(texts, settings.words)
    encoded = words.encode(texts)
    weights = balanced_weights(target_labels)
    one_hot = np.eye(len(archive.label_names()))[target_labels]
    penalty = settings.text_penalty
    return (
        words,
        fit_ridge(encoded, one_hot, penalty=penalty, weights=weights),
        fit_ridge(encoded, target_looks, penalty=penalty, weights=np.ones(len(texts))),
    )


@dataclass(frozen=True)
class EmbeddedArchive:
    """All slides of an archive as the model sees them.

    Attributes
    ----------
    scores : float32 (S, C), looks : float32 (S, L)
        Label scores and looks.
    tokens : float32 (S, M, K), shares : float32 (S, M), present : bool (S, M)
    """

    scores: Float32Array
    looks: Float32Array
    tokens: Float32Array
    shares: Float32Array
    present: npt.NDArray[np.bool_]

    def vectors(self, model: Aligner) -> Float32Array:
        """Return the slide vectors (S, C + L) under the model's shares and temperature."""
        return model.join(self.scores, self.looks, model.config.temperature)

    def token_similarities(self, queries: Ints, gallery: Ints) -> Float32Array:
        """Return the late-interaction similarities (Q, G) of the slides' tokens."""
        tokens, shares = self.tokens[gallery], self.shares[gallery]
        present = self.present[gallery]
        out = np.empty((len(queries), len(gallery)), np.float32)
        for row, query in enumerate(queries):
            own = self.present[query]
            out[row] = mosaic_similarity(
                self.tokens[query][own], self.shares[query][own], tokens, shares, present
            )[0]
        return out


def embed_archive(
    model: Aligner, archive: Archive, *, statistics: Float32Array, progress: Progress | None = None
) -> EmbeddedArchive:
    """Embed every slide of an archive."""
    mosaics = []
    for slide in range(len(archive)):
        mosaics.append(model.embed(archive.bag(slide)))
        if progress and slide % 500 == 499:
            progress(f"embedded {slide + 1} of {len(archive)} slides")
    shares = [np.array([p["share"] for p in m.places], np.float32) for m in mosaics]
    tokens, weights, present = pad_mosaics([m.tokens for m in mosaics], shares)
    return EmbeddedArchive(*model.describe(statistics), tokens, weights, present)


@dataclass(frozen=True)
class Choice:
    """Settings that were tried and how well they did; `value` is what is compared."""

    settings: dict[str, float]
    value: float
    summary: dict[str, float]


# Settings whose figures differ by less than this are equal: over some hundred queries a
# difference of one in a hundred is chance.
_MARGIN = 0.01


def settled(choices: Sequence[Choice], default: dict[str, float]) -> dict[str, float]:
    """Return the best settings, or the default ones where the best are not clearly better."""
    usual = [choice for choice in choices if choice.settings == default]
    if usual and choices[0].value - usual[0].value < _MARGIN:
        return default
    return choices[0].settings


GRID: dict[str, tuple[float, ...]] = {
    "shrinkage": (0.03, 0.1, 0.3),
    "temperature": (2.0, 3.0, 4.0),
    "label_share": (0.7, 0.8, 0.9),
    "token_share": (0.0, 0.2, 0.4),
}


def grid_points(grid: dict[str, tuple[float, ...]]) -> Iterator[dict[str, float]]:
    """Yield every combination of a grid."""
    for values in product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def choose_settings(
    archive: Archive,
    embedded: EmbeddedArchive,
    train: Ints,
    held_out: Ints,
    *,
    statistics: Float32Array,
    grid: dict[str, tuple[float, ...]] | None = None,
    exclude_hospital: bool = True,
    progress: Progress = lambda _: None,
) -> list[Choice]:
    """Try the settings on slides of hospitals that were not learnt from, best first.

    What is compared is the mean of top-1, macro top-1, mMV@5 and mAP with the query's hospital
    left out of the gallery, which is the whole archive, unless there is only one.
    """
    subjects = archive.subjects()
    train, held_out = (part[subjects.labels[part] >= 0] for part in (train, held_out))
    everything = np.flatnonzero(subjects.labels >= 0)
    count = len(archive.label_names())
    by_tokens = embedded.token_similarities(held_out, everything)
    looks = normalised(embedded.looks)
    by_look = looks[held_out] @ looks[everything].T
    points = list(grid_points(grid or GRID))
    choices = []
    by_labels: dict[tuple[float, float], Float32Array] = {}
    for number, point in enumerate(points):
        key = (point["shrinkage"], point["temperature"])
        if key not in by_labels:
            fitted = fit_slide(statistics, subjects.labels, train, count, key[0])
            soft = soft_labels(fitted.scores(statistics), key[1])
            # One at a time: the grid runs through the other settings within these.
            by_labels = {key: soft[held_out] @ soft[everything].T}
        share, tokens = point["label_share"], point["token_share"]
        values = (1 - tokens) * (share * by_labels[key] + (1 - share) * by_look)
        values = values + tokens * by_tokens
        result = evaluate_retrieval(
            lambda block, values=values: values[block],  # type: ignore[misc]
            subjects.take(held_out),
            subjects.take(everything),
            exclude_hospital=exclude_hospital,
        ).summary()
        names: Sequence[str] = ("top-1", "macro top-1", "mMV@5", "mAP")
        choices.append(Choice(point, float(np.mean([result[n] for n in names])), result))
        if number % 20 == 19:
            progress(f"tried {number + 1} of {len(points)} settings")
    return sorted(choices, key=lambda choice: -choice.value)
