"""Metrics against counts made by hand."""

import numpy as np
import pytest

from retrieval.engine.evaluation import (
    Subjects,
    cohen_kappa,
    effective_rank,
    evaluate_pairs,
    evaluate_retrieval,
    mean_cosine,
)
from retrieval.engine.evaluation_report import token_distinctness


def _subjects(labels, patients=None, hospitals=None):
    count = len(labels)
    return Subjects(
        np.array(labels),
        np.array(patients if patients is not None else range(100, 100 + count)),
        np.array(hospitals if hospitals is not None else range(200, 200 + count)),
    )


def _result(scores, query, gallery, **options):
    table = np.atleast_2d(np.asarray(scores, np.float32))
    options.setdefault("exclude_hospital", True)
    return evaluate_retrieval(lambda block: table[block], query, gallery, **options)


def test_figures_of_one_query():
    gallery = _subjects([1, 0, 0, 1, 2])
    result = _result([5, 4, 3, 2, 1], _subjects([0], [0], [0]), gallery)
    values = result.summary()
    assert values["top-1"] == 0
    assert values["hit@3"] == 1
    assert values["mMV@3"] == 1
    # Right ones stand at the ranks 2 and 3.
    assert values["mAP"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_tied_vote_goes_to_the_nearer_label():
    gallery = _subjects([1, 0, 0, 1, 2])
    near_right = _result([5, 4, 3, 2, 1], _subjects([1], [0], [0]), gallery)
    near_wrong = _result([5, 4, 3, 2, 1], _subjects([0], [0], [0]), gallery)
    assert near_right.votes[5].tolist() == [True]
    assert near_wrong.votes[5].tolist() == [False]


def test_own_patient_and_hospital_are_left_out():
    gallery = _subjects([0, 0, 1], patients=[7, 8, 9], hospitals=[1, 1, 2])
    query = _subjects([0], [7], [1])
    assert _result([3, 2, 1], query, gallery, exclude_hospital=False).predicted.tolist() == [0]
    with_patient = _result([3, -1, 1], query, gallery, exclude_hospital=False)
    assert with_patient.predicted.tolist() == [1]
    out = _result([3, 2, 1], query, gallery)
    assert out.predicted.tolist() == [1]
    assert out.answerable.tolist() == [False]
    assert out.average_precision.tolist() == [0]


def test_an_empty_gallery_counts_as_wrong():
    gallery = _subjects([0], patients=[7])
    result = _result([1], _subjects([0], [7], [0]), gallery)
    assert result.predicted.tolist() == [-1]
    assert result.summary()["top-1"] == 0
    assert result.confusion(1).sum() == 0


def test_macro_counts_every_label_the_same():
    gallery = _subjects([0, 1])
    queries = _subjects([0, 0, 0, 1], range(4), range(4))
    result = _result([[2, 1], [2, 1], [2, 1], [2, 1]], queries, gallery)
    values = result.summary()
    assert values["top-1"] == pytest.approx(0.75)
    assert values["macro top-1"] == pytest.approx(0.5)
    assert [line["top-1"] for line in result.per_class()] == [1.0, 0.0]
    assert result.confusion(2).tolist() == [[3, 0], [1, 0]]


def test_intervals_draw_patients_and_hold_the_figure():
    rng = np.random.default_rng(0)
    gallery = _subjects([0, 1])
    queries = _subjects([0] * 200, np.repeat(np.arange(20), 10), range(200))
    # A patient's ten slides are all right or all wrong: 20 observations, not 200.
    right = np.repeat(rng.random(20) < 0.5, 10)
    table = np.where(right[:, None], [[2, 1]], [[1, 2]])
    result = _result(table, queries, gallery)
    low, high = result.intervals(rounds=400)["top-1"]
    assert low < right.mean() < high
    assert high - low > 0.3
    assert result.intervals(rounds=50) == result.intervals(rounds=50)


@pytest.mark.parametrize("scores", [np.zeros((1, 3)), np.full((1, 2), np.nan)])
def test_bad_scores_are_refused(scores):
    with pytest.raises(ValueError, match="scores"):
        _result(scores, _subjects([0], [0], [0]), _subjects([0, 1]))
    with pytest.raises(ValueError, match="scores"):
        evaluate_pairs(lambda block: scores, np.array([1]), np.array([1, 2]))


def test_pairs_and_their_chance():
    table = np.array([[3, 2, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]], np.float32)
    result = evaluate_pairs(
        lambda block: table[block], np.array([2, 1, 99]), np.array([1, 2, 2, 3])
    )
    # Equal scores count against the query; the third owner has nothing there.
    assert result.ranks.tolist() == [2, 4]
    values = result.summary(ks=(1, 2))
    assert values["recall@1"] == 0
    assert values["recall@2"] == 0.5
    assert values["median rank"] == 3
    # Two own ones of four, one drawn: 1/2; one own: 1/4.
    assert values["chance recall@1"] == pytest.approx(3 / 8)
    assert values["chance recall@2"] == pytest.approx((5 / 6 + 1 / 2) / 2)


def test_kappa():
    # Cohen 1960's own kind of table: 20 both yes, 15 both no, 5 and 10 apart: 0.4.
    first = ["y"] * 25 + ["n"] * 25
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa([1, 2, 3], [1, 2, 3], weights="quadratic") == 1
    near, far = (
        cohen_kappa([1, 2, 3], [1, 2, 2], weights="linear"),
        cohen_kappa([1, 2, 3], [1, 2, 1], weights="linear"),
    )
    assert near > far
    assert np.isnan(cohen_kappa([1, 1], [1, 1]))
    with pytest.raises(ValueError, match="two readings"):
        cohen_kappa([1], [1, 2])


def test_effective_rank_tells_collapse():
    assert effective_rank(np.ones((4, 8))) == pytest.approx(1)
    assert effective_rank(np.eye(8)[:4]) == pytest.approx(4)


def test_a_common_direction_hides_distinct_tokens_unless_it_is_taken_off():
    tokens = np.hstack([np.full((4, 1), 9.0), np.eye(4)])
    assert effective_rank(tokens) < 1.2
    # Four points around their mean span three directions evenly.
    assert effective_rank(tokens, centred=True) == pytest.approx(3)
    assert effective_rank(np.ones((4, 8)), centred=True) == 1
    assert mean_cosine(tokens) == pytest.approx(81 / 82)
    assert mean_cosine(np.eye(3)) == pytest.approx(0)
    assert np.isnan(mean_cosine(np.ones((1, 3))))


def test_distinctness_in_words_leaves_out_slides_of_one_token():
    tokens = np.stack([np.eye(3), np.ones((3, 3))])
    present = np.array([[True] * 3, [True, False, False]])
    said = token_distinctness(tokens, present)
    assert said.startswith("3.0 of 3; 2.0 without")
    assert said.endswith("0.00")
    assert "one token" in token_distinctness(tokens[1:], present[1:])
