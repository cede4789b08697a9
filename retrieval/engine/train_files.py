"""Train a model from plain files: python -m retrieval.engine.train_files FOLDER --out FOLDER."""

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.engine.aligner.archive import Archive, ArchiveInvalid, hospital_folds, read_archive
from retrieval.engine.aligner.diagnoses import report_labels
from retrieval.engine.errors import EngineError
from retrieval.engine.progress import ProgressBar
from retrieval.engine.split import Split, disjoint_split
from retrieval.engine.training_job import TrainingJob, run_job

Ints = npt.NDArray[np.int64]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        _train(options)
    except EngineError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train_files", description=__doc__)
    parser.add_argument("folder", type=Path, help="features.npz, slides.csv, reports.csv.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--kind", choices=["aligner", "reference"], default="aligner")
    parser.add_argument("--label-column", default="cancer_type")
    parser.add_argument(
        "--labels-from-reports", action="store_true", help="site and kind by the reports' words"
    )
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--choose-split", default="val", help="empty: a part of the train split")
    parser.add_argument(
        "--split",
        type=float,
        default=0.0,
        help="make a split here: this share of the slides, in hospitals of their own, is held "
        "out; the split column is then not read",
    )
    parser.add_argument("--no-choice", action="store_true", help="keep the default settings")
    parser.add_argument("--no-figures", action="store_true", help="measure nothing for the card")
    parser.add_argument("--licence", default="as the data allow", help="written into the card")
    parser.add_argument("--seed", type=int, default=0)
    reference = parser.add_argument_group("the reference configuration")
    reference.add_argument("--dim", type=int, default=192)
    reference.add_argument("--tokens", type=int, default=16)
    reference.add_argument("--epochs", type=int, default=10)
    reference.add_argument("--steps", type=int, default=40)
    reference.add_argument("--batch", type=int, default=64)
    reference.add_argument("--chunk", type=int, default=0, help="slides at one time; 0: all")
    reference.add_argument("--patches", type=int, default=32)
    reference.add_argument("--patience", type=int, default=3, help="epochs without gain to stop")
    reference.add_argument(
        "--diversity-weight", type=float, default=0.1, help="of the loss that keeps tokens apart"
    )
    reference.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    reference.add_argument("--checkpoint-steps", type=int, default=20)
    reference.add_argument(
        "--stop-split", default="", help="decides when to stop; empty: a part of the train split"
    )
    reference.add_argument("--device", default="cpu")
    reference.add_argument("--text-encoder", default="", help="empty: learn from labels only")
    reference.add_argument("--threads", type=int, default=0)
    return parser


def _train(options: argparse.Namespace) -> None:
    archive = read_archive(options.folder, label_column=options.label_column)
    if options.labels_from_reports:
        archive = replace(archive, labels=report_labels(archive))
    train, held_out, split, chosen_on = _parts(options, archive)
    job = TrainingJob(
        kind=options.kind,
        train=train,
        held_out=held_out,
        facts={
            "data": f"plain files, {len(archive)} slides",
            "split": split,
            "chosen_on": chosen_on,
            "labels": "reports" if options.labels_from_reports else options.label_column,
            "licence": options.licence,
        },
        seed=options.seed,
        choose=not options.no_choice,
        measure=not options.no_figures,
        reference={
            name: getattr(options, name)
            for name in (
                "dim",
                "tokens",
                "epochs",
                "steps",
                "batch",
                "chunk",
                "patches",
                "precision",
                "patience",
                "diversity_weight",
            )
        },
        text_encoder=options.text_encoder,
        checkpoint_steps=options.checkpoint_steps,
        device=options.device,
        threads=options.threads,
    )
    bar = ProgressBar(sys.stderr)
    card = run_job(archive, job, options.out, progress=bar.say, tick=bar.show)
    if "sha256" in card:
        choices = options.out / "choices.md"
        if options.kind == "aligner" and choices.is_file():
            sys.stdout.write(choices.read_text(encoding="utf-8"))
        bar.say(f"written to {options.out}")


def _parts(options: argparse.Namespace, archive: Archive) -> tuple[Ints, Ints, str, str]:
    """Return slides to learn from, held-out ones, and in words the split and what chose."""
    if options.split:
        made = disjoint_split(
            archive.patients,
            archive.hospitals,
            archive.labels,
            share=options.split,
            seed=options.seed,
        )
        _write_split(options.out / "split.csv", archive, made)
        return made.train, made.held_out, f"{made.by}-disjoint, made here (split.csv)", "held out"
    train = archive.positions(options.train_split)
    if options.kind == "reference" and not options.stop_split:
        return train, np.array([], np.int64), "an eighth of the training hospitals stops it", ""
    name = options.stop_split if options.kind == "reference" else options.choose_split
    if name:
        chosen_on = archive.positions(name)
        if not archive.disjoint(train, chosen_on):
            raise ArchiveInvalid(
                f"The splits {options.train_split} and {name} share a patient "
                "or a hospital; settings chosen so would reward recognising it."
            )
        return train, chosen_on, f"{options.train_split} and {name} of slides.csv", f"split {name}"
    parts = hospital_folds([archive.hospitals[i] for i in train], 8, options.seed)
    inner = train[parts[0]]
    return train, inner, options.train_split, "an eighth of the training hospitals"


def _write_split(path: Path, archive: Archive, split: Split) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["slide_id", "part"])
        for part in ("train", "held_out", "left_out"):
            writer.writerows([archive.slide_ids[i], part] for i in getattr(split, part))


if __name__ == "__main__":
    sys.exit(main())
