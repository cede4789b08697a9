"""Trains the reference configuration by gradient steps; a killed run goes on where it was.

Slides of hospitals that no step sees decide when to stop. Imports torch.
"""

import json
import os
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
from retrieval.engine.contrastive import label_loss, report_loss
from retrieval.engine.errors import ModelCorrupt
from retrieval.engine.evaluation import effective_rank, evaluate_retrieval
from retrieval.engine.rivals import cosine

Float32Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Progress = Callable[[str], None]


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
    report_vectors: dict[str, Float32Array] | None = None,
    checkpoint: Path | None = None,
    device: str = "cpu",
    progress: Progress = lambda _: None,
) -> Trained:
    """Train the reference configuration on some slides of an archive.

    Parameters
    ----------
    archive : Archive
    train : int (n,)
        Positions of the slides; a part of their hospitals is held out for stopping.
    config : ReferenceConfig
    settings : TrainingSettings
    report_vectors : dict of str to float32 (T,), optional
        Frozen sentence embedding of the report of each patient.
    checkpoint : Path, optional
        State after each epoch. A run with the same settings continues from it.
    device : str
        Mixed precision (bfloat16) is used on a GPU.
    progress : callable

    Raises
    ------
    ArchiveInvalid
        Too few hospitals to hold one out.
    ModelCorrupt
        The checkpoint is of another run.
    """
    run = _Run(archive, train, config, settings, report_vectors, device)
    if checkpoint is not None and checkpoint.is_file():
        run.resume(checkpoint)
        progress(f"continues after epoch {len(run.history)}")
    while not run.finished():
        line = run.epoch()
        progress(
            f"epoch {line.epoch} loss {line.loss:.3f} held-out mAP {line.held_out_map:.3f} "
            f"top-1 {line.held_out_top1:.3f} token rank {line.token_rank:.1f}"
        )
        if checkpoint is not None:
            run.save(checkpoint)
    run.model.load_state_dict(run.best)
    return Trained(run.model.eval(), run.history)


class _Run:
    def __init__(
        self,
        archive: Archive,
        train: Ints,
        config: ReferenceConfig,
        settings: TrainingSettings,
        report_vectors: dict[str, Float32Array] | None,
        device: str,
    ) -> None:
        self.archive, self.settings = archive, settings
        self.device = torch.device(device)
        subjects = archive.subjects()
        labelled = train[subjects.labels[train] >= 0]
        parts = hospital_folds(
            [archive.hospitals[i] for i in labelled], settings.inner_folds, settings.seed
        )
        self.held_out = labelled[parts[0]]
        self.learned = np.setdiff1d(train, self.held_out)
        if not len(self.held_out) or not len(self.learned):
            raise ArchiveInvalid("Slides of at least two hospitals are needed to train.")
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
        self.best = self._state()
        labels = ",".join(archive.label_names())
        self.identity = json.dumps(
            [asdict(config), asdict(settings), len(archive), labels, train.tolist(), width]
        )

    def _state(self) -> dict[str, torch.Tensor]:
        return {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}

    def finished(self) -> bool:
        """Return whether the budget or the patience is at its end."""
        if len(self.history) >= self.settings.epochs:
            return True
        values = [line.held_out_map for line in self.history]
        return bool(values) and len(values) - 1 - int(np.argmax(values)) >= self.settings.patience

    def epoch(self) -> EpochLine:
        """Train one epoch and measure the held-out slides."""
        number = len(self.history)
        # Seeded by the epoch: a resumed run draws what the unbroken one would have drawn.
        rng = np.random.default_rng([self.settings.seed, number])
        torch.manual_seed(self.settings.seed * 100_003 + number)
        self.model.train()
        loss = float(np.mean([self._step(rng) for _ in range(self.settings.steps)]))
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
            exclude_hospital=True,
        )
        summary = result.summary()
        rank = float(np.mean([effective_rank(t) for t in tokens[: len(self.held_out)][:50]]))
        line = EpochLine(number + 1, loss, summary["mAP"], summary["top-1"], rank)
        if not self.history or line.held_out_map > max(h.held_out_map for h in self.history):
            self.best = self._state()
        self.history.append(line)
        return line

    def _step(self, rng: np.random.Generator) -> float:
        settings = self.settings
        size = min(settings.batch, len(self.learned))
        slides = rng.choice(self.learned, size, replace=False)
        starts = self.archive.offsets[slides]
        counts = self.archive.offsets[slides + 1] - starts
        drawn = np.stack(
            [
                np.sort(rng.choice(count, settings.patches, replace=count < settings.patches))
                for count in counts
            ]
        )
        features = self.archive.features[starts[:, None] + drawn].astype(np.float32)
        bags = torch.from_numpy(features).to(self.device)
        with torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"
        ):
            made = self.model.visual(bags)
        vectors = made.embedding.float()
        owners = torch.from_numpy(self.subjects.patients[slides]).to(self.device)
        loss = settings.diversity_weight * token_diversity_loss(made.tokens.float())
        loss = loss + settings.label_weight * label_loss(
            vectors,
            torch.from_numpy(self.subjects.labels[slides]).to(self.device),
            owners,
            torch.from_numpy(self.subjects.hospitals[slides]).to(self.device),
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
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write the state; an older one is replaced only when the new one is complete."""
        state: dict[str, Any] = {
            "identity": self.identity,
            "model": self._state(),
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": json.dumps([asdict(line) for line in self.history]),
        }
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Continue from a state.

        Raises ModelCorrupt when it cannot be read or is of another run.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            same = state["identity"] == self.identity
        except Exception as error:
            raise ModelCorrupt(f"The checkpoint {path.name} cannot be read.") from error
        if not same:
            raise ModelCorrupt(
                f"The checkpoint {path.name} is of a run with other data or settings. "
                "Remove it, or give another name."
            )
        self.model.load_state_dict(state["model"])
        self.best = state["best"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.history = [EpochLine(**line) for line in json.loads(state["history"])]
