"""Is an aligner that may ship better than the prototypes, which need no training?

    python -m benchmarks.shippable DATA --cache FOLDER --out FOLDER

Trains the default aligner on synthetic tissue and its invented reports (cases.demo), the only
data that PathSearch may ship a model of, and measures it on real patches: DATA holds LC25000's
`patches.csv` and `lung.zip`; slides are made as in `retrieval.engine.evaluate_pixels`, one
original image in one slide only. Every made slide is a query against all others.

What was encoded is kept in the cache folder, so that a killed run goes on where it was.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from cases.demo.plan import PlannedSlide, planned_slides, report_versions
from cases.demo.tissue import paint_tissue
from retrieval.engine.aggregators import AlignerAggregator, Prototypes
from retrieval.engine.aligner.archive import Archive
from retrieval.engine.aligner.model import load_aligner
from retrieval.engine.encoders import load_image_encoder
from retrieval.engine.evaluate_pixels import AS_THE_SITE, CENTRE, Bag, encode_slide
from retrieval.engine.evaluation import RetrievalResult, Subjects, evaluate_retrieval
from retrieval.engine.mosaic import Mosaic, normalised
from retrieval.engine.pixel_slides import deal_slides, open_archive, read_patch_list
from retrieval.engine.ranking import TOKEN_SHARE, mosaic_similarity, pad_mosaics
from retrieval.engine.split import disjoint_split
from retrieval.engine.tables import retrieval_table
from retrieval.engine.training_job import ALIGNER, FILES, TrainingJob, run_job

# Squares of synthetic tissue on each side of a slide.
SIDE = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="LC25000: patches.csv and lung.zip")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the trained aligner")
    parser.add_argument("--synthetic", type=int, default=240, help="synthetic slides")
    parser.add_argument("--slides-per-label", type=int, default=0, help="of LC25000; 0: all")
    parser.add_argument("--rounds", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    asked = parser.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    encoder = load_image_encoder("efficientnet-lite0", asked.device, asked.threads)

    planned = planned_slides(asked.synthetic)
    bags = []
    for number, slide in enumerate(planned, 1):
        bags.append(kept(asked.cache / f"{slide.key}.npz", lambda s=slide: synthetic(s, encoder)))
        say(f"synthetic slide {number} of {len(planned)}")
    archive = synthetic_archive(planned, bags)
    split = disjoint_split(archive.patients, archive.hospitals, archive.labels, share=0.25)
    facts = {
        "name": "synthetic",
        "data": f"{len(archive)} synthetic slides with invented reports (cases.demo)",
        "labels": "diagnosis line of the invented report",
        "licence": "Apache-2.0",
        "split": f"{split.by}-disjoint",
        "encoder": "efficientnet-lite0",
    }
    run_job(archive, TrainingJob(ALIGNER, split.train, split.held_out, facts), asked.out)
    print((asked.out / "card.md").read_text(encoding="utf-8"))

    patches = read_patch_list(asked.folder / "patches.csv")
    slides = [
        slide
        for label in sorted({patch.label for patch in patches})
        for slide in [s for s in deal_slides(patches) if s.label == label][
            : asked.slides_per_label or None
        ]
    ]
    real = []
    with open_archive(asked.folder / "lung.zip") as pictures:
        for number, slide in enumerate(slides, 1):
            file = asked.cache / f"real-{slide.name}.npz"
            real.append(kept(file, lambda s=slide: encode_slide(pictures.read(s), encoder, 0.5)))
            say(f"real slide {number} of {len(slides)}")
    labels = [slide.label for slide in slides]
    say("comparing")
    results = compared(real, labels, asked.out / FILES[ALIGNER])
    print(f"\n## LC25000 lung, {len(slides)} made slides, {len(set(labels))} labels\n")
    print(
        retrieval_table(
            [
                (name, result.summary(), result.intervals(rounds=asked.rounds))
                for name, result in results.items()
            ]
        )
    )


def say(text: str) -> None:
    sys.stderr.write(f"\r{text}   ")
    sys.stderr.flush()


def kept(file: Path, make: Callable[[], Bag]) -> Bag:
    """Return the bag in the file, made and written first where it is not there."""
    if not file.is_file():
        bag = make()
        partial = file.with_suffix(".part")
        with partial.open("wb") as out:
            np.savez(out, features=bag.features, coords_l0=bag.coords_l0, size_l0=bag.size_l0)
        partial.replace(file)
    with np.load(file, allow_pickle=False) as stored:
        return Bag(stored["features"], stored["coords_l0"], int(stored["size_l0"]))


def synthetic(slide: PlannedSlide, encoder) -> Bag:
    """Return the features of a square of the planned slide's tissue."""
    patch = encoder.spec.patch_px
    side = SIDE * patch
    tissue = paint_tissue(slide.diagnosis.key, slide.seed, (side, side), full_bleed=True)
    grid = tissue.reshape(SIDE, patch, SIDE, patch, 3).swapaxes(1, 2)
    features = encoder.encode(np.ascontiguousarray(grid.reshape(-1, patch, patch, 3)))
    rows, columns = np.divmod(np.arange(SIDE * SIDE), SIDE)
    coords = np.stack([columns, rows], 1).astype(np.int64) * patch
    return Bag(features.astype(np.float16), coords, patch)


def synthetic_archive(planned: list[PlannedSlide], bags: list[Bag]) -> Archive:
    """Return the synthetic slides with their reports; the departments are the hospitals."""
    reports = {}
    for slide in planned:
        report = report_versions(slide)[-1]
        parts = ("diagnosis_line", "diagnosis_text", "microscopic_description")
        reports[slide.patient.mrn] = "\n".join(report[part] for part in parts)
    return Archive(
        np.concatenate([bag.features for bag in bags]),
        np.r_[0, np.cumsum([len(bag.features) for bag in bags])].astype(np.int64),
        tuple(slide.key for slide in planned),
        tuple(slide.patient.mrn for slide in planned),
        tuple(slide.department.code for slide in planned),
        tuple(f"{slide.diagnosis.organ}: {slide.diagnosis.line}" for slide in planned),
        tuple("" for _ in planned),
        reports,
    )


def compared(bags: list[Bag], labels: list[str], weights: Path) -> dict[str, RetrievalResult]:
    """Return the results of the naive mean, of the prototypes and of the aligner."""
    means = normalised(np.stack([bag.features.mean(0, dtype=np.float64) for bag in bags]))
    tables = {"naive mean": means @ means.T}
    centre = load_file(CENTRE)["centre"].astype(np.float32)
    usual = [
        Prototypes(len(centre), 16, centre).embed(b.features, b.coords_l0, b.size_l0) for b in bags
    ]
    vectors, tokens = similarities(usual)
    searched = (1 - TOKEN_SHARE) * vectors + TOKEN_SHARE * tokens
    tables[AS_THE_SITE] = searched
    tables["prototypes, tokens alone"] = tokens
    aligner = AlignerAggregator(load_aligner(weights))
    vectors, tokens = similarities(
        [aligner.embed(b.features, b.coords_l0, b.size_l0) for b in bags]
    )
    share = aligner.token_share
    tables["synthetic aligner"] = (1 - share) * vectors + share * tokens
    tables["synthetic aligner, vectors alone"] = vectors
    tables["synthetic aligner, tokens alone"] = tokens
    looks = AlignerAggregator(aligner.model.with_settings(label_share=0.0))
    tables["synthetic aligner, look part alone"], _ = similarities(
        [looks.embed(b.features, b.coords_l0, b.size_l0) for b in bags]
    )
    tables["prototypes and synthetic aligner, half each"] = (
        searched / searched.std() + tables["synthetic aligner"] / tables["synthetic aligner"].std()
    )
    own = np.arange(len(bags))
    subjects = Subjects(np.unique(labels, return_inverse=True)[1].astype(np.int64), own, own)
    return {
        name: evaluate_retrieval(
            lambda block, table=table: table[block], subjects, subjects, exclude_hospital=False
        )
        for name, table in tables.items()
    }


def similarities(mosaics: list[Mosaic]) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines of the vectors, and the late interaction of the tokens: (S, S) both."""
    vectors = np.stack([mosaic.slide_vector for mosaic in mosaics])
    shares = [np.array([place["share"] for place in m.places], np.float32) for m in mosaics]
    tokens, weights, present = pad_mosaics([m.tokens for m in mosaics], shares)
    late = np.stack(
        [
            mosaic_similarity(mosaic.tokens, share, tokens, weights, present)[0]
            for mosaic, share in zip(mosaics, shares, strict=True)
        ]
    )
    return vectors @ vectors.T, late


if __name__ == "__main__":
    main()
