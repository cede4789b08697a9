"""The measuring itself: what is counted, what is repeated, what memory is seen."""

import numpy as np
import torch

from benchmarks.indexing import Repeated
from benchmarks.machine import matmul_limit, operations, peak_mb, start_of_peak
from tests.retrieval.fakes import ArraySlide


def test_a_multiply_add_counts_twice():
    linear = torch.nn.Linear(30, 20, bias=False)
    assert operations(linear, torch.zeros(4, 30)) == 2 * 4 * 30 * 20
    convolution = torch.nn.Conv2d(3, 8, 5, bias=False)
    assert operations(convolution, torch.zeros(1, 3, 9, 9)) == 2 * 3 * 8 * 25 * 5 * 5


def test_the_limit_is_a_rate_that_this_machine_can_have():
    limit = matmul_limit(torch.device("cpu"), torch.float32, seconds=0.2)
    assert 1e8 < limit < 1e15


def test_a_repeated_slide_shows_the_same_pixels_at_each_turn():
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    slide = Repeated(ArraySlide(rgb, mpp=0.5), 3)
    assert (slide.width_l0, slide.height_l0, slide.mpp) == (288, 192, 0.5)
    once = slide.read_region_l0(32, 0, 32, 32, 32, 32)
    assert np.array_equal(once, rgb[:32, 32:64])
    assert np.array_equal(once, slide.read_region_l0(32 + 96, 128, 32, 32, 32, 32))
    assert slide.thumbnail(288).shape == (192, 288, 3)


def test_the_peak_is_that_of_now_and_not_of_before():
    big = np.ones(60 << 20, np.uint8)
    del big
    before = start_of_peak()
    assert peak_mb() - before < 20
    big = np.ones(60 << 20, np.uint8)
    assert peak_mb() - before > 50
    del big
