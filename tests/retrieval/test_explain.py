"""Explanations against the very scores that rank."""

import numpy as np
import pytest

from retrieval.engine.aligner.fit import FitSettings, fit_aligner
from retrieval.engine.explain import (
    assigned_patches,
    explain_reference_distance,
    explain_similarity,
    pooled_patches,
)
from retrieval.engine.mosaic import Mosaic, normalised, prototypes
from retrieval.engine.ranking import mosaic_similarity, pad_mosaics
from retrieval.engine.rivals import reference_distance
from tests.retrieval.made_archive import made_archive


def _mosaic(rng, tokens, width=6):
    shares = rng.dirichlet(np.ones(tokens))
    return Mosaic(
        normalised(rng.normal(size=(tokens, width))),
        [{"x_l0": i, "y_l0": 0, "size_l0": 9, "share": round(float(s), 6)} for i, s in
         enumerate(shares)],
        normalised(rng.normal(size=width)),
    )  # fmt: skip


@pytest.mark.parametrize("backward", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("mine", "theirs"), [(1, 1), (4, 7), (16, 3)])
def test_the_parts_add_up_to_the_score_of_the_ranking(mine, theirs, backward):
    rng = np.random.default_rng(mine)
    query, others = _mosaic(rng, mine), [_mosaic(rng, theirs), _mosaic(rng, theirs + 2)]
    shares = [np.array([p["share"] for p in m.places], np.float32) for m in (query, *others)]
    padded = pad_mosaics([m.tokens for m in others], shares[1:])
    by_tokens, _ = mosaic_similarity(query.tokens, shares[0], *padded, backward=backward)
    for candidate, value in zip(others, by_tokens, strict=True):
        cosine = float(query.slide_vector @ candidate.slide_vector)
        found = explain_similarity(
            query, candidate, vector_similarity=cosine, token_share=0.7, backward=backward
        )
        assert found.similarity == pytest.approx(0.7 * value + 0.3 * cosine, abs=1e-6)
        assert found.vector_part + found.token_part == pytest.approx(found.similarity, abs=1e-12)
        # One way, the pairs are the query tokens' best; the other way, the candidate's.
        if backward == 0:
            assert sorted(m.query_token for m in found.matches) == list(range(mine))
        if backward == 1:
            count = len(candidate.tokens)
            assert sorted(m.candidate_token for m in found.matches) == list(range(count))


def test_the_matched_tokens_are_those_that_look_alike():
    one, two, three = np.eye(3, dtype=np.float32)
    places = [{"x_l0": 5, "y_l0": 6, "size_l0": 9, "share": s} for s in (0.75, 0.25)]
    query = Mosaic(np.stack([one, two]), places, one)
    candidate = Mosaic(np.stack([two, three, one]), [places[0] | {"share": 1 / 3}] * 3, two)
    found = explain_similarity(
        query, candidate, vector_similarity=0.0, token_share=1.0, backward=0.5
    )
    pairs = {(m.query_token, m.candidate_token): (m.forward, m.backward) for m in found.matches}
    assert pairs[0, 2] == pytest.approx((0.375, 1 / 6))
    assert pairs[1, 0] == pytest.approx((0.125, 1 / 6))
    assert found.matches[0].query_token == 0
    assert found.similarity == pytest.approx(0.5 + 1 / 3)


def test_the_default_models_own_comparison_is_the_same():
    archive = made_archive()
    model = fit_aligner(archive, np.arange(len(archive)), FitSettings())
    first, second = model.embed(archive.bag(0)), model.embed(archive.bag(5))
    compared = model.compare(first, second)
    found = explain_similarity(
        first,
        second,
        vector_similarity=float(first.slide_vector @ second.slide_vector),
        token_share=model.config.token_share,
    )
    assert found.similarity == pytest.approx(compared.similarity, abs=1e-6)
    assert found.token_part == pytest.approx(compared.token_part, abs=1e-6)
    assert found.vector_part == pytest.approx(compared.label_part + compared.look_part, abs=1e-6)


@pytest.mark.parametrize("tokens", [1, 4, 16])
def test_the_reference_distance_is_the_sum_of_its_parts(tokens):
    rng = np.random.default_rng(tokens)
    mosaics = normalised(rng.normal(size=(3, tokens, 40)))
    vectors = normalised(rng.normal(size=(3, 40)))
    distance = -reference_distance(mosaics, vectors)(np.array([0]), np.array([1, 2]))[0]
    for other, value in zip((1, 2), distance, strict=True):
        found = explain_reference_distance(mosaics[0], vectors[0], mosaics[other], vectors[other])
        assert found.distance == pytest.approx(value, rel=1e-6)
        assert found.vector_part + sum(p.contribution for p in found.parts) == found.distance
        # tokens + 1 barcodes: the median is one of an odd number, else two share it.
        assert sum(p.contribution > 0 for p in found.parts) == (1 if tokens % 2 == 0 else 2)


def test_a_token_is_the_weighted_sum_of_its_patches():
    rng = np.random.default_rng(0)
    kinds = 8 * rng.normal(size=(4, 6))
    points = (kinds[rng.integers(4, size=300)] + rng.normal(size=(300, 6))).astype(np.float32)
    coords = np.stack([np.arange(300) % 20, np.arange(300) // 20], 1)
    mosaic = prototypes(points, coords, 1, token_count=4)
    found = assigned_patches(points, mosaic.tokens)
    assert found.weights.shape == (4, 300)
    np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        normalised(found.weights @ normalised(points)), mosaic.tokens, atol=1e-5
    )
    shares = np.bincount(found.nearest, minlength=4) / 300
    np.testing.assert_allclose(shares, [p["share"] for p in mosaic.places], atol=1e-6)
    for token, place in enumerate(mosaic.places):
        at = int(place["y_l0"] * 20 + place["x_l0"])
        assert found.nearest[at] == token
        assert found.likeness[at] == found.likeness[found.nearest == token].max()


def test_the_references_tokens_are_the_attended_sum_of_its_patches():
    torch = pytest.importorskip("torch")
    from retrieval.engine.aggregator import ReferenceAggregator, ReferenceConfig

    torch.manual_seed(0)
    network = ReferenceAggregator(ReferenceConfig(input_dim=10, dim=16, token_count=3)).eval()
    seen = {}
    network.pool.norm.register_forward_hook(lambda _m, _i, out: seen.update(reduced=out.relu()))
    with torch.inference_mode():
        made = network(torch.randn(1, 21, 10))
    found = pooled_patches(made.attention[0].numpy())
    np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        normalised(found.weights @ seen["reduced"].numpy()), made.tokens[0].numpy(), atol=1e-5
    )
    for token, row in enumerate(found.weights):
        most = int(row.argmax())
        assert found.likeness[most] == pytest.approx(1)
        assert found.weights[found.nearest[most], most] == pytest.approx(
            found.weights[found.nearest[most]].max()
        ), token


def test_nonsense_is_refused():
    rng = np.random.default_rng(0)
    one, wider = _mosaic(rng, 2), _mosaic(rng, 2, width=7)
    with pytest.raises(ValueError, match="same width"):
        explain_similarity(one, wider, vector_similarity=0, token_share=0.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        explain_similarity(one, one, vector_similarity=0, token_share=1.5)
    with pytest.raises(ValueError, match="at least one patch"):
        assigned_patches(np.zeros((0, 3)), np.zeros((2, 3)))
