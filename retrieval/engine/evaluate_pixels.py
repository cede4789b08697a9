"""Measure the search from pixels: made slides, mask, patches, encoder, mosaic, distance.

    python -m retrieval.engine.evaluate_pixels DATA --cache FOLDER

DATA holds `patches.csv` (path, label, prototype) and a ZIP of the pictures. Every slide is
written as a pyramidal TIFF and read again like a scanner's file. What was encoded is kept in
the cache folder, so that a killed run goes on where it was.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from cases.wsi.reader import open_slide
from retrieval.engine.encoders import (
    ImageEncoder,
    ImageEncoderSpec,
    load_image_encoder,
    weights_digest,
)
from retrieval.engine.errors import EngineError
from retrieval.engine.evaluation import RetrievalResult, Subjects, evaluate_retrieval
from retrieval.engine.mosaic import Mosaic, normalised, prototypes
from retrieval.engine.pipeline import embed_slide
from retrieval.engine.pixel_slides import (
    MadeSlide,
    PatchArchive,
    deal_slides,
    open_archive,
    prototypes_at,
    read_patch_list,
    write_slide,
)
from retrieval.engine.ranking import TOKEN_SHARE, mosaic_similarity, pad_mosaics
from retrieval.engine.tables import retrieval_table

Float32Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

CENTRE = Path(__file__).parent / "assets" / "efficientnet-lite0-centre-v1.safetensors"
AS_THE_SITE = "prototypes, as the site searches (default)"
COLUMNS = ("top-1", "macro top-1", "hit@5", "mMV@3", "mMV@5", "mAP")


@dataclass(frozen=True)
class Bag:
    """Features float16 (N, D), their places int64 (N, 2) and the side of a patch, level 0."""

    features: npt.NDArray[np.float16]
    coords_l0: Ints
    size_l0: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="evaluate_pixels", description=(__doc__ or "").strip())
    parser.add_argument("folder", type=Path, help="patches.csv and the ZIP")
    parser.add_argument("--archive", default="lung.zip", help="name of the ZIP")
    parser.add_argument("--cache", type=Path, required=True, help="folder for encoded slides")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--prototypes-per-slide", type=int, default=4)
    parser.add_argument("--slides-per-label", type=int, default=0, help="0: all")
    parser.add_argument("--mpp", type=float, default=0.5, help="um per pixel that slides claim")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        _evaluate(options)
    except EngineError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


def _evaluate(options: argparse.Namespace) -> None:
    patches = read_patch_list(options.folder / "patches.csv")
    dealt = deal_slides(
        patches, prototypes_per_slide=options.prototypes_per_slide, seed=options.seed
    )
    slides = _first_of_each_label(dealt, options.slides_per_label)
    began = time.perf_counter()
    encoder = load_image_encoder(options.encoder, options.device, options.threads)
    options.cache.mkdir(parents=True, exist_ok=True)
    with open_archive(options.folder / options.archive) as archive:
        bags = [
            _cached_bag(options, archive, slide, encoder, f"{number}/{len(slides)}")
            for number, slide in enumerate(slides, 1)
        ]
    centre = load_file(CENTRE)["centre"] if options.encoder == "efficientnet-lite0" else None
    results = compare(bags, [s.label for s in slides], centre, token_count=options.tokens)
    shown = sum(len(slide.patches) for slide in slides)
    seen = sum(len(bag.features) for bag in bags)
    _out(
        f"{len(slides)} slides of {len({s.label for s in slides})} labels, "
        f"{options.prototypes_per_slide} original images each; {seen} patches encoded of "
        f"{shown} shown (the others: too little tissue); encoder {options.encoder}, "
        f"{time.perf_counter() - began:.0f} s with what was cached.\n"
    )
    _out("### Whole slides\n")
    _out(_table(results, options.rounds))
    parts = [part for slide, bag in zip(slides, bags, strict=True) for part in split(slide, bag)]
    single = compare(
        [bag for _, bag in parts], [label for label, _ in parts], centre, token_count=options.tokens
    )
    _out(f"### Each of the {len(parts)} original images alone\n")
    _out(_table(single, options.rounds))


def _table(results: Mapping[str, RetrievalResult], rounds: int) -> str:
    rows = [(n, r.summary(), r.intervals(rounds=rounds)) for n, r in results.items()]
    return retrieval_table(rows, COLUMNS)


def split(slide: MadeSlide, bag: Bag) -> list[tuple[str, Bag]]:
    """Return the label and the patches of each original image of a slide."""
    origin = np.array(prototypes_at(slide, bag.coords_l0, bag.size_l0))
    return [
        (slide.label, Bag(bag.features[origin == name], bag.coords_l0[origin == name], bag.size_l0))
        for name in sorted(set(origin) - {""})
    ]


def _first_of_each_label(slides: list[MadeSlide], count: int) -> list[MadeSlide]:
    if not count:
        return slides
    kept: dict[str, list[MadeSlide]] = {}
    for slide in slides:
        if len(kept.setdefault(slide.label, [])) < count:
            kept[slide.label].append(slide)
    return [slide for own in kept.values() for slide in own]


def _cached_bag(
    options: argparse.Namespace,
    archive: PatchArchive,
    slide: MadeSlide,
    encoder: ImageEncoder,
    where: str,
) -> Bag:
    file = options.cache / f"{_key(encoder.spec, slide, options.mpp)}.safetensors"
    bag = _read_bag(file)
    if bag is None:
        bag = encode_slide(archive.read(slide), encoder, options.mpp)
        _write_bag(file, bag)
        sys.stderr.write(f"{where} {slide.name}: {len(bag.features)} patches\n")
    return bag


def encode_slide(tiles: list[npt.NDArray[np.uint8]], encoder: ImageEncoder, mpp: float) -> Bag:
    """Write tiles as a slide file and take it the way of any slide, up to its features."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tiff"
        write_slide(path, tiles, mpp)
        reader = open_slide(path)
        try:
            embedded = embed_slide(reader, encoder)
        finally:
            reader.close()
    return Bag(embedded.features, embedded.coords_l0, embedded.size_l0)


def _key(spec: ImageEncoderSpec, slide: MadeSlide, mpp: float) -> str:
    said = [spec.name, weights_digest(spec), str(mpp), *(patch.path for patch in slide.patches)]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:32]


def _read_bag(file: Path) -> Bag | None:
    try:
        with safe_open(file, framework="numpy") as stored:
            return Bag(
                stored.get_tensor("features"),
                stored.get_tensor("coords_l0"),
                int(stored.metadata()["size_l0"]),
            )
    except (OSError, SafetensorError, KeyError, TypeError):
        return None


def _write_bag(file: Path, bag: Bag) -> None:
    # Whole or not at all: a killed run must not leave half a file under this name.
    part = file.with_suffix(".part")
    tensors: dict[str, Any] = {"features": bag.features, "coords_l0": bag.coords_l0}
    save_file(tensors, part, metadata={"size_l0": str(bag.size_l0)})
    part.replace(file)


def compare(
    bags: Sequence[Bag],
    labels: Sequence[str],
    centre: Float32Array | None,
    *,
    token_count: int = 16,
) -> dict[str, RetrievalResult]:
    """Return the results of the naive mean, and of the site's default and its two parts.

    Every slide is a query against all others; its own prototypes are in no other slide.
    """
    mosaics = [
        prototypes(b.features, b.coords_l0, b.size_l0, token_count=token_count, centre=centre)
        for b in bags
    ]
    _, numbers = np.unique(labels, return_inverse=True)
    own = np.arange(len(bags))
    subjects = Subjects(numbers.astype(np.int64), own, own)
    means = normalised(np.stack([b.features.mean(0, dtype=np.float64) for b in bags]))
    vectors = np.stack([mosaic.slide_vector for mosaic in mosaics])
    by_token = _token_similarities(mosaics)
    by_vector = vectors @ vectors.T
    scores = {
        "naive mean": means @ means.T,
        AS_THE_SITE: (1 - TOKEN_SHARE) * by_vector + TOKEN_SHARE * by_token,
        "prototypes, tokens alone": by_token,
        "prototypes, vectors alone (centred mean)": by_vector,
    }
    return {
        name: evaluate_retrieval(
            lambda block, table=table: table[block],  # type: ignore[misc]
            subjects,
            subjects,
            exclude_hospital=False,
        )
        for name, table in scores.items()
    }


def _token_similarities(mosaics: Sequence[Mosaic]) -> Float32Array:
    shares = [np.array([place["share"] for place in m.places], np.float32) for m in mosaics]
    tokens, weights, present = pad_mosaics([m.tokens for m in mosaics], shares)
    return np.stack(
        [
            mosaic_similarity(mosaic.tokens, share, tokens, weights, present)[0]
            for mosaic, share in zip(mosaics, shares, strict=True)
        ]
    )


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
