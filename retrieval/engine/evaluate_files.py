"""Measure a model and its rivals on plain files and print the tables as Markdown."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.engine.aligner.archive import Archive, read_archive
from retrieval.engine.aligner.fit import FitSettings, embed_archive
from retrieval.engine.aligner.model import Aligner, load_aligner
from retrieval.engine.aligner.statistics import bag_statistics
from retrieval.engine.errors import EngineError
from retrieval.engine.evaluation import PairResult, RetrievalResult, effective_rank
from retrieval.engine.file_evaluation import (
    TextResults,
    default_rivals,
    plain_rivals,
    reference_rivals,
    slide_to_slide,
    text_results,
    unseen_hospitals,
)
from retrieval.engine.tables import figure, markdown, retrieval_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="evaluate_files", description=__doc__)
    parser.add_argument("folder", type=Path, help="features.npz, slides.csv, reports.csv.gz")
    parser.add_argument("--model", type=Path, required=True, help="model.safetensors")
    parser.add_argument("--reference", type=Path, help="reference.safetensors")
    parser.add_argument("--label-column", default="cancer_type")
    parser.add_argument("--train-split", default="train", help="what the model learned from")
    parser.add_argument("--split", default="val", help="whose slides are the queries")
    parser.add_argument("--folds", type=int, default=0, help="cross-validate over hospitals")
    parser.add_argument("--no-barcodes", action="store_true", help="leave the slow rival out")
    parser.add_argument("--rounds", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--json", type=Path, help="write all figures here too")
    options = parser.parse_args(arguments)
    try:
        _evaluate(options)
    except EngineError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")


def _evaluate(options: argparse.Namespace) -> None:
    archive = read_archive(options.folder, label_column=options.label_column)
    model = load_aligner(options.model)
    train, queries = archive.positions(options.train_split), archive.positions(options.split)
    statistics = bag_statistics(archive.features, archive.offsets, model.config.quantiles)
    embedded = embed_archive(model, archive, statistics=statistics, progress=_say)
    rivals = plain_rivals(archive, train, barcodes=not options.no_barcodes)
    if options.reference:
        rivals += reference_rivals(options.reference, archive)
    rivals += default_rivals(model, embedded)
    figures: dict[str, Any] = {}
    _out(f"{len(queries)} queries ({options.split}), gallery {len(archive)} slides.\n")
    for title, exclude in (
        ("The query's patient and hospital left out", True),
        ("Only the query's patient left out", False),
    ):
        results = slide_to_slide(rivals, archive, queries, exclude_hospital=exclude, progress=_say)
        _out(f"### Slide to slide. {title}\n")
        rows = []
        for name, result in results.items():
            intervals = result.intervals(rounds=options.rounds) if exclude else {}
            rows.append((name, result.summary(), intervals))
        _out(retrieval_table(rows))
        figures[title] = {name: values for name, values, _ in rows}
        if exclude:
            _out("### Per class, default\n")
            _out(_class_table(archive, results))
    _out(f"Effective rank of the tokens, mean: {_rank(embedded.tokens, embedded.present):.1f}\n")
    if model.words is not None and archive.reports:
        figures["text"] = _text(model, text_results(model, embedded, archive, queries))
    if options.folds:
        settings = _settings_of(options.model, model)
        results = unseen_hospitals(archive, train, settings, folds=options.folds, progress=_say)
        _out(f"### Hospitals of the training split left out in turn, {options.folds} parts\n")
        rows = [(n, r.summary(), r.intervals(rounds=options.rounds)) for n, r in results.items()]
        _out(retrieval_table(rows))
        figures["folds"] = {name: values for name, values, _ in rows}
    if options.json:
        text = json.dumps(figures, indent=2, sort_keys=True) + "\n"
        options.json.write_text(text, encoding="utf-8")


def _rank(tokens: Any, present: Any) -> float:
    step = max(1, len(tokens) // 500)
    ranks = [effective_rank(tokens[i][present[i]]) for i in range(0, len(tokens), step)]
    return float(np.mean(ranks))


def _settings_of(path: Path, model: Aligner) -> FitSettings:
    """Return the settings that made the model: from its card, else the defaults."""
    card = path.parent / "card.json"
    fitted: dict[str, Any] = {}
    if card.is_file():
        fitted = json.loads(card.read_text(encoding="utf-8")).get("settings", {})
    kept = asdict(model.config)
    names = ("temperature", "text_temperature", "label_share", "token_count", "token_share")
    return FitSettings(**fitted, model={name: kept[name] for name in names})


def _class_table(archive: Archive, results: Mapping[str, RetrievalResult]) -> str:
    names = archive.label_names()
    mean = {line["label"]: line for line in results["mean"].per_class()}
    rows = []
    for line in results["default"].per_class():
        floor = mean[line["label"]]
        rows.append(
            [
                names[int(line["label"])],
                f"{line['queries']:.0f}",
                figure(floor["top-1"]),
                *(figure(line[name]) for name in ("top-1", "mMV@5", "mAP")),
            ]
        )
    return markdown(["class", "queries", "mean top-1", "top-1", "mMV@5", "mAP"], rows)


def _pair_row(name: str, result: PairResult) -> list[str]:
    values = result.summary()
    return [
        name,
        str(len(result.ranks)),
        str(result.gallery_count),
        *(f"{values[f'recall@{k}']:.3f} ({values[f'chance recall@{k}']:.4f})" for k in (1, 5, 10)),
        f"{values['median rank']:.0f} ({values['chance median rank']:.0f})",
    ]


def _text(model: Aligner, results: TextResults) -> dict[str, Any]:
    _out(f"### Text. {results.queries} reports asked, {results.unknown} without a known word\n")
    rows = [
        ("text to slide, patient out", results.class_own.summary(), results.class_own.intervals()),
        (
            "text to slide, hospital out too",
            results.class_hospital.summary(),
            results.class_hospital.intervals(),
        ),
        ("slide + text, hospital out too", results.joint.summary(), results.joint.intervals()),
    ]
    _out(retrieval_table(rows))
    _out("Exact pairs (in brackets: chance)\n")
    _out(
        markdown(
            ["", "queries", "gallery", "recall@1", "recall@5", "recall@10", "median rank"],
            [
                _pair_row("report to own slides", results.pairs),
                _pair_row("slide to own report", results.reports),
            ],
        )
    )
    figures: dict[str, Any] = {name: values for name, values, _ in rows}
    figures["pairs"] = results.pairs.summary()
    figures["reports"] = results.reports.summary()
    return figures


if __name__ == "__main__":
    sys.exit(main())
