"""Seconds and memory from a slide's patch features to its vector and tokens.

    python -m benchmarks.aggregation                         10,000 and 100,000 patches
    python -m benchmarks.aggregation --patches 100000 --without-reference

Each figure comes from a process of its own: peak memory is the most that it held, beside the
features themselves and what Python and the libraries take. The reference network is the
configuration of the paper (768 values in and through); `whole` is the same without taking a
large slide in pieces, where asked for.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.machine import cpu_name, peak_mb, start_of_peak

WIDTHS = {"prototypes": 1280, "aligner": 1280, "reference": 768, "whole": 768}


def made_features(count: int, width: int) -> np.ndarray:
    """Return float16 (N, D) of eight kinds of tissue, made row by row to hold no second copy."""
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(8, width)).astype(np.float32)
    features = np.empty((count, width), np.float16)
    for start in range(0, count, 1000):
        own = features[start : start + 1000]
        noise = rng.normal(size=own.shape).astype(np.float32)
        own[:] = kinds[rng.integers(8, size=len(own))] + 0.5 * noise
    return features


def work_of(method: str, width: int, model: str) -> Callable[[np.ndarray, np.ndarray], object]:
    """Return the function that aggregates (features, coords); what it loads is loaded now."""
    if method == "prototypes":
        from retrieval.engine.mosaic import prototypes

        return lambda features, coords: prototypes(
            features, coords, 224, centre=np.zeros(width, np.float32)
        )
    if method == "aligner":
        from retrieval.engine.aligner.model import load_aligner

        aligner = load_aligner(Path(model))
        return lambda features, coords: aligner.embed(features, coords, 224)
    import torch

    from retrieval.engine import pieces
    from retrieval.engine.aggregator import ReferenceAggregator, ReferenceConfig

    if method == "whole":
        pieces.ROWS = 1 << 60
    torch.manual_seed(0)
    network = ReferenceAggregator(ReferenceConfig(input_dim=width)).eval()

    def run(features: np.ndarray, coords: np.ndarray) -> object:
        with torch.inference_mode():
            return network(torch.from_numpy(features).float()[None])

    return run


def one(method: str, count: int, model: str) -> dict[str, float]:
    """Measure one method in this process."""
    width = WIDTHS[method]
    work = work_of(method, width, model)
    side = int(np.ceil(np.sqrt(count)))
    coords = np.stack(np.divmod(np.arange(count), side)[::-1], axis=1).astype(np.int64) * 224
    small = made_features(64, width)
    work(small, coords[:64])  # the first call loads and allocates
    features = made_features(count, width)
    before = start_of_peak()
    began = time.perf_counter()
    work(features, coords)
    return {"seconds": time.perf_counter() - began, "mb": peak_mb() - before}


def made_aligner(folder: Path) -> Path:
    """Fit a default model on random slides and return its file; only its speed matters."""
    from retrieval.engine.aligner.archive import Archive
    from retrieval.engine.aligner.fit import FitSettings, fit_aligner
    from retrieval.engine.aligner.model import save_aligner

    slides, width = 60, WIDTHS["aligner"]
    archive = Archive(
        features=made_features(slides * 8, width),
        offsets=np.arange(0, slides * 8 + 1, 8, dtype=np.int64),
        slide_ids=tuple(f"s{i}" for i in range(slides)),
        patients=tuple(f"p{i}" for i in range(slides)),
        hospitals=tuple(f"h{i % 6}" for i in range(slides)),
        labels=tuple(f"label {i % 3}" for i in range(slides)),
        splits=("train",) * slides,
        reports={},
    )
    path = folder / "model.safetensors"
    save_aligner(fit_aligner(archive, np.arange(slides), FitSettings()), path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--without-reference", action="store_true")
    parser.add_argument("--whole", action="store_true", help="the reference in one piece too")
    parser.add_argument("--one", choices=sorted(WIDTHS), help=argparse.SUPPRESS)
    parser.add_argument("--model", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.patches[0], options.model)))
        return
    print(f"machine   {cpu_name()}; {os.cpu_count()} cores")
    print(f"software  Python {platform.python_version()}, NumPy {np.__version__}\n")
    methods = ["prototypes", "aligner"]
    if not options.without_reference:
        methods += ["reference"] + ["whole"] * options.whole
    print("method       width   patches   seconds   peak MB   features MB")
    with tempfile.TemporaryDirectory() as folder:
        model = made_aligner(Path(folder))
        for method in methods:
            for count in options.patches:
                said = subprocess.run(
                    [
                        *(sys.executable, "-m", "benchmarks.aggregation", "--one", method),
                        *("--patches", str(count), "--model", str(model)),
                    ],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
                result = json.loads(said)
                width = WIDTHS[method]
                print(
                    f"{method:<12} {width:5} {count:9} {result['seconds']:9.2f} "
                    f"{result['mb']:9.0f} {count * width * 2 / 2**20:13.0f}"
                )


if __name__ == "__main__":
    main()
