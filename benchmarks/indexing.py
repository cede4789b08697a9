"""Indexing speed: patches per second, split into decode, encode and overhead.

    python -m benchmarks.indexing                     a slide made in code
    python -m benchmarks.indexing --slide FILE        a slide of yours (--mpp if it says none)

    python -m benchmarks.indexing --patches 10000     the made slide, repeated to that size

One run compares, on the same slide: channels-last against the usual memory layout, the types that
the encoder can compute in, and decoding beside the encoder against decoding before it. The speed
of encoding is also given as a share of what the same chip reaches in one large matrix product.
"""

import argparse
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.machine import cpu_name, matmul_limit, operations
from cases.demo.pyramid import pyramid
from cases.demo.tiff import write_tiff
from cases.demo.tissue import paint_tissue
from cases.wsi.reader import SlideReader, open_slide
from retrieval.engine.encoders import IMAGE_ENCODERS, Runtime, load_image_encoder
from retrieval.engine.patches import patch_grid, read_patches, slide_mask
from retrieval.engine.pipeline import embed_slide


def made_slide(folder: Path, size: int) -> Path:
    """Write a synthetic slide of `size` pixels on each side at 0.5 um, as a JPEG pyramid."""
    tissue = paint_tissue("colon_adenocarcinoma", 1, (size, size), full_bleed=True)
    path = folder / "slide.tiff"
    write_tiff(path, pyramid(tissue), 0.5, description="benchmark", model="benchmark")
    return path


class Repeated:
    """A slide that shows another one again and again, side by side; each read is a real one."""

    def __init__(self, slide: SlideReader, times: int) -> None:
        self._slide, self._times = slide, times
        self.mpp = slide.mpp
        self.width_l0, self.height_l0 = times * slide.width_l0, times * slide.height_l0

    def read_region_l0(self, x, y, width, height, out_width, out_height):
        return self._slide.read_region_l0(
            x % self._slide.width_l0,
            y % self._slide.height_l0,
            width,
            height,
            out_width,
            out_height,
        )

    def thumbnail(self, max_px: int) -> np.ndarray:
        return np.tile(self._slide.thumbnail(max_px // self._times), (self._times, self._times, 1))


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
    parser.add_argument(
        "--patches", type=int, default=0, help="repeat the slide until it has about so many"
    )
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
            measure(repeated(reader, options), options)
        finally:
            reader.close()


def places(reader: SlideReader, spec) -> tuple[np.ndarray, int]:
    """Return the places of a slide's patches, and their side in level-0 pixels."""
    return patch_grid(
        slide_mask(reader, reader.mpp),
        width_l0=reader.width_l0,
        height_l0=reader.height_l0,
        mpp=reader.mpp,
        patch_px=spec.patch_px,
        target_mpp=spec.mpp,
    )


def repeated(reader: SlideReader, options: argparse.Namespace) -> SlideReader:
    """Return the slide, or one that repeats it until it has the patches that were asked for."""
    coords, _ = places(reader, IMAGE_ENCODERS[options.encoder])
    times = math.ceil(math.sqrt(options.patches / len(coords)))
    return Repeated(reader, times) if times > 1 else reader


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
    coords, size = places(reader, spec)
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
            spec, encoder.network, Runtime(options.device), channels_last=channels_last
        )
        rates[layout] = rate(network, pixels, options)
        print(f"  encode, {layout:<25} {rates[layout]:9.1f}")
    print(f"  channels-last is {rates['channels-last'] / rates['usual layout']:.2f} x as fast\n")
    shares(encoder, pixels, options)

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


def rate(network, pixels: np.ndarray, options: argparse.Namespace) -> float:
    """Return patches per second of an encoder."""
    network.encode(pixels[: options.batch])  # the first call allocates
    seconds = best_of(options.repeats, lambda: encode_all(network, pixels, options.batch))
    return len(pixels) / seconds


def shares(encoder, pixels: np.ndarray, options: argparse.Namespace) -> None:
    """Print encoding in each type, as a share of the chip's own matrix product in that type."""
    import torch

    spec, device = encoder.spec, encoder.device
    images = torch.zeros(1, 3, spec.patch_px, spec.patch_px, device=device)
    per_patch = operations(encoder.network, images)
    print(f"one patch is {per_patch / 1e9:.2f} G operations (each multiply-add counted twice)")
    if device.type != "cuda":
        print("no GPU at hand: the shares are those of this CPU")
    print("type            compiled   patches/s    limit TFLOP/s   share of it")
    kinds = ("float32", "bfloat16", "float16") if device.type == "cuda" else ("float32",)
    for kind in kinds:
        limit = matmul_limit(device, getattr(torch, kind))
        # Compiling takes minutes of a CPU and is for GPUs.
        for compiled in (False, True) if device.type == "cuda" else (False,):
            network = type(encoder)(
                spec, encoder.network, Runtime(options.device, 0, kind, compiled)
            )
            speed = rate(network, pixels, options)
            print(
                f"  {kind:<14}{'yes' if compiled else 'no':<9}{speed:11.1f} {limit / 1e12:15.2f} "
                f"{speed * per_patch / limit:12.1%}"
            )
    print()


def encode_all(encoder, pixels: np.ndarray, batch: int) -> None:
    """Encode the pixels batch by batch."""
    for start in range(0, len(pixels), batch):
        encoder.encode(pixels[start : start + batch])


if __name__ == "__main__":
    main()
