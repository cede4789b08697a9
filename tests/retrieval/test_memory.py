"""Aggregating a large slide takes bounded memory, and in pieces gives what it gives whole."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from retrieval.engine import pieces
from retrieval.engine.aggregator import ReferenceAggregator, ReferenceConfig
from tests.retrieval.tiny_models import scrambled

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ReferenceConfig(input_dim=6, dim=16, token_count=3, heads=4, hidden=5)


@pytest.mark.parametrize("count", [1, 2, 3, 17, 64, 65, 300])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_pieces_give_what_the_whole_gives(monkeypatch, count, rows):
    network = scrambled(ReferenceAggregator(CONFIG))
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.fill_(0.3)
    bag = torch.randn(1, count, 6, generator=torch.Generator().manual_seed(count))
    with torch.no_grad():
        whole = network(bag)
        called = []
        real = pieces.nystrom_layer
        monkeypatch.setattr(pieces, "nystrom_layer", lambda *a: called.append(1) or real(*a))
        monkeypatch.setattr(pieces, "ROWS", min(rows, count - 1))
        monkeypatch.setattr(pieces, "CHANNELS", 5)
        made = network(bag) if count > 1 else whole
    assert len(called) == (2 if count > 1 else 0)
    for name in ("tokens", "embedding", "attention", "token_attention"):
        torch.testing.assert_close(getattr(made, name), getattr(whole, name), atol=2e-5, rtol=1e-4)


def test_training_and_batches_are_never_taken_in_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "ROWS", 4)
    monkeypatch.setattr(pieces, "nystrom_layer", None)
    network = scrambled(ReferenceAggregator(CONFIG))
    network(torch.randn(1, 9, 6)).embedding.sum().backward()
    with torch.no_grad():
        network(torch.randn(2, 9, 6))
        network.train()(torch.randn(1, 9, 6))


def peak_beside(code: str) -> float:
    """Return the MB that `work()` held at most, beside what the process held before it."""
    program = (
        "from benchmarks.machine import peak_mb, start_of_peak\n"
        f"{code}\n"
        "before = start_of_peak()\n"
        "work()\n"
        "print(peak_mb() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def test_prototypes_of_a_large_slide_hold_no_second_copy_of_its_features():
    # 100,000 x 256 in float16 are 49 MB, in float32 98 MB.
    code = """
import numpy as np
from retrieval.engine.mosaic import prototypes
features = np.tile(np.random.default_rng(0).normal(size=(1000, 256)).astype(np.float16), (100, 1))
coords = np.stack([np.arange(100000) % 400, np.arange(100000) // 400], 1) * 224
prototypes(features[:500], coords[:500], 224)
def work(): prototypes(features, coords, 224)
"""
    assert peak_beside(code) < 98


REFERENCE = """
import torch
from retrieval.engine import pieces
from retrieval.engine.aggregator import ReferenceAggregator, ReferenceConfig
torch.set_num_threads(1)
pieces.ROWS = {rows}
network = ReferenceAggregator(ReferenceConfig(input_dim=64, dim=64)).eval()
bag = torch.randn(1, 40000, 64)
def work():
    with torch.inference_mode(): network(bag)
"""


def test_the_reference_network_holds_a_few_copies_of_a_large_slide():
    copy = 40000 * 64 * 4 / 2**20
    assert peak_beside(REFERENCE.format(rows=2048)) < 14 * copy
    assert peak_beside(REFERENCE.format(rows=1 << 40)) > 25 * copy, "whole it needs more"
