"""Prototypes and slide vectors."""

import numpy as np
import pytest

from retrieval.engine.mosaic import prototypes, tokens_from_bytes


def three_tissues(count=90, dimension=24, seed=0):
    """Return features around three directions, with shares 1/2, 1/3 and 1/6, and places."""
    generator = np.random.default_rng(seed)
    directions = np.eye(3, dimension)
    labels = np.repeat([0, 1, 2], [count // 2, count // 3, count // 6])
    features = 3 * directions[labels] + generator.normal(0, 0.1, (len(labels), dimension))
    coords = np.stack([np.arange(len(labels)) % 10, np.arange(len(labels)) // 10], 1) * 64
    return (features + 5).astype(np.float16), coords, labels


CENTRE = np.full(24, 5, np.float32)


def test_prototypes_stand_for_the_tissues_with_their_shares_and_places():
    features, coords, labels = three_tissues()
    mosaic = prototypes(features, coords, 64, token_count=3, centre=CENTRE)
    assert mosaic.tokens.argmax(1).tolist() == [0, 1, 2]
    assert [place["share"] for place in mosaic.places] == pytest.approx(
        [1 / 2, 1 / 3, 1 / 6], abs=1e-5
    )
    for token, place in enumerate(mosaic.places):
        at = np.flatnonzero((coords == (place["x_l0"], place["y_l0"])).all(1)).item()
        assert labels[at] == token
        unit = features[labels == token].astype(np.float32) - CENTRE
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        best = np.flatnonzero(labels == token)[(unit @ mosaic.tokens[token]).argmax()]
        assert at == best


def test_everything_has_length_one_and_shares_sum_to_one():
    features, coords, _labels = three_tissues()
    mosaic = prototypes(features, coords, 64, centre=CENTRE)
    assert mosaic.tokens.shape == (16, 24)
    assert np.allclose(np.linalg.norm(mosaic.tokens, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(mosaic.slide_vector) == pytest.approx(1, abs=1e-5)
    assert sum(place["share"] for place in mosaic.places) == pytest.approx(1, abs=1e-4)


def test_the_slide_vector_is_the_centred_mean():
    features, coords, _labels = three_tissues()
    mosaic = prototypes(features, coords, 64, centre=CENTRE)
    mean = features.astype(np.float64).mean(0) - CENTRE
    assert mosaic.slide_vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


def test_the_order_of_the_patches_does_not_matter():
    features, coords, _labels = three_tissues()
    shuffled = np.random.default_rng(3).permutation(len(features))
    one = prototypes(features, coords, 64, centre=CENTRE)
    two = prototypes(features[shuffled], coords[shuffled], 64, centre=CENTRE)
    assert np.array_equal(one.tokens, two.tokens)
    assert one.places == two.places


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_patches_give_as_many_tokens(count):
    features, coords, _labels = three_tissues()
    mosaic = prototypes(features[:count], coords[:count], 64, centre=CENTRE)
    assert len(mosaic.tokens) == len(mosaic.places) == count


def test_equal_patches_are_one_token():
    features = np.ones((40, 8), np.float16)
    coords = np.stack([np.arange(40), np.zeros(40, int)], 1)
    mosaic = prototypes(features, coords, 1)
    assert len(mosaic.tokens) == 1
    assert mosaic.places[0]["share"] == 1


def test_a_large_slide_is_fitted_on_a_sample_and_counted_whole(monkeypatch):
    monkeypatch.setattr("retrieval.engine.mosaic._FIT_MAX", 30)
    monkeypatch.setattr("retrieval.engine.mosaic._CHUNK", 17)
    features, coords, _labels = three_tissues()
    mosaic = prototypes(features, coords, 64, token_count=3, centre=CENTRE)
    assert [place["share"] for place in mosaic.places] == pytest.approx(
        [1 / 2, 1 / 3, 1 / 6], abs=1e-5
    )


def test_tokens_survive_being_stored():
    features, coords, _labels = three_tissues()
    mosaic = prototypes(features, coords, 64, centre=CENTRE)
    assert tokens_from_bytes(mosaic.token_bytes(), 24) == pytest.approx(mosaic.tokens, abs=1e-3)


def test_it_refuses_what_has_no_meaning():
    with pytest.raises(ValueError, match="0 features"):
        prototypes(np.empty((0, 4)), np.empty((0, 2), int), 1)
    with pytest.raises(ValueError, match="finite"):
        prototypes(np.full((3, 4), np.nan), np.zeros((3, 2), int), 1)
