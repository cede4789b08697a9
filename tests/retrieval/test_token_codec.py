"""Coded tokens stay what they were, and tissue that a codec does not know stays whole."""

import numpy as np
import pytest

from retrieval.codecs import codecs_forget, stored_tokens
from retrieval.engine.token_codec import FIDELITY, TokenCodec, fit_token_codec
from retrieval.models import SlideEmbedding
from retrieval.services.mosaic_codecs import codec_fit, coded, mosaics_code
from tests.factories import DepartmentFactory
from tests.retrieval.many_slides import add_slides
from tests.retrieval.vectors import make_model

DIMENSION, KNOWN, WIDE = 64, 24, 256


def tokens_of(count: int, axes: range, seed: int, width: int = DIMENSION) -> np.ndarray:
    """Return L2-normalised tokens float32 (count, width) that lie in some axes, nearly."""
    generator = np.random.default_rng(seed)
    tokens = generator.normal(scale=0.01, size=(count, width))
    tokens[:, list(axes)] += generator.normal(size=(count, len(axes)))
    return (tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def codec() -> TokenCodec:
    return fit_token_codec(tokens_of(2000, range(KNOWN), 1), token_bytes=20)


def test_cosines_of_coded_tokens_are_those_of_the_tokens(codec):
    asked, kept = tokens_of(50, range(KNOWN), 2), tokens_of(300, range(KNOWN), 3)
    data = codec.encode(kept)
    assert len(data) == 300 * codec.token_bytes <= 300 * 20
    found = codec.project(asked) @ codec.decode(data).T
    error = np.abs(found - asked @ kept.T)
    assert error.mean() < 0.02 and error.max() < 0.1
    assert np.array_equal(TokenCodec.from_bytes(codec.to_bytes()).decode(data), codec.decode(data))


def test_fidelity_tells_what_the_axes_do_not_hold(codec):
    assert codec.fidelity(tokens_of(300, range(KNOWN), 4)).min() > FIDELITY
    assert codec.fidelity(tokens_of(300, range(KNOWN, DIMENSION), 5)).max() < FIDELITY


def test_a_wide_spread_gets_more_bytes():
    spread = tokens_of(2000, range(DIMENSION), 6)
    wider = fit_token_codec(spread, token_bytes=8)
    assert wider.token_bytes > 8
    assert np.mean(wider.fidelity(spread) >= FIDELITY) > 0.99


@pytest.mark.parametrize("data", [b"", b"1" * 19])
def test_half_a_token_is_refused(codec, data):
    with pytest.raises(ValueError, match="are no tokens of"):
        codec.decode(data)


def test_a_sample_must_be_large_and_finite():
    with pytest.raises(ValueError, match="at least 64"):
        fit_token_codec(tokens_of(63, range(KNOWN), 1))
    with pytest.raises(ValueError, match="not finite"):
        fit_token_codec(np.full((64, 8), np.nan, np.float32))
    with pytest.raises(ValueError, match="not a token codec"):
        TokenCodec.from_bytes(b"other")


@pytest.mark.django_db
def test_a_slide_with_unknown_tissue_is_kept_whole_and_once():
    codecs_forget()
    model = make_model(dimension=WIDE)
    known = tokens_of(100, range(KNOWN), 7, WIDE)
    add_slides(model, DepartmentFactory(), known)
    assert codec_fit(model=model, least=100)
    row = SlideEmbedding.objects.order_by("pk")[3]
    rare = tokens_of(1, range(KNOWN, WIDE), 8, WIDE)
    row.mosaic = rare.astype("<f2").tobytes()
    row.save()
    assert mosaics_code(model=model) == 100
    assert mosaics_code(model=model) == 0  # the whole one waits for nothing
    row.refresh_from_db()
    assert row.codec is None
    assert row.cells  # it is found by its cells all the same
    kept = stored_tokens(bytes(row.mosaic), None, WIDE)
    assert np.abs(kept - rare).max() < 1e-3
    assert SlideEmbedding.objects.filter(codec=None).count() == 1
    assert coded(model, known[:16])["codec_id"] is not None
    codecs_forget()
