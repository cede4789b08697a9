"""A whole slide through the pipeline, with a slide in memory and a small encoder."""

import threading

import numpy as np
import pytest

from retrieval.engine import pipeline
from retrieval.engine.errors import SkipSlide
from retrieval.engine.mosaic import prototypes
from retrieval.engine.pipeline import embed_slide
from tests.retrieval.fakes import PINK, VIOLET, ArraySlide, ColourEncoder, painted


@pytest.fixture
def slide():
    return ArraySlide(painted(1024, 1024, (64, 64, 512, 896, PINK), (576, 64, 320, 896, VIOLET)))


def test_it_embeds_each_patch_of_tissue_once(slide):
    embedded = embed_slide(slide, ColourEncoder(), batch=7)
    assert embedded.size_l0 == 64
    assert len(embedded.features) == len(embedded.coords_l0) == slide.reads
    assert len(np.unique(embedded.coords_l0, axis=0)) == len(embedded.coords_l0)
    assert 13 * 14 <= len(embedded.coords_l0) <= 15 * 16
    shares = sorted(place["share"] for place in embedded.mosaic.places)
    assert sum(shares) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_features_lie_at_their_places_however_many_threads_decode(slide, threads):
    embedded = embed_slide(slide, ColourEncoder(), batch=5, decode_threads=threads)
    for feature, (x, y) in zip(embedded.features, embedded.coords_l0, strict=True):
        mean = slide.rgb[y : y + 64, x : x + 64].reshape(-1, 3).mean(0) / 255
        assert feature[:3] == pytest.approx(mean, abs=0.01)


def test_the_mosaic_can_be_made_again_from_the_features(slide):
    embedded = embed_slide(slide, ColourEncoder(), batch=16)
    again = prototypes(embedded.features, embedded.coords_l0, embedded.size_l0)
    assert np.array_equal(again.tokens, embedded.mosaic.tokens)
    assert again.places == embedded.mosaic.places


def test_pixels_in_memory_are_bounded_while_the_encoder_is_slow(slide):
    decoded_ahead = []
    encoder = ColourEncoder()
    plain = encoder.encode

    def slow(patches):
        # Decoding has every chance to run ahead; only the bound stops it.
        deadline = threading.Event()
        deadline.wait(0.02)
        decoded_ahead.append(slide.reads - sum(encoder.batches))
        return plain(patches)

    encoder.encode = slow
    embed_slide(slide, encoder, batch=4, decode_threads=2)
    assert max(decoded_ahead) <= 4 * (1 + 3)
    assert len(slide.threads) == 2


def test_decoding_goes_on_while_the_encoder_works(slide):
    started = threading.Event()
    encoder = ColourEncoder()
    plain = encoder.encode

    def waits_for_the_next_batch(patches):
        if not encoder.batches:
            # The second batch must be decoded during the first encode, or this times out.
            before = slide.reads
            for _ in range(200):
                if slide.reads > before or slide.reads > len(patches):
                    started.set()
                    break
                threading.Event().wait(0.01)
        return plain(patches)

    encoder.encode = waits_for_the_next_batch
    embed_slide(slide, encoder, batch=4, decode_threads=1)
    assert started.is_set()


def test_progress_counts_up_and_may_stop_the_work(slide):
    told = []
    embed_slide(slide, ColourEncoder(), batch=64, progress=lambda *step: told.append(step))
    assert told[0][2] == "mask"
    done = [done for done, _, step in told if step == "encode"]
    assert done == sorted(done)
    assert told[-1][2] == "aggregate"

    class Stopped(Exception):
        pass

    def stop(done, total, step):
        if done:
            raise Stopped

    slide.reads = 0
    with pytest.raises(Stopped):
        embed_slide(slide, ColourEncoder(), batch=4, progress=stop)
    assert slide.reads < 40
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_an_error_of_the_reader_comes_out_and_ends_the_threads(slide):
    def broken(*arguments):
        raise OSError("cannot read")

    slide.read_region_l0 = broken
    with pytest.raises(OSError, match="cannot read"):
        embed_slide(slide, ColourEncoder())
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


@pytest.mark.parametrize(
    ("rgb", "mpp", "code"),
    [
        (painted(1024, 1024), 1.0, "no_tissue"),
        (painted(40, 40, (0, 0, 40, 40, PINK)), 1.0, "too_small"),
        (painted(512, 512, (0, 0, 512, 512, PINK)), 20.0, "too_coarse"),
        (painted(512, 512, (0, 0, 512, 512, PINK)), None, "no_mpp"),
        (painted(512, 512, background=(3, 3, 3)), 1.0, "fluorescence"),
    ],
)
def test_slides_with_nothing_to_embed_are_named(rgb, mpp, code):
    with pytest.raises(SkipSlide) as skipped:
        embed_slide(ArraySlide(rgb, mpp), ColourEncoder())
    assert skipped.value.code == code


def test_timings_add_up(slide):
    timings = embed_slide(slide, ColourEncoder()).timings.as_dict()
    parts = sum(timings[name] for name in ("mask", "wait", "encode", "aggregate", "overhead"))
    assert parts == pytest.approx(timings["total"], abs=0.01)
    assert pipeline.Timings().overhead == 0
