"""The split: no hospital or patient in both parts, and what happens where that cannot be."""

import pytest

from retrieval.engine.aligner.archive import ArchiveInvalid
from retrieval.engine.split import disjoint_split


def made(count, hospitals, labels=3, patients=None):
    return (
        [f"p{i if patients is None else i % patients}" for i in range(count)],
        [f"h{i % hospitals}" for i in range(count)],
        [f"label {i // hospitals % labels}" for i in range(count)],
    )


def names(values, positions):
    return {values[i] for i in positions}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("hospitals", [2, 3, 10])
def test_hospitals_and_patients_are_in_one_part_only(hospitals, seed):
    patients, places, labels = made(120, hospitals, patients=90)
    split = disjoint_split(patients, places, labels, seed=seed)
    assert split.by == "hospital"
    assert not names(places, split.train) & names(places, split.held_out)
    assert not names(patients, split.train) & names(patients, split.held_out)
    everything = [*split.train, *split.held_out, *split.left_out]
    assert sorted(everything) == list(range(120))
    assert names(patients, split.left_out) <= names(patients, split.held_out)
    if hospitals == 10:
        assert 15 <= len(split.held_out) <= 36


def test_the_same_seed_is_the_same_split_and_another_is_another():
    arguments = made(120, 10)
    first, again = (disjoint_split(*arguments, seed=3) for _ in range(2))
    assert first.held_out.tolist() == again.held_out.tolist()
    others = {tuple(disjoint_split(*arguments, seed=s).held_out.tolist()) for s in range(6)}
    assert len(others) > 1


@pytest.mark.parametrize("hospitals", [1, 2])
def test_with_too_few_hospitals_patients_are_held_out_label_by_label(hospitals):
    patients, _, _ = made(60, 1, patients=30)
    labels = [f"label {int(patient[1:]) % 3}" for patient in patients]
    # The second hospital is of one slide, which measures nothing.
    places = ["h0"] * 59 + [f"h{hospitals - 1}"]
    split = disjoint_split(patients, places, labels)
    assert split.by == "patient"
    assert not names(patients, split.train) & names(patients, split.held_out)
    assert names(labels, split.held_out) == names(labels, split.train) == set(labels)
    assert len(split.held_out) == 12
    assert not len(split.left_out)


def test_too_little_is_a_named_error():
    with pytest.raises(ArchiveInvalid, match="two diagnoses"):
        disjoint_split(["a", "b"], ["h", "h"], ["x", "y"])
    with pytest.raises(ArchiveInvalid, match="two diagnoses"):
        disjoint_split([f"p{i}" for i in range(40)], ["h"] * 40, ["x"] * 40)
