"""Measure a model and its rivals on plain files and print the tables as Markdown."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.engine.aligner.archive import Archive, read_archive
from retrieval.engine.aligner.fit import FitSettings, embed_archive
from retrieval.engine.aligner.model import Aligner, load_aligner
from retrieval.engine.aligner.statistics import bag_statistics
from retrieval.engine.encoders import sha256_of
from retrieval.engine.errors import EngineError
from retrieval.engine.evaluation import RetrievalResult
from retrieval.engine.evaluation_report import (
    ClassFigures,
    EvaluationReport,
    GridCell,
    GridRow,
    PairFigures,
    RetrievalSection,
    class_figures,
    confusion_of,
    method_figures,
    pair_figures,
    token_distinctness,
)
from retrieval.engine.file_evaluation import (
    TextResults,
    default_rivals,
    example_queries,
    nearest_slides,
    plain_rivals,
    reference_rivals,
    reference_text_results,
    slide_to_slide,
    text_results,
    unseen_hospitals,
)
from retrieval.engine.report_html import report_html
from retrieval.engine.report_vectors import report_vectors
from retrieval.engine.rivals import Rival
from retrieval.engine.tables import figure, markdown, retrieval_table

Ints = npt.NDArray[np.int64]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="evaluate_files", description=__doc__)
    parser.add_argument("folder", type=Path, help="features.npz, slides.csv, reports.csv.gz")
    parser.add_argument("--model", type=Path, required=True, help="model.safetensors")
    parser.add_argument("--reference", type=Path, help="reference.safetensors")
    parser.add_argument(
        "--text-encoder", default="", help="sentences that the reference was trained with"
    )
    parser.add_argument("--label-column", default="cancer_type")
    parser.add_argument("--train-split", default="train", help="what the model learned from")
    parser.add_argument("--split", default="val", help="whose slides are the queries")
    parser.add_argument("--folds", type=int, default=0, help="cross-validate over hospitals")
    parser.add_argument("--no-barcodes", action="store_true", help="leave the slow rival out")
    parser.add_argument("--rounds", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--json", type=Path, help="write all figures here too")
    parser.add_argument("--html", type=Path, help="write a report to read, with all figures")
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
    labels = archive.subjects().labels
    labelled = int((labels >= 0).sum())
    asked = int((labels[queries] >= 0).sum())
    _out(f"{asked} queries ({options.split}), gallery {labelled} slides.\n")
    sections: list[RetrievalSection] = []
    first: dict[str, RetrievalResult] = {}
    for title, exclude in (
        ("The query's patient and hospital left out", True),
        ("Only the query's patient left out", False),
    ):
        results = slide_to_slide(rivals, archive, queries, exclude_hospital=exclude, progress=_say)
        section = RetrievalSection(
            f"Slide to slide. {title}",
            "The figures to judge by: hospitals were never seen."
            if exclude
            else "These mostly reward recognising the hospital.",
            asked,
            labelled,
            [
                method_figures(rival.name, rival.about, results[rival.name], rounds=options.rounds)
                for rival in rivals
            ],
        )
        sections.append(section)
        _print_section(section, intervals=exclude)
        if exclude:
            first = results
            classes = class_figures(results["default"], archive.label_names(), results["mean"])
            _out("### Per class, default\n")
            _out(_class_table(classes))
    rank = token_distinctness(embedded.tokens, embedded.present)
    _out(f"Effective rank of the tokens: {rank}\n")
    texts: dict[str, TextResults] = {}
    if model.words is not None and archive.reports:
        texts["default"] = text_results(model, embedded, archive, queries)
    if options.reference and options.text_encoder and archive.reports:
        sentences = report_vectors(
            archive.reports,
            options.text_encoder,
            cache=options.reference.parent / f"reports-{options.text_encoder}.npz",
            progress=_say,
        )
        texts["reference"] = reference_text_results(options.reference, sentences, archive, queries)
    pairs: list[PairFigures] = []
    if texts:
        section, pairs = _text(texts, options.rounds)
        sections.append(section)
    if options.folds:
        settings = _settings_of(options.model, model)
        results = unseen_hospitals(archive, train, settings, folds=options.folds, progress=_say)
        section = RetrievalSection(
            f"Hospitals of the training split left out in turn, {options.folds} parts",
            "In each part the model was fitted without the queries' hospitals.",
            int((labels[train] >= 0).sum()),
            int((labels[train] >= 0).sum()),
            [method_figures(n, "", r, rounds=options.rounds) for n, r in results.items()],
        )
        sections.append(section)
        _print_section(section, intervals=True)
    report = EvaluationReport(
        title="Evaluation of a search model",
        facts=[
            ("Queries", f"{asked} slides of the split {options.split}"),
            ("Slides", f"{len(archive)}, with a label: {labelled}"),
            ("Learned from", f"the split {options.train_split}"),
            ("Model", f"{options.model.name}, SHA-256 {sha256_of(options.model)}"),
            ("Effective rank of the tokens", rank),
        ],
        notes=["The query's own patient is never in the gallery."],
        sections=sections,
        classes=classes,
        confusion=confusion_of(first["default"], archive.label_names()),
        pairs=pairs,
        grid=_grid(archive, rivals, queries),
    )
    if options.json:
        text = json.dumps(report.to_json(), indent=2, sort_keys=True) + "\n"
        options.json.write_text(text, encoding="utf-8")
    if options.html:
        options.html.write_text(report_html(report), encoding="utf-8")


def _print_section(section: RetrievalSection, *, intervals: bool) -> None:
    _out(f"### {section.title}\n")
    _out(
        retrieval_table(
            [(m.name, m.figures, m.intervals if intervals else {}) for m in section.methods]
        )
    )


def _grid(archive: Archive, rivals: Sequence[Rival], queries: Ints) -> list[GridRow]:
    default = next(rival for rival in rivals if rival.name == "default")
    subjects = archive.subjects()
    asked = example_queries(subjects.labels, queries)
    found = nearest_slides(default.similarity, subjects, asked)
    return [
        GridRow(
            GridCell(archive.slide_ids[query], archive.labels[query]),
            [
                GridCell(
                    archive.slide_ids[at],
                    archive.labels[at],
                    archive.labels[at] == archive.labels[query],
                )
                for at in nearest
            ],
        )
        for query, nearest in zip(asked, found, strict=True)
    ]


def _settings_of(path: Path, model: Aligner) -> FitSettings:
    """Return the settings that made the model: from its card, else the defaults."""
    card = path.parent / "card.json"
    fitted: dict[str, Any] = {}
    if card.is_file():
        fitted = json.loads(card.read_text(encoding="utf-8")).get("settings", {})
    kept = asdict(model.config)
    names = ("temperature", "text_temperature", "label_share", "token_count", "token_share")
    return FitSettings(**fitted, model={name: kept[name] for name in names})


def _class_table(classes: Sequence[ClassFigures]) -> str:
    rows = [
        [
            line.label,
            str(line.queries),
            figure(line.floor_top1 or 0.0),
            *(figure(line.figures[name]) for name in ("top-1", "mMV@5", "mAP")),
        ]
        for line in classes
    ]
    return markdown(["class", "queries", "mean top-1", "top-1", "mMV@5", "mAP"], rows)


def _pair_row(pair: PairFigures) -> list[str]:
    values = pair.figures
    return [
        pair.name,
        str(pair.queries),
        str(pair.gallery),
        *(f"{values[f'recall@{k}']:.3f} ({values[f'chance recall@{k}']:.4f})" for k in (1, 5, 10)),
        f"{values['median rank']:.0f} ({values['chance median rank']:.0f})",
    ]


def _text(
    by_model: Mapping[str, TextResults], rounds: int
) -> tuple[RetrievalSection, list[PairFigures]]:
    methods, pairs = [], []
    for model, results in by_model.items():
        methods += [
            method_figures(f"{model}: {name}", about, result, rounds=rounds)
            for name, about, result in (
                ("text to slide", "patient left out", results.class_own),
                ("text to slide, hospital out", "patient and hospital", results.class_hospital),
                ("slide + text, hospital out", "patient and hospital", results.joint),
            )
        ]
        pairs += [
            pair_figures(f"{model}: report to own slides", results.pairs),
            pair_figures(f"{model}: slide to own report", results.reports),
        ]
    first = next(iter(by_model.values()))
    section = RetrievalSection(
        f"Text. {first.queries} reports asked, {first.unknown} without a known word",
        "The queries are reports of patients whom the model has not seen.",
        first.queries,
        first.pairs.gallery_count,
        methods,
    )
    _print_section(section, intervals=True)
    _out("Exact pairs (in brackets: chance)\n")
    _out(
        markdown(
            ["", "queries", "gallery", "recall@1", "recall@5", "recall@10", "median rank"],
            [_pair_row(pair) for pair in pairs],
        )
    )
    return section, pairs


if __name__ == "__main__":
    sys.exit(main())
