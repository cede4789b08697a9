"""Trains the reference configuration by gradient steps; a killed run goes on where it was.

Slides that no step sees, of other hospitals where there are several, decide when to stop. Every
draw depends on the seed and the number of the step alone, so that neither a kill nor the number
of processes changes what is learned. Imports torch.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from retrieval.engine.aggregator import (
    ReferenceAligner,
    ReferenceConfig,
    token_diversity_loss,
)
from retrieval.engine.aligner.archive import Archive, ArchiveInvalid, hospital_folds
from retrieval.engine.checkpoints import read_checkpoint, write_checkpoint
from retrieval.engine.contrastive import label_loss, report_loss
from retrieval.engine.curves import Curves
from retrieval.engine.evaluation import effective_rank, evaluate_retrieval
from retrieval.engine.gradient_cache import Chunk, batch_gradient, chunks_of
from retrieval.engine.processes import Group, join_group
from retrieval.engine.rivals import cosine

Float32Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Progress = Callable[[str], None]
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainingSettings:
    """A run of training; the budget is `epochs` x `steps` batches.

    Attributes
    ----------
    epochs, steps : int
        Most epochs, and batches in each.
    batch, patches : int
        Slides of a batch, and patches drawn of each, with replacement where it has fewer.
    rate, weight_decay : float
        Of AdamW; the rate falls along a half cosine.
    report_weight, label_weight, diversity_weight : float
        Of the losses. The first acts only where reports are given.
    patience : int
        Epochs without a better held-out mAP before stopping.
    inner_folds : int
        One in so many parts of the training hospitals is held out.
    gallery : int
        Most training slides among which the held-out ones are searched after each epoch.
    chunk : int
        Slides that go through the network at one time; 0: the whole batch. Several chunks have
        the gradient of the whole batch by a second pass (`retrieval.engine.gradient_cache`).
    precision : str
        ``bf16``, ``fp32``, or ``auto``: bf16 on a GPU.
    seed : int
    """

    epochs: int = 10
    steps: int = 40
    batch: int = 64
    patches: int = 32
    rate: float = 3e-4
    weight_decay: float = 0.05
    report_weight: float = 1.0
    label_weight: float = 1.0
    diversity_weight: float = 0.1
    patience: int = 3
    inner_folds: int = 8
    gallery: int = 1000
    chunk: int = 0
    precision: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class EpochLine:
    """What came of an epoch: mean losses, and the held-out figures after it."""

    epoch: int
    loss: float
    held_out_map: float
    held_out_top1: float
    token_rank: float


@dataclass(frozen=True)
class Trained:
    """The best model of a run, in eval mode, and the run's history."""

    model: ReferenceAligner
    history: list[EpochLine]


def embed_reference(
    model: ReferenceAligner, archive: Archive, positions: Ints
) -> tuple[Float32Array, Float32Array]:
    """Return tokens (n, M, D) and embeddings (n, D) of slides, one slide at a time."""
    tokens, vectors = [], []
    device = model.logit_scale.device
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for slide in positions:
            bag = torch.from_numpy(archive.bag(int(slide)).astype(np.float32))
            made = model.visual(bag[None].to(device))
            tokens.append(made.tokens[0].cpu().numpy())
            vectors.append(made.embedding[0].cpu().numpy())
    model.train(was_training)
    return np.stack(tokens), np.stack(vectors)


def train_reference(
    archive: Archive,
    train: Ints,
    config: ReferenceConfig,
    settings: TrainingSettings,
    *,
    held_out: Ints | None = None,
    report_vectors: dict[str, Float32Array] | None = None,
    checkpoint: Path | None = None,
    checkpoint_steps: int = 20,
    curves: Path | None = None,
    device: str = "cpu",
    progress: Progress = lambda _: None,
    tick: Tick = lambda done, total: None,
) -> Trained:
    """Train the reference configuration on some slides of an archive.

    Parameters
    ----------
    archive : Archive
    train : int (n,)
        Positions of the slides to learn from.
    config : ReferenceConfig
    settings : TrainingSettings
    held_out : int (m,), optional
        Slides that decide when to stop; by default a part of the hospitals of `train`.
    report_vectors : dict of str to float32 (T,), optional
        Frozen sentence embedding of the report of each patient.
    checkpoint : Path, optional
        Where the state is kept. A run with the same settings continues from it.
    checkpoint_steps : int
        Steps between two states inside an epoch.
    curves : Path, optional
        Folder for TensorBoard files.
    device : str
        Of this process; under torchrun, `cuda` is the process's own GPU.
    progress, tick : callables
        Told what happened; how many of all steps are done.

    Raises
    ------
    ArchiveInvalid
        Too few hospitals to hold one out.
    ModelCorrupt
        The checkpoint is of another run.
    """
    group, device = join_group(device)
    if not group.is_first:
        progress, tick, curves = lambda _: None, lambda done, total: None, None
    run = _Run(archive, train, config, settings, held_out, report_vectors, device, group)
    if checkpoint is not None and checkpoint.is_file():
        run.restore(read_checkpoint(checkpoint, run.identity))
        progress(f"continues after step {run.step} of epoch {len(run.history) + 1}")
    kept = checkpoint if group.is_first else None
    total = settings.epochs * settings.steps
    drawn = None
    if curves is not None:
        drawn = Curves(curves, resumed_at=run.step, progress=progress)
    while not run.finished():
        while len(run.losses) < settings.steps:
            loss = run.train_step()
            tick(run.step, total)
            if drawn:
                drawn.add(run.step, train__loss=loss, train__rate=run.rate())
            if kept and len(run.losses) % checkpoint_steps == 0:
                write_checkpoint(kept, run.state())
        line = run.end_epoch()
        if drawn:
            figures = {k: v for k, v in asdict(line).items() if k not in ("epoch", "loss")}
            drawn.add(run.step, **{f"held_out__{k}": v for k, v in figures.items()})
        if kept:
            write_checkpoint(kept, run.state())
        progress(
            f"epoch {line.epoch} loss {line.loss:.3f} held-out mAP {line.held_out_map:.3f} "
            f"top-1 {line.held_out_top1:.3f} token rank {line.token_rank:.1f}"
        )
    if drawn:
        drawn.close()
    run.model.load_state_dict(run.best)
    return Trained(run.model.eval(), run.history)


class _Run:
    def __init__(
        self,
        archive: Archive,
        train: Ints,
        config: ReferenceConfig,
        settings: TrainingSettings,
        held_out: Ints | None,
        report_vectors: dict[str, Float32Array] | None,
        device: str,
        group: Group,
    ) -> None:
        self.archive, self.settings, self.group = archive, settings, group
        self.device = torch.device(device)
        subjects = archive.subjects()
        if held_out is None:
            labelled = train[subjects.labels[train] >= 0]
            parts = hospital_folds(
                [archive.hospitals[i] for i in labelled], settings.inner_folds, settings.seed
            )
            held_out = labelled[parts[0]]
        self.held_out = held_out[subjects.labels[held_out] >= 0]
        self.learned = np.setdiff1d(train, held_out)
        if not len(self.held_out) or not len(self.learned):
            raise ArchiveInvalid(
                "Slides of at least two hospitals are needed to train, or held-out ones."
            )
        # With one hospital there is none to leave out, and its look cannot be trained away.
        self.several_hospitals = len(np.unique(subjects.hospitals[self.learned])) > 1
        self.apart = (
            not set(subjects.hospitals[self.held_out]) <= set(subjects.hospitals[self.learned])
            or self.several_hospitals
        )
        # The same few in every epoch: all would cost more than the training itself.
        self.gallery = np.sort(
            np.random.default_rng(settings.seed).permutation(self.learned)[: settings.gallery]
        )
        self.subjects = subjects
        self.reports = report_vectors or {}
        width = len(next(iter(self.reports.values()))) if self.reports else 1
        torch.manual_seed(settings.seed)
        self.model = ReferenceAligner(config, text_dim=width).to(self.device)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=settings.rate, weight_decay=settings.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimiser, max(1, settings.epochs * settings.steps)
        )
        self.history: list[EpochLine] = []
        self.losses: list[float] = []
        self.best = self._state()
        labels = ",".join(archive.label_names())
        self.identity = json.dumps(
            [
                asdict(config),
                asdict(settings),
                len(archive),
                labels,
                self.learned.tolist(),
                self.held_out.tolist(),
                width,
            ]
        )

    def _state(self) -> dict[str, torch.Tensor]:
        return {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}

    def finished(self) -> bool:
        """Return whether the budget or the patience is at its end."""
        if len(self.history) >= self.settings.epochs:
            return True
        values = [line.held_out_map for line in self.history]
        return bool(values) and len(values) - 1 - int(np.argmax(values)) >= self.settings.patience

    @property
    def step(self) -> int:
        """Return how many steps are done."""
        return len(self.history) * self.settings.steps + len(self.losses)

    def rate(self) -> float:
        """Return the rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    def end_epoch(self) -> EpochLine:
        """Measure the held-out slides after an epoch's last step."""
        loss = float(np.mean(self.losses))
        figures = self.group.told(self._measured() if self.group.is_first else None)
        line = EpochLine(len(self.history) + 1, loss, *figures)
        if not self.history or line.held_out_map > max(h.held_out_map for h in self.history):
            self.best = self._state()
        self.history.append(line)
        self.losses = []
        return line

    def _measured(self) -> tuple[float, float, float]:
        """Return mAP and top-1 of the held-out slides, and the rank of their tokens."""
        measured = np.concatenate([self.held_out, self.gallery])
        tokens, vectors = embed_reference(self.model, self.archive, measured)
        own = self.subjects.take(measured)
        everything = np.arange(len(vectors))
        known = own.labels >= 0
        similarity = cosine(vectors)
        result = evaluate_retrieval(
            lambda block: similarity(block, everything[known]),
            own.take(np.arange(len(self.held_out))),
            own.take(everything[known]),
            exclude_hospital=self.apart,
        )
        summary = result.summary()
        rank = float(np.mean([effective_rank(t) for t in tokens[: len(self.held_out)][:50]]))
        return summary["mAP"], summary["top-1"], rank

    def train_step(self) -> float:
        """Learn from one batch; return its loss."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.step])
        slides = rng.choice(self.learned, min(settings.batch, len(self.learned)), replace=False)
        rows = self._drawn(slides, rng)

        def inputs(chunk: Chunk) -> torch.Tensor:
            part = self.archive.features[rows[chunk.start : chunk.stop]].astype(np.float32)
            return torch.from_numpy(part).to(self.device)

        self.model.train()
        self.optimiser.zero_grad()
        seed = settings.seed * 1_000_003 + self.step * 1_009
        loss = batch_gradient(
            self.model,
            inputs,
            self._forward,
            lambda vectors: self._common_loss(vectors, slides),
            chunks_of(len(slides), settings.chunk, seed),
            self.group,
        )
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        self.losses.append(loss)
        return loss

    def _drawn(self, slides: Ints, rng: np.random.Generator) -> Ints:
        """Return the rows (B, P) of the patches that are drawn of each slide."""
        starts = self.archive.offsets[slides]
        counts = self.archive.offsets[slides + 1] - starts
        patches = self.settings.patches
        drawn = [np.sort(rng.choice(n, patches, replace=n < patches)) for n in counts]
        return np.asarray(starts[:, None] + np.stack(drawn), np.int64)

    def _forward(self, bags: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        half = self.settings.precision == "bf16" or (
            self.settings.precision == "auto" and self.device.type == "cuda"
        )
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            made = self.model.visual(bags)
        diversity = token_diversity_loss(made.tokens.float())
        return made.embedding.float(), self.settings.diversity_weight * diversity

    def _common_loss(self, vectors: torch.Tensor, slides: Ints) -> torch.Tensor:
        settings = self.settings
        owners = torch.from_numpy(self.subjects.patients[slides]).to(self.device)
        loss = settings.label_weight * label_loss(
            vectors,
            torch.from_numpy(self.subjects.labels[slides]).to(self.device),
            owners,
            torch.from_numpy(self.subjects.hospitals[slides]).to(self.device),
            across_hospitals=self.several_hospitals,
        )
        told = [row for row, i in enumerate(slides) if self.archive.patients[i] in self.reports]
        if len(told) > 1:
            texts = np.stack([self.reports[self.archive.patients[slides[row]]] for row in told])
            rows = torch.tensor(told, device=self.device)
            loss = loss + settings.report_weight * report_loss(
                vectors[rows],
                self.model.embed_text(torch.from_numpy(texts).to(self.device)),
                owners[rows],
                self.model.logit_scale,
            )
        return loss

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "identity": self.identity,
            "model": self._state(),
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": json.dumps([asdict(line) for line in self.history]),
            "losses": json.dumps(self.losses),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.best = state["best"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.history = [EpochLine(**line) for line in json.loads(state["history"])]
        self.losses = json.loads(state["losses"])
