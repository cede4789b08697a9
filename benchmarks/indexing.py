"""Indexing speed: patches per second, split into decode, encode and overhead.

    python -m benchmarks.indexing                     a slide made in code
    python -m benchmarks.indexing --slide FILE        a slide of yours (--mpp if it says none)

One run compares, on the same slide: channels-last against the usual memory layout, and
decoding beside the encoder against decoding before it.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cases.demo.pyramid import pyramid
from cases.demo.tiff import write_tiff
from cases.demo.tissue import paint_tissue
from cases.wsi.reader import SlideReader, open_slide
from retrieval.engine.encoders import IMAGE_ENCODERS, Runtime, load_image_encoder
from retrieval.engine.patches import patch_grid, read_patches, slide_mask
from retrieval.engine.pipeline import embed_slide


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def made_slide(folder: Path, size: int) -> Path:
    """Write a synthetic slide of `size` pixels on each side at 0.5 um, as a JPEG pyramid."""
    tissue = paint_tissue("colon_adenocarcinoma", 1, (size, size), full_bleed=True)
    path = folder / "slide.tiff"
    write_tiff(path, pyramid(tissue), 0.5, description="benchmark", model="benchmark")
    return path


def best_of(repeats: int, work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of several runs."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path, help="a slide file, or the folder of a DICOM series")
    parser.add_argument("--mpp", type=float, help="um per pixel, where the slide does not say")
    parser.add_argument("--size", type=int, default=4032, help="side in pixels of the made slide")
    parser.add_argument("--encoder", default="efficientnet-lite0", choices=sorted(IMAGE_ENCODERS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the encoder; 0: all")
    parser.add_argument("--decode-threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.slide or made_slide(Path(folder), options.size)
        reader = open_slide(path, mpp=options.mpp)
        try:
            measure(reader, options)
        finally:
            reader.close()


def measure(reader: SlideReader, options: argparse.Namespace) -> None:
    """Measure and print."""
    import torch  # after the parser: --help needs no torch

    encoder = load_image_encoder(options.encoder, options.device, options.threads)
    spec, device = encoder.spec, encoder.device
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else cpu_name()
    print(f"machine   {name}; {os.cpu_count()} cores, {torch.get_num_threads()} torch threads")
    print(f"software  Python {platform.python_version()}, torch {torch.__version__}, {spec.name}")
    mpp = reader.mpp
    coords, size = patch_grid(
        slide_mask(reader, mpp),
        width_l0=reader.width_l0,
        height_l0=reader.height_l0,
        mpp=mpp,
        patch_px=spec.patch_px,
        target_mpp=spec.mpp,
    )
    count = len(coords)
    print(f"slide     {reader.width_l0} x {reader.height_l0} at {mpp:.3f} um, {count} patches")
    print(f"batch     {options.batch}; best of {options.repeats} runs\n")

    print("one step alone                      patches/s")
    part = coords[:512]
    seconds = best_of(options.repeats, lambda: read_patches(reader, part, size, spec.patch_px))
    print(f"  decode, one thread                {len(part) / seconds:9.1f}")
    pixels = read_patches(reader, coords[: 4 * options.batch], size, spec.patch_px)
    rates = {}
    for layout, channels_last in (("usual layout", False), ("channels-last", True)):
        network = type(encoder)(
            spec, encoder.network, Runtime(str(device)), channels_last=channels_last
        )
        network.encode(pixels[: options.batch])  # the first call allocates
        seconds = best_of(options.repeats, lambda n=network: encode_all(n, pixels, options.batch))
        rates[layout] = len(pixels) / seconds
        print(f"  encode, {layout:<25} {rates[layout]:9.1f}")
    print(f"  channels-last is {rates['channels-last'] / rates['usual layout']:.2f} x as fast\n")

    print("whole slide         patches/s   total s   mask  decode    wait  encode  aggr.  overhead")
    totals = {}
    for label, threads in (("sequential", 0), ("overlapped", options.decode_threads)):
        runs = [
            embed_slide(reader, encoder, batch=options.batch, decode_threads=threads).timings
            for _ in range(options.repeats)
        ]
        t = min(runs, key=lambda timings: timings.total)
        totals[label] = t.total
        print(
            f"  {label:<16} {count / t.total:10.1f} {t.total:9.2f} {t.mask:6.2f} {t.decode:7.2f} "
            f"{t.wait:7.2f} {t.encode:7.2f} {t.aggregate:6.2f} {t.overhead:9.3f}"
        )
    print(f"  overlapped is {totals['sequential'] / totals['overlapped']:.2f} x as fast")


def encode_all(encoder, pixels: np.ndarray, batch: int) -> None:
    """Encode the pixels batch by batch."""
    for start in range(0, len(pixels), batch):
        encoder.encode(pixels[start : start + batch])


if __name__ == "__main__":
    main()
