"""Order of answers: mosaic similarity, fusion of rankings, and the vote. NumPy only."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual
# Rank Learning Methods", SIGIR 2009: k = 60 was chosen there and has held since.
RRF_K = 60
# Share of the tokens in the similarity of two slides, for a model that was not calibrated; the
# slide vectors' cosine has the rest.
TOKEN_SHARE = 0.7


@dataclass(frozen=True)
class TokenPair:
    """A token of the query and the candidate's token that it matched, with their cosine."""

    query_token: int
    candidate_token: int
    similarity: float


def pad_mosaics(
    mosaics: Sequence[Floats], shares: Sequence[Floats]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Stack mosaics of different token counts.

    Parameters
    ----------
    mosaics : sequence of float arrays (M_c, D)
        L2-normalised tokens of each candidate.
    shares : sequence of float arrays (M_c,)
        Share of the tissue that each token stands for.

    Returns
    -------
    tokens : float32 (C, M, D)
        Padded with zeros.
    weights : float32 (C, M)
        Shares scaled to sum to 1 per candidate, 0 where padded.
    present : bool (C, M)
        Which tokens are real.

    Raises
    ------
    ValueError
        When there is no candidate, one has no token, or counts or widths disagree.
    """
    if not mosaics or len(mosaics) != len(shares):
        raise ValueError("one array of shares is needed per mosaic, and at least one mosaic")
    width = mosaics[0].shape[1]
    for tokens, share in zip(mosaics, shares, strict=True):
        if tokens.ndim != 2 or tokens.shape[1] != width or len(tokens) != len(share):
            raise ValueError("mosaics must be (M, D) of one width D, with M shares each")
    counts = np.array([len(tokens) for tokens in mosaics])
    return pad_tokens(np.concatenate(mosaics), np.concatenate(shares), counts)


def pad_tokens(
    tokens: Floats, shares: Floats, counts: NDArray[np.int64]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return what `pad_mosaics` returns, of mosaics that lie one after the other.

    Parameters
    ----------
    tokens : float32 (T, D), shares : float32 (T,)
        Of all candidates.
    counts : int (C,)
        Tokens of each candidate, at least one; they sum to T.

    Raises
    ------
    ValueError
        When the counts do not fit, or a share is negative.
    """
    total = int(counts.sum()) if len(counts) else 0
    if not len(counts) or (counts < 1).any() or not len(tokens) == len(shares) == total:
        raise ValueError("each candidate has tokens, and each token a share")
    if (shares < 0).any():
        raise ValueError("no share is negative")
    candidate = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (len(counts), int(counts.max()))
    padded = np.zeros((*shape, tokens.shape[1]), dtype=np.float32)
    weights = np.zeros(shape, dtype=np.float32)
    present = np.zeros(shape, dtype=bool)
    sums = np.bincount(candidate, weights=shares, minlength=len(counts))
    even = sums <= 0
    padded[candidate, place] = tokens
    weights[candidate, place] = np.where(
        even[candidate], 1 / counts[candidate], shares / np.where(even, 1, sums)[candidate]
    )
    present[candidate, place] = True
    return padded, weights, present


def normalised_shares(shares: Sequence[float] | Floats) -> Floats:
    """Return shares float32 (M,) that sum to 1; equal ones when none is positive.

    Raises ValueError for an empty or negative input.
    """
    values = np.asarray(shares, dtype=np.float32)
    if values.size == 0 or (values < 0).any():
        raise ValueError("a mosaic has at least one token, and no share is negative")
    total = float(values.sum())
    if total <= 0:
        return np.full(values.shape, 1 / values.size, dtype=np.float32)
    return (values / total).astype(np.float32)


def token_similarities(query: Floats, candidates: Floats) -> Floats:
    """Return the cosines float32 (C, Mq, Mc) of query tokens (Mq, D) with those (C, Mc, D)."""
    count, tokens, width = candidates.shape
    flat = candidates.reshape(count * tokens, width) @ query.T
    return np.ascontiguousarray(flat.reshape(count, tokens, len(query)).transpose(0, 2, 1))


def mosaic_similarity(
    query: Floats,
    query_shares: Floats,
    candidates: Floats,
    candidate_shares: Floats,
    present: NDArray[np.bool_],
    *,
    backward: float = 0.5,
) -> tuple[Floats, Floats]:
    """Compare a mosaic with many by late interaction (MaxSim), weighted by tissue shares.

    Forward: every query token takes its best candidate token, averaged by the query's shares:
    how much of the query is found in the candidate. Backward: the same from the candidate.
    Late interaction as in Khattab and Zaharia, "ColBERT", SIGIR 2020; there unweighted and
    forward only.

    Parameters
    ----------
    query : float32 (Mq, D), query_shares : float32 (Mq,)
    candidates : float32 (C, Mc, D), candidate_shares : float32 (C, Mc), present : bool (C, Mc)
        As `pad_mosaics` returns them.
    backward : float, 0 to 1
        Weight of the backward part. 0.5 is symmetric: for slide against slide. A small region
        or image is only looked for in the candidate: 0.

    Returns
    -------
    similarity : float32 (C,)
        -1 to 1.
    cosines : float32 (C, Mq, Mc)
        Of all token pairs, -inf where padded.

    Raises
    ------
    ValueError
        When backward is out of range or the widths differ.
    """
    if not 0 <= backward <= 1:
        raise ValueError("backward must lie between 0 and 1")
    if query.ndim != 2 or candidates.ndim != 3 or query.shape[1] != candidates.shape[2]:
        raise ValueError("query and candidates must be mosaics of the same width")
    cosines = token_similarities(query, candidates)
    cosines[~np.broadcast_to(present[:, None, :], cosines.shape)] = -np.inf
    shares = normalised_shares(query_shares)
    forward_part = cosines.max(axis=2) @ shares
    best_of_query = np.where(present, cosines.max(axis=1), 0)
    backward_part = (best_of_query * candidate_shares).sum(axis=1)
    similarity = (1 - backward) * forward_part + backward * backward_part
    return similarity.astype(np.float32), cosines


def best_pairs(cosines: Floats, *, count: int = 4) -> list[TokenPair]:
    """Return the best pairs of one candidate, each token at most once, best first.

    cosines: (Mq, Mc) as `mosaic_similarity` gives for one candidate; -inf is never paired.
    """
    remaining = cosines.astype(np.float32, copy=True)
    pairs: list[TokenPair] = []
    while len(pairs) < count and remaining.size:
        i, j = np.unravel_index(int(remaining.argmax()), remaining.shape)
        if not np.isfinite(remaining[i, j]):
            break
        pairs.append(TokenPair(int(i), int(j), float(remaining[i, j])))
        remaining[i, :] = -np.inf
        remaining[:, j] = -np.inf
    return pairs


def competition_ranks(scores: Mapping[Hashable, float]) -> dict[Hashable, int]:
    """Return ranks from 1 by descending score; equal scores share the rank (1, 2, 2, 4)."""
    ordered = sorted(scores.items(), key=lambda item: -item[1])
    ranks: dict[Hashable, int] = {}
    previous_score, previous_rank = None, 0
    for position, (key, score) in enumerate(ordered, start=1):
        if score != previous_score:
            previous_score, previous_rank = score, position
        ranks[key] = previous_rank
    return ranks


def reciprocal_rank_fusion(
    rankings: Iterable[tuple[Mapping[Hashable, int], float]], *, k: int = RRF_K
) -> dict[Hashable, float]:
    """Return for every key the sum of weight / (k + rank) over the rankings that have it.

    Parameters
    ----------
    rankings : iterable of (ranks from 1, weight)
        A weight of 0 leaves a ranking out altogether, and with it keys that only it has.
    k : int
        Dampens the lead of the first ranks (Cormack et al. 2009).

    Raises
    ------
    ValueError
        When a weight is negative.
    """
    scores: dict[Hashable, float] = {}
    for ranks, weight in rankings:
        if weight < 0:
            raise ValueError("a weight is never negative")
        if weight == 0:
            continue
        for key, rank in ranks.items():
            scores[key] = scores.get(key, 0.0) + weight / (k + rank)
    return scores


@dataclass(frozen=True)
class Ballot:
    """What the vote reads from one hit: whose it is, and the signed diagnosis, if any."""

    rank: int
    patient: Hashable
    diagnosis: str
    label: str = ""


def diagnosis_key(system: str, code: str, line: str) -> str:
    """Return what makes two diagnoses the same: the code, else the line in small letters."""
    return f"{system}|{code}" if code else " ".join(line.lower().split())


@dataclass(frozen=True)
class VoteLine:
    """One diagnosis with the patients behind it, each by the rank of the best hit."""

    diagnosis: str
    label: str
    patients: int
    share: float
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Vote:
    """The vote over the nearest patients, most patients first."""

    lines: tuple[VoteLine, ...]
    patients: int
    without_diagnosis: int


def vote(ballots: Iterable[Ballot], *, patients: int = 10) -> Vote:
    """Let the nearest patients vote, one vote each, by their best-ranked diagnosed hit.

    Parameters
    ----------
    ballots : iterable of Ballot
        The hits; the query's own patient is not among them.
    patients : int
        How many of the nearest patients with a diagnosis vote.

    Returns
    -------
    Vote
        Lines by patients, then by the best rank. `without_diagnosis` counts the patients who
        were passed over, until the last voter, for having no signed diagnosis.
    """
    voters: dict[Hashable, Ballot] = {}
    silent: dict[Hashable, int] = {}
    for ballot in sorted(ballots, key=lambda b: b.rank):
        if ballot.patient in voters:
            continue
        if not ballot.diagnosis:
            silent.setdefault(ballot.patient, ballot.rank)
        elif len(voters) < patients:
            voters[ballot.patient] = ballot
    last = max((b.rank for b in voters.values()), default=0)
    by_diagnosis: dict[str, list[Ballot]] = {}
    for ballot in voters.values():
        by_diagnosis.setdefault(ballot.diagnosis, []).append(ballot)
    lines = [
        VoteLine(
            diagnosis=diagnosis,
            label=cast[0].label or diagnosis,
            patients=len(cast),
            share=len(cast) / len(voters),
            ranks=tuple(b.rank for b in cast),
        )
        for diagnosis, cast in by_diagnosis.items()
    ]
    lines.sort(key=lambda line: (-line.patients, line.ranks))
    unvoiced = sum(
        1 for patient, rank in silent.items() if patient not in voters and (not last or rank < last)
    )
    return Vote(tuple(lines), len(voters), unvoiced)
