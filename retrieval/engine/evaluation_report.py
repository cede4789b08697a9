"""The outcome of an evaluation, in one piece: what the HTML and the JSON report are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.engine.evaluation import (
    PairResult,
    RetrievalResult,
    effective_rank,
    mean_cosine,
)

Interval = tuple[float, float]


@dataclass(frozen=True)
class MethodFigures:
    """One method's figures, each a share from 0 to 1, with 95% intervals by the same names."""

    name: str
    about: str
    figures: Mapping[str, float]
    intervals: Mapping[str, Interval]


@dataclass(frozen=True)
class RetrievalSection:
    """Methods that answered the same queries under the same exclusions."""

    title: str
    note: str
    queries: int
    gallery: int
    methods: list[MethodFigures]


@dataclass(frozen=True)
class PairFigures:
    """How early a query found its own counterpart; `figures` as `PairResult.summary`."""

    name: str
    queries: int
    gallery: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class ClassFigures:
    """One label: its queries, and its figures by the measured and by the plain method."""

    label: str
    queries: int
    figures: Mapping[str, float]
    floor_top1: float | None


@dataclass(frozen=True)
class Confusion:
    """Counts: row the query's label, column the label of the nearest slide."""

    labels: list[str]
    counts: list[list[int]]


@dataclass(frozen=True)
class GridCell:
    """A slide of a retrieval grid.

    Attributes
    ----------
    name, label : str
    is_right : bool
        Whether the label is the query's.
    picture : str
        A `data:` URI, or empty.
    """

    name: str
    label: str
    is_right: bool = True
    picture: str = ""


@dataclass(frozen=True)
class GridRow:
    """A query and its nearest slides, nearest first."""

    query: GridCell
    found: list[GridCell]


@dataclass(frozen=True)
class Agreement:
    """Two readers' verdicts on the same answers; kappa is nan where it says nothing."""

    first: str
    second: str
    items: int
    same: int
    kappa: float


@dataclass(frozen=True)
class EvaluationReport:
    """Everything that an evaluation found.

    Attributes
    ----------
    title : str
    facts : list of (str, str)
        What was measured: data, model, split, date.
    notes : list of str
        What a reader must know to judge the figures.
    sections : list of RetrievalSection
    classes : list of ClassFigures
    confusion : Confusion, optional
    pairs : list of PairFigures
    grid : list of GridRow
    agreements : list of Agreement
    """

    title: str
    facts: list[tuple[str, str]]
    notes: list[str]
    sections: list[RetrievalSection]
    classes: list[ClassFigures] = field(default_factory=list)
    confusion: Confusion | None = None
    pairs: list[PairFigures] = field(default_factory=list)
    grid: list[GridRow] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values; pictures are left out, and nan becomes None."""
        plain: dict[str, Any] = _plain(asdict(self))
        for row in plain["grid"]:
            for cell in (row["query"], *row["found"]):
                del cell["picture"]
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def method_figures(
    name: str, about: str, result: RetrievalResult, *, rounds: int = 1000
) -> MethodFigures:
    """Return a result's figures with bootstrap intervals over patients."""
    return MethodFigures(name, about, result.summary(), result.intervals(rounds=rounds))


def pair_figures(name: str, result: PairResult) -> PairFigures:
    """Return the figures of exact pairs, chance beside them."""
    return PairFigures(name, len(result.ranks), result.gallery_count, result.summary())


def class_figures(
    result: RetrievalResult, names: Sequence[str], floor: RetrievalResult | None
) -> list[ClassFigures]:
    """Return a line for each label among the queries, with the plain method's top-1 beside."""
    plain = {line["label"]: line for line in floor.per_class()} if floor else {}
    return [
        ClassFigures(
            label=names[int(line["label"])],
            queries=int(line["queries"]),
            figures={name: line[name] for name in ("top-1", "mMV@5", "mAP")},
            floor_top1=plain[line["label"]]["top-1"] if plain else None,
        )
        for line in result.per_class()
    ]


def confusion_of(result: RetrievalResult, names: Sequence[str]) -> Confusion:
    """Return the confusion of the labels that occur, as a query's or as an answer's."""
    table = result.confusion(len(names))
    used = [at for at in range(len(names)) if table[at].any() or table[:, at].any()]
    return Confusion(
        [names[at] for at in used], [[int(table[row, at]) for at in used] for row in used]
    )


def token_distinctness(
    tokens: npt.NDArray[np.floating], present: npt.NDArray[np.bool_], *, most: int = 500
) -> str:
    """Return in words how distinct the tokens (S, M, D) of a slide are, over evenly taken slides.

    Slides with a single token are left out: they have nothing to be distinct from.
    """
    chosen = np.flatnonzero(present.sum(1) > 1)
    chosen = chosen[:: max(1, len(chosen) // most)]
    if not len(chosen):
        return "every slide has one token only"
    own = [tokens[slide][present[slide]] for slide in chosen]
    plain, centred, cosine = (
        float(np.mean([measure(t) for t in own]))
        for measure in (
            effective_rank,
            lambda t: effective_rank(t, centred=True),
            mean_cosine,
        )
    )
    return (
        f"{plain:.1f} of {present.shape[1]}; {centred:.1f} without the slide's mean token; "
        f"mean cosine between two tokens {cosine:.2f}"
    )
