"""Train a model from plain files: python -m retrieval.engine.train_files FOLDER --out FOLDER."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.engine.aligner.archive import Archive, ArchiveInvalid, hospital_folds, read_archive
from retrieval.engine.aligner.diagnoses import report_labels
from retrieval.engine.aligner.fit import (
    GRID,
    Choice,
    FitSettings,
    choose_settings,
    embed_archive,
    fit_aligner,
    settled,
)
from retrieval.engine.aligner.model import AlignerConfig, save_aligner
from retrieval.engine.aligner.statistics import bag_statistics
from retrieval.engine.encoders import sha256_of
from retrieval.engine.errors import EngineError
from retrieval.engine.tables import retrieval_table

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
    parser.add_argument("--no-choice", action="store_true", help="keep the default settings")
    parser.add_argument("--licence", default="as the data allow", help="written into the card")
    parser.add_argument("--seed", type=int, default=0)
    reference = parser.add_argument_group("the reference configuration")
    reference.add_argument("--dim", type=int, default=192)
    reference.add_argument("--tokens", type=int, default=16)
    reference.add_argument("--epochs", type=int, default=10)
    reference.add_argument("--steps", type=int, default=40)
    reference.add_argument("--batch", type=int, default=64)
    reference.add_argument("--patches", type=int, default=32)
    reference.add_argument("--device", default="cpu")
    reference.add_argument("--text-encoder", default="", help="empty: learn from labels only")
    reference.add_argument("--threads", type=int, default=0)
    return parser


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def _train(options: argparse.Namespace) -> None:
    archive = read_archive(options.folder, label_column=options.label_column)
    train = archive.positions(options.train_split)
    if options.labels_from_reports:
        archive = replace(archive, labels=report_labels(archive))
    options.out.mkdir(parents=True, exist_ok=True)
    if options.kind == "reference":
        card = _train_reference(options, archive, train)
    else:
        card = _train_aligner(options, archive, train)
    subjects = archive.subjects()
    card |= {
        "labels": "reports" if options.labels_from_reports else options.label_column,
        "licence": options.licence,
        "seed": options.seed,
        "train": {
            "slides": len(train),
            "patients": len(np.unique(subjects.patients[train])),
            "hospitals": len(np.unique(subjects.hospitals[train])),
            "reports": len({archive.patients[i] for i in train} & set(archive.reports)),
        },
    }
    text = json.dumps(card, indent=2, sort_keys=True) + "\n"
    (options.out / "card.json").write_text(text, encoding="utf-8")
    _say(f"written to {options.out}")


def _held_out(options: argparse.Namespace, archive: Archive, train: Ints) -> tuple[Ints, Ints, str]:
    """Return slides to learn from, slides to choose on, and what the latter are."""
    if options.choose_split:
        chosen_on = archive.positions(options.choose_split)
        if not archive.disjoint(train, chosen_on):
            raise ArchiveInvalid(
                f"The splits {options.train_split} and {options.choose_split} share a patient "
                "or a hospital; settings chosen so would reward recognising it."
            )
        return train, chosen_on, f"split {options.choose_split}"
    parts = hospital_folds([archive.hospitals[i] for i in train], 8, options.seed)
    inner = train[parts[0]]
    return np.setdiff1d(train, inner), inner, "an eighth of the training hospitals"


def _train_aligner(options: argparse.Namespace, archive: Archive, train: Ints) -> dict[str, Any]:
    statistics = bag_statistics(archive.features, archive.offsets)
    settings = FitSettings()
    choices: list[Choice] = []
    chosen_on = "nothing: default settings"
    if not options.no_choice:
        learned, held_out, chosen_on = _held_out(options, archive, train)
        first = fit_aligner(archive, learned, settings, statistics=statistics, progress=_say)
        embedded = embed_archive(first, archive, statistics=statistics, progress=_say)
        choices = choose_settings(
            archive, embedded, learned, held_out, statistics=statistics, progress=_say
        )
        usual = AlignerConfig(1, ())
        default = {name: getattr(usual, name) for name in GRID if name != "shrinkage"}
        best = dict(settled(choices, {"shrinkage": settings.shrinkage, **default}))
        settings = FitSettings(shrinkage=best.pop("shrinkage"), model=dict(best))
        rows: list[Any] = [
            (", ".join(f"{k} {v:g}" for k, v in c.settings.items()), c.summary, {})
            for c in choices[:10]
        ]
        table = retrieval_table(rows)
        (options.out / "choices.md").write_text(table, encoding="utf-8")
        sys.stdout.write(table)
    model = fit_aligner(archive, train, settings, statistics=statistics, progress=_say)
    path = options.out / "model.safetensors"
    save_aligner(model, path)
    return {
        "kind": "aligner",
        "sha256": sha256_of(path),
        "config": json.loads(model.config.to_json()),
        "settings": {
            "shrinkage": settings.shrinkage,
            "patch_shrinkage": settings.patch_shrinkage,
            "text_penalty": settings.text_penalty,
        },
        "chosen_on": chosen_on,
        "grid": {name: list(values) for name, values in GRID.items()},
        "best_held_out_figures": choices[0].summary if choices else {},
        "dimension": model.dimension,
        "token_dimension": model.token_dimension,
        "has_text_side": model.words is not None,
    }


def _train_reference(options: argparse.Namespace, archive: Archive, train: Ints) -> dict[str, Any]:
    # Imported here: torch is not needed for the default model.
    import torch
    from safetensors.torch import save_file

    from retrieval.engine.aggregator import ReferenceConfig
    from retrieval.engine.reference_weights import released_state
    from retrieval.engine.training import TrainingSettings, train_reference

    if options.threads:
        torch.set_num_threads(options.threads)
    vectors = None
    if options.text_encoder:
        from retrieval.engine.report_vectors import report_vectors

        vectors = report_vectors(
            {p: t for p, t in archive.reports.items() if p in {archive.patients[i] for i in train}},
            options.text_encoder,
            cache=options.out / f"reports-{options.text_encoder}.npz",
            device=options.device,
            progress=_say,
        )
    settings = TrainingSettings(
        epochs=options.epochs,
        steps=options.steps,
        batch=options.batch,
        patches=options.patches,
        seed=options.seed,
    )
    config = ReferenceConfig(
        input_dim=archive.features.shape[1], dim=options.dim, token_count=options.tokens
    )
    trained = train_reference(
        archive,
        train,
        config,
        settings,
        report_vectors=vectors,
        checkpoint=options.out / "checkpoint.pt",
        device=options.device,
        progress=_say,
    )
    path = options.out / "reference.safetensors"
    state = {k: v.detach().cpu().contiguous() for k, v in released_state(trained.model).items()}
    save_file(state, path)
    return {
        "kind": "reference",
        "sha256": sha256_of(path),
        "config": asdict(config),
        "settings": asdict(settings),
        "text_encoder": options.text_encoder,
        "history": [asdict(line) for line in trained.history],
    }


if __name__ == "__main__":
    sys.exit(main())
