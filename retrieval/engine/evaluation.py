"""How well an archive is searched: metrics, exclusions, intervals. NumPy only.

Every figure leaves the query's own patient out; most also leave its hospital out, since a
model that recognises the hospital looks good without knowing any pathology.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# (B,) positions of queries -> (B, G) similarities, larger is nearer.
Scores = Callable[[Ints], Floats]

_BLOCK = 256
HIT_KS = (1, 3, 5, 10)
VOTE_KS = (3, 5)


@dataclass(frozen=True)
class Subjects:
    """Whose the items are: label, patient and hospital as integers, each (n,)."""

    labels: Ints
    patients: Ints
    hospitals: Ints

    def take(self, positions: Ints) -> "Subjects":
        """Return the items at these positions."""
        return Subjects(self.labels[positions], self.patients[positions], self.hospitals[positions])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class RetrievalResult:
    """One value for every query.

    Attributes
    ----------
    hits : dict of int to bool (Q,)
        Whether the right label is among the nearest k.
    votes : dict of int to bool (Q,)
        Whether the majority of the nearest k is right; ties go to the nearer label.
    average_precision : float (Q,)
        Over the whole ranked gallery; 0 where nothing right is in it.
    predicted : int (Q,)
        Label of the nearest item; -1 where the gallery is empty.
    labels, patients : int (Q,)
        Of the queries.
    answerable : bool (Q,)
        Whether the gallery holds the query's label at all. The others count as wrong.
    """

    hits: dict[int, Bools]
    votes: dict[int, Bools]
    average_precision: Doubles
    predicted: Ints
    labels: Ints
    patients: Ints
    answerable: Bools

    def columns(self) -> dict[str, Doubles]:
        """Return the per-query value of each metric by its name."""
        named: dict[str, Doubles] = {"top-1": self.hits[1].astype(np.float64)}
        named |= {f"hit@{k}": v.astype(np.float64) for k, v in self.hits.items() if k > 1}
        named |= {f"mMV@{k}": v.astype(np.float64) for k, v in self.votes.items()}
        named["mAP"] = self.average_precision
        return named

    def summary(self) -> dict[str, float]:
        """Return the mean of each metric, and ``macro`` ones: the mean over the labels."""
        named = self.columns()
        out = {name: float(values.mean()) for name, values in named.items()}
        for name in ("top-1", "mMV@5", "mAP"):
            if name in named:
                out[f"macro {name}"] = _macro(named[name], self.labels)
        return out

    def intervals(
        self, *, rounds: int = 1000, level: float = 0.95, seed: int = 0
    ) -> dict[str, tuple[float, float]]:
        """Return bootstrap intervals of `summary`.

        Patients are drawn, not slides: two slides of one patient are no two observations.
        """
        named = self.columns()
        _, owner = np.unique(self.patients, return_inverse=True)
        _, label = np.unique(self.labels, return_inverse=True)
        rng = np.random.default_rng(seed)
        people, classes = int(owner.max()) + 1, int(label.max()) + 1
        draws: dict[str, list[float]] = {}
        for _ in range(rounds):
            times = np.bincount(rng.integers(people, size=people), minlength=people)[owner]
            total = times.sum()
            per_class = np.bincount(label, times, classes)
            seen = per_class > 0
            for name, values in named.items():
                draws.setdefault(name, []).append(float(values @ times / total))
                if name in ("top-1", "mMV@5", "mAP"):
                    sums = np.bincount(label, values * times, classes)
                    mean = float((sums[seen] / per_class[seen]).mean())
                    draws.setdefault(f"macro {name}", []).append(mean)
        tail = (1 - level) / 2 * 100
        return {
            name: (float(np.percentile(v, tail)), float(np.percentile(v, 100 - tail)))
            for name, v in draws.items()
        }

    def per_class(self) -> list[dict[str, float]]:
        """Return for each label ``label``, ``queries``, top-1, mMV@5 and mAP, by label."""
        named = self.columns()
        lines = []
        for label in np.unique(self.labels):
            mine = self.labels == label
            line: dict[str, float] = {"label": float(label), "queries": float(mine.sum())}
            for name in ("top-1", "mMV@5", "mAP"):
                if name in named:
                    line[name] = float(named[name][mine].mean())
            lines.append(line)
        return lines

    def confusion(self, label_count: int) -> Ints:
        """Return (C, C) counts: row the query's label, column the nearest item's."""
        table = np.zeros((label_count, label_count), np.int64)
        known = self.predicted >= 0
        np.add.at(table, (self.labels[known], self.predicted[known]), 1)
        return table


def _macro(values: Doubles, labels: Ints) -> float:
    return float(np.mean([values[labels == label].mean() for label in np.unique(labels)]))


def _majority(labels: Ints) -> int:
    """Return the most frequent label; of equally frequent ones, the first."""
    found, first, count = np.unique(labels, return_index=True, return_counts=True)
    return int(found[np.lexsort((first, -count))[0]])


def evaluate_retrieval(
    scores: Scores,
    queries: Subjects,
    gallery: Subjects,
    *,
    exclude_hospital: bool,
    hit_ks: Sequence[int] = HIT_KS,
    vote_ks: Sequence[int] = VOTE_KS,
) -> RetrievalResult:
    """Rank the gallery for every query and see whether the nearest carry its label.

    Parameters
    ----------
    scores : callable
        Similarities of a block of queries; blocks keep the memory bounded.
    queries, gallery : Subjects
        A query may be in the gallery too: its patient is left out always.
    exclude_hospital : bool
        Also leave out everything of the query's hospital.
    hit_ks, vote_ks : sequences of int
        1 is always among the hits.

    Raises
    ------
    ValueError
        No query, no gallery, or scores of another shape or not finite.
    """
    if not len(queries) or not len(gallery):
        raise ValueError("there is nothing to search for, or nothing to search in")
    ks = sorted({1, *hit_ks})
    count = len(queries)
    hits = {k: np.zeros(count, bool) for k in ks}
    votes = {k: np.zeros(count, bool) for k in vote_ks}
    precision = np.zeros(count)
    predicted = np.full(count, -1, np.int64)
    answerable = np.zeros(count, bool)
    for start in range(0, count, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, count))
        values = np.asarray(scores(block))
        if values.shape != (len(block), len(gallery)) or not np.isfinite(values).all():
            raise ValueError(f"scores {values.shape} are of another shape or not finite")
        for row, query in enumerate(block):
            allowed = gallery.patients != queries.patients[query]
            if exclude_hospital:
                allowed &= gallery.hospitals != queries.hospitals[query]
            candidates = np.flatnonzero(allowed)
            ordered = candidates[np.argsort(-values[row, candidates], kind="stable")]
            labels = gallery.labels[ordered]
            if not len(labels):
                continue
            right = labels == queries.labels[query]
            predicted[query] = labels[0]
            for k in ks:
                hits[k][query] = right[:k].any()
            for k in vote_ks:
                votes[k][query] = _majority(labels[:k]) == queries.labels[query]
            places = np.flatnonzero(right)
            if len(places):
                answerable[query] = True
                precision[query] = (np.arange(1, len(places) + 1) / (places + 1)).mean()
    return RetrievalResult(
        hits, votes, precision, predicted, queries.labels, queries.patients, answerable
    )


@dataclass(frozen=True)
class PairResult:
    """How early a query finds its own counterpart (a report its patient's slide).

    Attributes
    ----------
    ranks : int (Q,)
        Rank from 1 of the best of the own items, equal scores counted against it.
    own_counts : int (Q,)
        How many of the gallery are the query's own.
    gallery_count : int
    """

    ranks: Ints
    own_counts: Ints
    gallery_count: int

    def summary(self, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
        """Return recall@k and the median rank, each with what chance would give."""
        out = {}
        for k in ks:
            out[f"recall@{k}"] = float((self.ranks <= k).mean())
            out[f"chance recall@{k}"] = float(
                np.mean([self._chance(n, k) for n in self.own_counts])
            )
        out["median rank"] = float(np.median(self.ranks))
        halves = 0.5 ** (1 / self.own_counts)
        out["chance median rank"] = float(np.median((1 - halves) * self.gallery_count))
        return out

    def _chance(self, own: int, k: int) -> float:
        """Return the chance that one of `own` items is among k drawn without replacement."""
        miss = 1.0
        for drawn in range(min(k, self.gallery_count)):
            miss *= max(0, self.gallery_count - own - drawn) / (self.gallery_count - drawn)
        return 1 - miss


def evaluate_pairs(scores: Scores, query_owners: Ints, gallery_owners: Ints) -> PairResult:
    """Return the rank of each query's own items; queries without any are left out."""
    ranks, owns = [], []
    for start in range(0, len(query_owners), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(query_owners)))
        values = np.asarray(scores(block))
        if values.shape != (len(block), len(gallery_owners)) or not np.isfinite(values).all():
            raise ValueError(f"scores {values.shape} are of another shape or not finite")
        for row, query in enumerate(block):
            own = gallery_owners == query_owners[query]
            if own.any():
                best = values[row, own].max()
                ranks.append(1 + int((values[row, ~own] >= best).sum()))
                owns.append(int(own.sum()))
    return PairResult(np.array(ranks, np.int64), np.array(owns, np.int64), len(gallery_owners))


def cohen_kappa(first: Sequence[object], second: Sequence[object], *, weights: str = "") -> float:
    """Return the agreement of two readers beyond chance.

    Parameters
    ----------
    first, second : sequences
        Each reader's answer for the same items, in the same order.
    weights : str
        Empty: every disagreement counts the same. ``linear`` or ``quadratic``: by the distance
        in the sorted order of the answers.

    Returns
    -------
    float
        1: full agreement, 0: as by chance; nan where both always give one same answer.

    Raises
    ------
    ValueError
        Different lengths, nothing to compare, or unknown weights.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError("two readings of the same items are needed")
    if weights not in ("", "linear", "quadratic"):
        raise ValueError(f"unknown weights {weights!r}")
    answers = sorted(set(first) | set(second))  # type: ignore[type-var]
    at = {answer: position for position, answer in enumerate(answers)}
    table = np.zeros((len(answers), len(answers)))
    for a, b in zip(first, second, strict=True):
        table[at[a], at[b]] += 1
    table /= table.sum()
    steps = np.abs(np.subtract.outer(np.arange(len(answers)), np.arange(len(answers))))
    cost = {"": (steps > 0).astype(float), "linear": steps * 1.0, "quadratic": steps**2.0}[weights]
    expected = (cost * np.outer(table.sum(1), table.sum(0))).sum()
    return float("nan") if expected == 0 else float(1 - (cost * table).sum() / expected)


def effective_rank(tokens: npt.NDArray[np.floating], *, centred: bool = False) -> float:
    """Return how many directions the tokens (M, D) of a slide really use, 1 to M.

    The exponential of the entropy of the normalised squared singular values. Roy and
    Vetterli, "The effective rank", EUSIPCO 2007, with squared values: shares of energy.

    centred: take the slide's mean token off first. What all tissue of a slide has in common,
    its stain and its diagnosis, is one direction that outweighs the others however distinct
    the tokens are; without it, 1 to M - 1, and 1 where all tokens are one.
    """
    values = np.asarray(tokens, np.float64)
    if centred:
        values = values - values.mean(0)
    energy = np.linalg.svd(values, compute_uv=False) ** 2
    # Rounding is no direction: tokens that are all the same have none left.
    energy = energy[energy > 1e-12 * max(float((np.asarray(tokens) ** 2).sum()), 1e-300)]
    if not len(energy):
        return 1.0
    shares = energy / energy.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def mean_cosine(tokens: npt.NDArray[np.floating]) -> float:
    """Return the mean cosine between different tokens (M, D) of a slide; nan for a single one."""
    values = np.asarray(tokens, np.float64)
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    count = len(unit)
    if count < 2:
        return float("nan")
    return float(((unit @ unit.T).sum() - count) / (count * (count - 1)))
