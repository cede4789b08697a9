"""The pure order of answers: mosaics, fusion, vote."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.engine.ranking import (
    Ballot,
    best_pairs,
    competition_ranks,
    mosaic_similarity,
    pad_mosaics,
    reciprocal_rank_fusion,
    vote,
)


def tokens(seed: int, count: int, width: int = 6) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_hand(query, query_shares, candidate, shares, backward) -> float:
    forward_part = sum(
        s * max(float(q @ c) for c in candidate) for q, s in zip(query, query_shares, strict=True)
    )
    backward_part = sum(
        s * max(float(q @ c) for q in query) for c, s in zip(candidate, shares, strict=True)
    )
    return (1 - backward) * forward_part + backward * backward_part


@pytest.mark.parametrize("backward", [0.0, 0.3, 0.5, 1.0])
def test_vectorised_similarity_is_what_loops_compute(backward):
    query, query_shares = tokens(0, 5), np.array([0.4, 0.3, 0.1, 0.1, 0.1], np.float32)
    mosaics = [tokens(seed, count) for seed, count in ((1, 3), (2, 5), (3, 1))]
    shares = [np.arange(1, len(m) + 1, dtype=np.float32) / sum(range(len(m) + 1)) for m in mosaics]
    padded = pad_mosaics(mosaics, shares)
    found, cosines = mosaic_similarity(query, query_shares, *padded, backward=backward)
    expected = [
        by_hand(query, query_shares, m, s, backward) for m, s in zip(mosaics, shares, strict=True)
    ]
    assert found == pytest.approx(expected, abs=1e-5)
    assert np.isneginf(cosines[2, :, 1:]).all()  # padding never wins


def test_symmetric_similarity_does_not_depend_on_who_asks():
    a, b = tokens(4, 4), tokens(5, 7)
    a_shares, b_shares = np.full(4, 0.25, np.float32), np.full(7, 1 / 7, np.float32)
    there, _ = mosaic_similarity(a, a_shares, *pad_mosaics([b], [b_shares]))
    back, _ = mosaic_similarity(b, b_shares, *pad_mosaics([a], [a_shares]))
    assert there[0] == pytest.approx(back[0], abs=1e-6)


def test_a_region_is_found_in_a_slide_with_much_else():
    region = np.eye(4, dtype=np.float32)[:1]
    rest = np.eye(4, dtype=np.float32)
    padded = pad_mosaics([rest], [np.full(4, 0.25, np.float32)])
    only_forward, _ = mosaic_similarity(region, np.ones(1, np.float32), *padded, backward=0.0)
    both, _ = mosaic_similarity(region, np.ones(1, np.float32), *padded, backward=0.5)
    assert only_forward[0] == pytest.approx(1)
    assert both[0] < 0.7


def test_common_tissue_counts_by_its_share():
    query = np.eye(3, dtype=np.float32)[:2]
    like_first, like_second = np.eye(3, dtype=np.float32)[:1], np.eye(3, dtype=np.float32)[1:2]
    padded = pad_mosaics([like_first, like_second], [np.ones(1, np.float32)] * 2)
    found, _ = mosaic_similarity(query, np.array([0.9, 0.1], np.float32), *padded, backward=0)
    assert found == pytest.approx([0.9, 0.1])


def test_pairs_use_each_token_once_best_first():
    cosines = np.array([[0.9, 0.8, 0.1], [0.85, 0.2, 0.1], [0.0, 0.0, -np.inf]], np.float32)
    pairs = [(p.query_token, p.candidate_token) for p in best_pairs(cosines, count=4)]
    assert pairs == [(0, 0), (1, 1)]
    assert best_pairs(np.full((2, 2), -np.inf, np.float32)) == []


def test_equal_scores_share_a_rank():
    assert competition_ranks({"a": 1.0, "b": 2.0, "c": 1.0, "d": 0.5}) == {
        "b": 1,
        "a": 2,
        "c": 2,
        "d": 4,
    }


def test_fusion_weighs_rankings_and_leaves_out_weight_zero():
    image, text = {"x": 1, "y": 2}, {"y": 1, "z": 2}
    fused = reciprocal_rank_fusion([(image, 1.0), (text, 1.0)])
    assert max(fused, key=fused.get) == "y"
    assert fused["y"] == pytest.approx(1 / 62 + 1 / 61)
    assert set(reciprocal_rank_fusion([(image, 1.0), (text, 0.0)])) == {"x", "y"}
    heavy = reciprocal_rank_fusion([({"x": 1, "y": 60}, 5.0), ({"y": 1, "x": 60}, 1.0)])
    assert heavy["x"] > heavy["y"]
    with pytest.raises(ValueError, match="never negative"):
        reciprocal_rank_fusion([(image, -1.0)])


def test_patients_vote_once_by_their_nearest_diagnosed_hit():
    ballots = [
        Ballot(1, "anna", "C1", "Carcinoma"),
        Ballot(2, "anna", "B1", "Benign"),
        Ballot(3, "anna", "B1", "Benign"),
        Ballot(4, "bela", "", ""),
        Ballot(5, "bela", "C1", "Carcinoma"),
        Ballot(6, "cleo", "B1", "Benign"),
        Ballot(7, "dora", "", ""),
    ]
    result = vote(ballots, patients=10)
    assert [(line.label, line.patients, line.ranks) for line in result.lines] == [
        ("Carcinoma", 2, (1, 5)),
        ("Benign", 1, (6,)),
    ]
    assert result.patients == 3
    assert result.without_diagnosis == 0  # dora is beyond the last voter
    assert vote(ballots, patients=1).patients == 1
    assert vote([]).lines == ()


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.sampled_from(["", "A", "B", "C"])), min_size=0, max_size=40
    ),
    st.integers(1, 12),
)
def test_votes_never_exceed_the_patients(cast, most):
    ballots = [Ballot(rank, who, what) for rank, (who, what) in enumerate(cast, start=1)]
    result = vote(ballots, patients=most)
    assert sum(line.patients for line in result.lines) == result.patients
    assert result.patients <= min(most, len({who for who, what in cast if what}))
    assert sum(line.share for line in result.lines) == pytest.approx(1 if result.patients else 0)
