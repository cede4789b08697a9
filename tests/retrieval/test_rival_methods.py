"""The published rivals on data where the right answer is known."""

import numpy as np
import pytest

from retrieval.engine.evaluation import Subjects, evaluate_retrieval
from retrieval.engine.hypergraph import hypergraph_search, hypergraph_similarity, incidences
from retrieval.engine.rivals import bunch_of_barcodes, mosaic_patches, raw_mosaics
from tests.retrieval.made_archive import made_archive


def test_votes_by_hand():
    # Slide 0 holds a; slide 1 a and b; slide 2 b. Codes: a = + +, b = - -.
    a, b = [1.0, 2.0], [-1.0, -3.0]
    tokens = np.array([[a, [0, 0]], [a, b], [b, [0, 0]]])
    shares = np.array([[1.0, 0], [0.75, 0.25], [1.0, 0]])
    present = np.array([[True, False], [True, True], [True, False]])
    votes = incidences(tokens, shares, present, neighbours=1)
    assert votes.tolist() == [[0, 1, 0], [0.75, 0, 0.25], [0, 1, 0]]
    second = 1 - np.log(2) / np.log(3)
    more = incidences(tokens, shares, present, neighbours=2)
    # The code a of slide 0 also reaches the first b: that of slide 1.
    np.testing.assert_allclose(more[0], [0, 1 + second, 0], rtol=1e-6)
    np.testing.assert_allclose(more[1], [0.75 + 0.25 * second, 0, 0.25 + 0.75 * second], rtol=1e-6)


def test_similarity_by_hand():
    votes = np.array([[0.0, 1], [2, 0]])
    # Hyperedges share nothing with each other; directly each slide is all of the other's.
    np.testing.assert_allclose(hypergraph_similarity(votes), [[2, 1], [1, 2]])


def test_slides_that_share_a_neighbour_are_alike():
    """A, B and C each vote for the hub only; D votes for another."""
    votes = np.zeros((6, 6))
    votes[[0, 1, 2], 4] = 1
    votes[3, 5] = 1
    made = hypergraph_similarity(votes)
    assert made[0, 1] == pytest.approx(1 / 3)
    assert made[0, 3] == 0


@pytest.fixture(scope="module")
def archive():
    """Return an archive whose hospitals look alike: the diseases can be seen."""
    return made_archive(slides=60, hospitals=6)


def _kinds(rng, slides=40):
    """Return mosaics of slides that hold two of four kinds of tissue, by their label."""
    kinds = rng.normal(size=(4, 30))
    labels = np.arange(slides) % 2
    tokens = np.stack([kinds[[2 * label, 2 * label + 1]] for label in labels])
    tokens = tokens + 0.7 * rng.normal(size=tokens.shape)
    return labels, tokens.astype(np.float32)


def test_hypergraph_finds_slides_of_the_same_tissue():
    from retrieval.engine.rivals import RawMosaics

    labels, tokens = _kinds(np.random.default_rng(0))
    shares = np.full(tokens.shape[:2], 0.5, np.float32)
    present = np.ones(tokens.shape[:2], bool)
    rival = hypergraph_search(RawMosaics(tokens, shares, present, tokens, tokens[:, 0]))
    subjects = Subjects(labels, np.arange(40), np.arange(40))
    everything = np.arange(40)
    result = evaluate_retrieval(
        lambda block: rival.similarity(block, everything),
        subjects,
        subjects,
        exclude_hospital=True,
    )
    assert result.summary()["mAP"] > 0.95


def test_mosaic_patches_come_from_every_colour_and_place():
    rng = np.random.default_rng(0)
    # Three colours, the third rare; each in two corners of the slide.
    colour = np.repeat([0, 1, 2], [200, 180, 20])
    kinds = 50.0 * np.eye(3)[colour] + rng.normal(size=(400, 3))
    corner = np.arange(400) % 2
    places = (10_000 * corner[:, None] + rng.integers(0, 2000, size=(400, 2))).astype(np.int64)
    chosen = mosaic_patches(kinds, places, clusters=3, share=0.1)
    assert len(set(chosen.tolist())) == len(chosen)
    taken = [int((colour[chosen] == c).sum()) for c in range(3)]
    assert taken == [20, 18, 2]
    for c in range(3):
        assert set(corner[chosen[colour[chosen] == c]]) == {0, 1}
    shuffled = rng.permutation(400)
    again = shuffled[mosaic_patches(kinds[shuffled], places[shuffled], clusters=3, share=0.1)]
    assert set(again.tolist()) == set(chosen.tolist())


def test_mosaic_patches_of_few_patches():
    one = mosaic_patches(np.zeros((1, 3)), np.zeros((1, 2), np.int64))
    assert one.tolist() == [0]
    alike = mosaic_patches(np.zeros((5, 3)), np.zeros((5, 2), np.int64), share=0.2)
    assert len(alike) == 1


def test_barcodes_rank_the_same_slide_first(archive):
    mosaics = raw_mosaics(archive, np.arange(len(archive)))
    rival = bunch_of_barcodes(mosaics)
    values = rival.similarity(np.arange(10), np.arange(len(archive)))
    assert (values.argmax(1) == np.arange(10)).all()
    assert (values[np.arange(10), np.arange(10)] == 0).all()
