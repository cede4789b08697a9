"""One training from an archive to a folder: weights, card, curves. The same for plain files and
for a site's own archive.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retrieval.engine.aligner.archive import Archive
from retrieval.engine.aligner.fit import (
    GRID,
    Choice,
    FitSettings,
    choose_settings,
    embed_archive,
    fit_aligner,
    settled,
)
from retrieval.engine.aligner.model import AlignerConfig, load_aligner, save_aligner
from retrieval.engine.aligner.statistics import bag_statistics
from retrieval.engine.curves import draw_curves
from retrieval.engine.encoders import sha256_of
from retrieval.engine.file_evaluation import default_rivals, reference_rivals, slide_to_slide
from retrieval.engine.model_card import card_markdown
from retrieval.engine.rivals import Rival, mean_pooling, prototype_search, raw_mosaics
from retrieval.engine.tables import retrieval_table

if TYPE_CHECKING:
    # Imports torch, which the default model does not need.
    from retrieval.engine.processes import Group

Ints = npt.NDArray[np.int64]
Progress = Callable[[str], None]
Tick = Callable[[int, int], None]

ALIGNER, REFERENCE = "aligner", "reference"
FILES = {ALIGNER: "model.safetensors", REFERENCE: "reference.safetensors"}


@dataclass(frozen=True)
class TrainingJob:
    """What is to be trained, on which slides.

    Attributes
    ----------
    kind : str
        ``aligner`` (closed form) or ``reference`` (gradient steps).
    train : int (n,)
        Slides to learn from.
    held_out : int (m,)
        Slides to choose by, and to measure on those of them that are not learned from as well.
        None: nothing is chosen, and the reference holds out a part of the hospitals of `train`.
    facts : dict
        What the card says of data, split, labels and licence.
    seed : int
    choose : bool
        Whether the aligner's settings are chosen on the held-out slides.
    measure : bool
        Whether held-out slides are measured for the card.
    reference : dict
        ``dim``, ``tokens`` and fields of `TrainingSettings`.
    text_encoder : str
        Of the reference's report side; empty: it learns from labels only.
    checkpoint_steps : int
    device : str
    threads : int
        Of torch; 0: its own choice.
    """

    kind: str
    train: Ints
    held_out: Ints
    facts: dict[str, Any]
    seed: int = 0
    choose: bool = True
    measure: bool = True
    reference: dict[str, Any] = field(default_factory=dict)
    text_encoder: str = ""
    checkpoint_steps: int = 20
    device: str = "cpu"
    threads: int = 0


def run_job(
    archive: Archive,
    job: TrainingJob,
    out: Path,
    *,
    progress: Progress = lambda _: None,
    tick: Tick = lambda done, total: None,
) -> dict[str, Any]:
    """Train, write the result into a folder and return the card.

    The folder then holds the weights (safetensors), ``card.json``, ``card.md``, and, from
    gradient steps, ``curves.png`` and TensorBoard files. A killed run that is started again
    with the same folder goes on from its last checkpoint.

    Raises
    ------
    ArchiveInvalid, ModelCorrupt, ModelMissing
    """
    out.mkdir(parents=True, exist_ok=True)
    if job.kind == REFERENCE:
        card, is_first = _train_reference(archive, job, out, progress, tick)
    else:
        card, is_first = _train_aligner(archive, job, out, progress), True
    subjects = archive.subjects()
    # Slides that chose the settings and were then learned from as well measure nothing.
    unseen = np.setdiff1d(job.held_out, job.train)
    card |= {
        **job.facts,
        "kind": job.kind,
        "seed": job.seed,
        "file": FILES[job.kind],
        "train": {
            "slides": len(job.train),
            "labelled": int((subjects.labels[job.train] >= 0).sum()),
            "patients": len(np.unique(subjects.patients[job.train])),
            "hospitals": len(np.unique(subjects.hospitals[job.train])),
            "reports": len({archive.patients[i] for i in job.train} & set(archive.reports)),
        },
        "held_out": {
            "slides": len(unseen),
            "patients": len(np.unique(subjects.patients[unseen])),
            "hospitals": len(np.unique(subjects.hospitals[unseen])),
        },
    }
    if not is_first:
        return card
    card["sha256"] = sha256_of(out / FILES[job.kind])
    if job.measure and (subjects.labels[unseen] >= 0).any():
        progress("measuring the held-out slides")
        card["figures"] = _figures(archive, job, unseen, out)
    _write(out / "card.json", json.dumps(card, indent=2, sort_keys=True) + "\n")
    _write(out / "card.md", card_markdown(card))
    return card


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def leaves_hospitals_out(archive: Archive) -> bool:
    """Return whether figures can leave the query's hospital out of the gallery.

    Not where only one hospital is in the archive: nothing would be left.
    """
    return len(set(archive.hospitals)) > 1


def _figures(archive: Archive, job: TrainingJob, unseen: Ints, out: Path) -> dict[str, Any]:
    """Return the model's figures on unseen slides beside the mean and the prototypes."""
    path = out / FILES[job.kind]
    rivals: list[Rival] = [
        mean_pooling(archive),
        prototype_search(raw_mosaics(archive, job.train)),
    ]
    if job.kind == REFERENCE:
        rivals += reference_rivals(path, archive)
    else:
        model = load_aligner(path)
        statistics = bag_statistics(archive.features, archive.offsets, model.config.quantiles)
        rivals += default_rivals(model, embed_archive(model, archive, statistics=statistics))
    exclude = leaves_hospitals_out(archive)
    results = slide_to_slide(rivals, archive, unseen, exclude_hospital=exclude)
    labels = archive.subjects().labels
    return {
        "queries": int((labels[unseen] >= 0).sum()),
        "gallery": int((labels >= 0).sum()),
        "hospital_left_out": exclude,
        "methods": {
            name: {"values": result.summary(), "intervals": result.intervals(rounds=500)}
            for name, result in results.items()
        },
    }


def _train_aligner(
    archive: Archive, job: TrainingJob, out: Path, progress: Progress
) -> dict[str, Any]:
    statistics = bag_statistics(archive.features, archive.offsets)
    settings = FitSettings()
    choices: list[Choice] = []
    chosen_on = "nothing: default settings"
    held_out = job.held_out[archive.subjects().labels[job.held_out] >= 0]
    if job.choose and len(held_out):
        learned = np.setdiff1d(job.train, held_out)
        chosen_on = str(job.facts.get("chosen_on", "the held-out slides"))
        first = fit_aligner(archive, learned, settings, statistics=statistics, progress=progress)
        embedded = embed_archive(first, archive, statistics=statistics, progress=progress)
        choices = choose_settings(
            archive,
            embedded,
            learned,
            held_out,
            statistics=statistics,
            exclude_hospital=leaves_hospitals_out(archive),
            progress=progress,
        )
        settings = _settled(choices, settings)
        rows: list[Any] = [
            (", ".join(f"{k} {v:g}" for k, v in c.settings.items()), c.summary, {})
            for c in choices[:10]
        ]
        _write(out / "choices.md", retrieval_table(rows))
    model = fit_aligner(archive, job.train, settings, statistics=statistics, progress=progress)
    save_aligner(model, out / FILES[ALIGNER])
    return {
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
        "token_count": model.config.token_count,
        "token_share": model.config.token_share,
        "input_dim": model.config.input_dim,
        "has_text_side": model.words is not None,
        "text_encoder": "",
    }


def _settled(choices: list[Choice], settings: FitSettings) -> FitSettings:
    usual = AlignerConfig(1, ())
    default = {name: getattr(usual, name) for name in GRID if name != "shrinkage"}
    best = dict(settled(choices, {"shrinkage": settings.shrinkage, **default}))
    return FitSettings(shrinkage=best.pop("shrinkage"), model=dict(best))


def _train_reference(
    archive: Archive, job: TrainingJob, out: Path, progress: Progress, tick: Tick
) -> tuple[dict[str, Any], bool]:
    # Imported here: torch is not needed for the default model.
    import torch
    from safetensors.torch import save_file

    from retrieval.engine.aggregator import ReferenceConfig
    from retrieval.engine.processes import join_group, leave_group
    from retrieval.engine.reference_weights import released_state
    from retrieval.engine.training import TrainingSettings, train_reference

    if job.threads:
        torch.set_num_threads(job.threads)
    group, _ = join_group(job.device)
    vectors = _report_vectors(archive, job, out, group, progress) if job.text_encoder else None
    asked = dict(job.reference)
    config = ReferenceConfig(
        input_dim=archive.features.shape[1],
        dim=asked.pop("dim", 192),
        token_count=asked.pop("tokens", 16),
    )
    settings = TrainingSettings(seed=job.seed, **asked)
    trained = train_reference(
        archive,
        job.train,
        config,
        settings,
        held_out=job.held_out if len(job.held_out) else None,
        report_vectors=vectors,
        checkpoint=out / "checkpoint.pt",
        checkpoint_steps=job.checkpoint_steps,
        curves=out / "tensorboard",
        device=job.device,
        progress=progress,
        tick=tick,
    )
    if group.is_first:
        state = released_state(trained.model).items()
        partial = out / f".{FILES[REFERENCE]}.partial"
        save_file({k: v.detach().cpu().contiguous() for k, v in state}, partial)
        partial.replace(out / FILES[REFERENCE])
        history = trained.history
        draw_curves(
            out / "curves.png",
            [
                ("training loss", [line.loss for line in history]),
                ("held-out mAP", [line.held_out_map for line in history]),
                ("held-out top-1", [line.held_out_top1 for line in history]),
                ("effective rank of the tokens", [line.token_rank for line in history]),
            ],
            progress=progress,
        )
    # All are done learning; the first one goes on to measure, and nobody waits for it.
    leave_group()
    return {
        "config": asdict(config),
        "settings": asdict(settings),
        "processes": group.size,
        "text_encoder": job.text_encoder,
        "history": [asdict(line) for line in trained.history],
        "dimension": config.dim,
        "token_dimension": config.dim,
        "token_count": config.token_count,
        "token_share": None,
        "input_dim": config.input_dim,
        "has_text_side": bool(vectors),
    }, group.is_first


def _report_vectors(
    archive: Archive, job: TrainingJob, out: Path, group: "Group", progress: Progress
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the sentence vectors of the reports to learn from.

    The first process makes them for all: several would write the same file.
    """
    from retrieval.engine.report_vectors import report_vectors

    if not group.is_first:
        told: dict[str, npt.NDArray[np.float32]] = group.told(None)
        return told
    learned = {archive.patients[i] for i in job.train}
    vectors = report_vectors(
        {patient: text for patient, text in archive.reports.items() if patient in learned},
        job.text_encoder,
        cache=out / f"reports-{job.text_encoder}.npz",
        device=job.device,
        progress=progress,
    )
    group.told(vectors)
    return vectors
