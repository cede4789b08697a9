"""Training on the site's own archive: started by a user, worked on in a process of its own.

QUEUED -> RUNNING -> DONE | FAILED(reason); RUNNING -> QUEUED when the lease runs out. A killed
run goes on from its last checkpoint; its model is registered once, with the state DONE.
"""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from cases.errors import Conflict, DomainError, LeaseLost
from cases.services import work
from cases.services.audit import Action, access_event_record, access_events_listed
from retrieval.engine.aligner.archive import Archive
from retrieval.engine.encoders import IMAGE_ENCODERS
from retrieval.engine.errors import EngineError
from retrieval.engine.split import disjoint_split
from retrieval.engine.training_job import FILES, TrainingJob, run_job
from retrieval.engine.training_process import run_in_processes
from retrieval.models import EmbeddingModel, TrainingRun, TrainingSlide
from retrieval.services.heartbeat import Heartbeat
from retrieval.services.models import Modality, active_model, models_lock
from retrieval.services.training_data import (
    LABELS,
    TrainingItem,
    cohorts_to_train_on,
    training_folder,
    training_items,
)

log = logging.getLogger(__name__)

State = TrainingRun.State
Part = TrainingSlide.Part
Tell = Callable[[str], None]
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainingRequest:
    """What a user asks for.

    share: of the slides held out. least: patients that a label needs. patches: most of a slide.
    reference: dimensions and settings of the reference network. text_encoder: of its text side.
    processes: that train the reference network together, one for each GPU.
    """

    name: str
    cohorts: list[str]
    kind: str = TrainingRun.Kind.ALIGNER
    labels: str = "code"
    share: float = 0.2
    least: int = 3
    patches: int = 1000
    seed: int = 0
    licence: str = "The site's own data; not to be passed on without the departments' consent"
    text_encoder: str = ""
    reference: dict[str, Any] | None = None
    processes: int = 1


def run_folder(run: TrainingRun) -> Path:
    """Return where a run keeps its files while it lasts."""
    return Path(settings.DATA_DIR) / "training" / str(run.pk)


def training_start(*, user: Any, request: TrainingRequest) -> TrainingRun:
    """Make the split, store it with the run, and return the run, which waits to be worked on.

    Audited for every patient whose slides are in it. Raises DomainError with the remedy.
    """
    cohorts = cohorts_to_train_on(user, request.cohorts)
    source = active_model(Modality.IMAGE)
    items = training_items(
        user, cohorts, source, labels=request.labels, least=max(1, request.least)
    )
    if not items:
        raise DomainError("The cohorts hold no slide that this user sees.", code="cohort_is_empty")
    try:
        split = disjoint_split(
            [item.patient for item in items],
            [item.hospital for item in items],
            [item.label for item in items],
            share=request.share,
            seed=request.seed,
        )
    except EngineError as error:
        raise Conflict(error.message, code=error.code) from error
    run = TrainingRun(
        name=request.name,
        kind=request.kind,
        user=user,
        source=source,
        scope_department_ids=sorted({item.department_id for item in items}),
        settings={
            "labels": request.labels,
            "seed": request.seed,
            "patches": request.patches,
            "licence": request.licence,
            "text_encoder": request.text_encoder,
            "reference": request.reference or {},
            "processes": max(1, request.processes) if request.reference else 1,
        },
        split={
            "by": split.by,
            "train": len(split.train),
            "held_out": len(split.held_out),
            "left_out": len(split.left_out),
            "hospitals": len({item.hospital for item in items}),
        },
    )
    with transaction.atomic():
        _save(run)
        run.cohorts.set(cohorts)
        parts = ((Part.TRAIN, split.train), (Part.VAL, split.held_out), (Part.OUT, split.left_out))
        TrainingSlide.objects.bulk_create(
            _slide(run, items[position], part)
            for part, positions in parts
            for position in positions
        )
        _audit(user, run)
    return run


def _save(run: TrainingRun) -> None:
    try:
        run.full_clean(exclude=["user", "source", "model", "split", "settings"])
    except ValidationError as error:
        raise DomainError("; ".join(error.messages), code="training_refused") from error
    if EmbeddingModel.objects.filter(name=run.name).exists():
        raise DomainError(f"There is a model named {run.name} already.", code="name_taken")
    try:
        with transaction.atomic():
            run.save()
    except IntegrityError as error:
        raise DomainError(
            f"There is a training named {run.name} already.", code="name_taken"
        ) from error


def _slide(run: TrainingRun, item: TrainingItem, part: str) -> TrainingSlide:
    return TrainingSlide(
        run=run,
        slide_image_id=item.slide_image_id,
        department_id=item.department_id,
        part=part,
        label=item.label,
    )


def _audit(user: Any, run: TrainingRun) -> None:
    access_event_record(
        user=user,
        action=Action.CREATE,
        target=run,
        detail={"cohorts": [str(cohort.pk) for cohort in run.cohorts.all()]},
    )
    access_events_listed(
        user=user,
        action=Action.EXPORT,
        object_type=run._meta.model_name,
        object_id=str(run.pk),
        subjects=run.slides.values_list("slide_image__slide__case__patient_id", "department_id"),
        detail={"act": "train"},
    )


def training_run(
    pk: UUID | str,
    *,
    tell: Tell = lambda text: None,
    tick: Tick = lambda done, total: None,
) -> str | None:
    """Work on a run that is queued, to its end. Returns the state it ended in.

    None: the run is not to be had, or was taken over meanwhile. An unexpected error queues it
    again and is raised.
    """
    training_sweep()
    lease = work.claim(TrainingRun, pk)
    if lease is None:
        return None
    run = TrainingRun.objects.select_related("source", "user").get(pk=pk)
    try:
        with Heartbeat(lease) as heartbeat:
            card = _train(run, heartbeat, tell, tick)
            heartbeat.tell(1, 1, "save")
            _finish(run, lease, card)
        log.info("training %s is done", run.pk)
    except LeaseLost:
        log.warning("training %s was taken over by another process", pk)
        return None
    except (DomainError, EngineError) as error:
        return _fail(run, lease, error.code, error.message)
    except Exception as error:
        log.exception("training %s broke", run.pk)
        _give_back(lease, error)
        raise
    # The reports in it are needed no longer; the card and the split are kept in the database.
    shutil.rmtree(run_folder(run), ignore_errors=True)
    return State.DONE


def _train(run: TrainingRun, heartbeat: Heartbeat, tell: Tell, tick: Tick) -> dict[str, Any]:
    heartbeat.tell(0, 0, "features")
    archive = training_folder(run, run_folder(run) / "archive", patches=run.settings["patches"])
    total = [0]

    def both(done: int, of: int) -> None:
        total[0] = of
        heartbeat.tell(done, of, "train")
        tick(done, of)

    def said(text: str) -> None:
        heartbeat.tell(total[0], total[0], "train")
        tell(text)

    heartbeat.tell(0, 0, "train")
    folder, job = run_folder(run), _job(run, archive)
    count = int(run.settings.get("processes", 1))
    if count > 1:
        return run_in_processes(job, folder, count, progress=said, tick=both)
    return run_job(archive, job, folder / "out", progress=said, tick=both)


def _job(run: TrainingRun, archive: Archive) -> TrainingJob:
    def positions(part: str) -> np.ndarray:
        return np.flatnonzero(np.array([split == part for split in archive.splits]))

    asked = run.settings
    reference = dict(asked["reference"])
    checkpoint_steps = int(reference.pop("checkpoint_steps", 20))
    spec = IMAGE_ENCODERS[run.source.encoder]
    return TrainingJob(
        kind=run.kind,
        train=positions(Part.TRAIN),
        held_out=positions(Part.VAL),
        facts={
            "name": run.name,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "data": f"{len(archive)} slides of {run.cohorts.count()} cohorts of this site",
            "split": _split_sentence(run),
            "chosen_on": "the held-out slides",
            "labels": LABELS[asked["labels"]],
            "licence": asked["licence"],
            "encoder": f"{spec.name} ({spec.licence}; weights {run.source.weights_sha256[:12]})",
        },
        seed=asked["seed"],
        reference=reference,
        text_encoder=asked["text_encoder"],
        checkpoint_steps=checkpoint_steps,
        device=_device(),
        threads=settings.ENCODER_THREADS,
    )


def _split_sentence(run: TrainingRun) -> str:
    if run.split["by"] == "hospital":
        left = run.split["left_out"]
        more = f"; {left} slides of patients in both were left out" if left else ""
        return (
            "hospitals (department and accession issuer) and patients are in one part only" + more
        )
    return (
        "patients are in one part only. There were too few hospitals to hold one out, so that "
        "the figures may reward recognising the hospital"
    )


def _device() -> str:
    if settings.ENCODER_DEVICE != "auto":
        return settings.ENCODER_DEVICE
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _finish(run: TrainingRun, lease: work.Lease, card: dict[str, Any]) -> None:
    """Put the weights in their place, and register the model in the transaction of the state."""
    folder = Path(settings.DATA_DIR) / "models" / f"{run.name}-{card['sha256'][:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    out = run_folder(run) / "out"
    # Named by its content: a second finish of a killed run writes the same bytes again.
    for name in (FILES[run.kind], "card.json", "card.md", "choices.md", "curves.png"):
        if (out / name).is_file():
            _place(out / name, folder / name)
    if (out / "tensorboard").is_dir():
        shutil.copytree(out / "tensorboard", folder / "tensorboard", dirs_exist_ok=True)
    path = (folder / FILES[run.kind]).relative_to(settings.DATA_DIR)
    with work.result_transaction(lease, State.DONE, card=card, reason_code="", reason=""):
        lease.heartbeat(done=1, total=1, step="save")
        models_lock()
        model = EmbeddingModel(
            name=run.name,
            modality=Modality.IMAGE,
            encoder=run.source.encoder,
            weights_sha256=run.source.weights_sha256,
            aggregator=run.kind,
            aggregator_path=str(path),
            aggregator_sha256=card["sha256"],
            text_encoder=card["text_encoder"],
            has_text_side=card["has_text_side"],
            token_share=card["token_share"],
            feature_dimension=card["input_dim"],
            dimension=card["dimension"],
            token_dimension=card["token_dimension"],
            token_count=card["token_count"],
            patch_px=run.source.patch_px,
            mpp=run.source.mpp,
            description=f"Trained on this site. {card['data']}; {card['split']}.",
        )
        model.full_clean()
        model.save()
        TrainingRun.objects.filter(pk=run.pk).update(model=model)
        access_event_record(
            user=run.user, action=Action.CREATE, target=model, detail={"training": str(run.pk)}
        )


def _place(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    with partial.open("wb") as file:
        file.write(source.read_bytes())
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)


def _fail(run: TrainingRun, lease: work.Lease, code: str, reason: str) -> str | None:
    log.info("training %s failed: %s", run.pk, code)
    try:
        lease.finish(State.FAILED, reason_code=code, reason=reason[:500])
    except LeaseLost:
        return None
    return State.FAILED


def _give_back(lease: work.Lease, error: Exception) -> None:
    try:
        lease.give_back(
            reason_code="unexpected",
            reason=f"An unexpected error ({type(error).__name__}); the log has it.",
        )
    except LeaseLost:
        log.warning("training %s was taken over by another process", lease.pk)


def training_sweep() -> dict[str, int]:
    """Queue the runs whose process was killed; fail those out of attempts."""
    queued, failed = work.expire_leases(TrainingRun)
    finished = TrainingRun.objects.filter(state=State.DONE, finished_at__isnull=False)
    for run in finished.filter(finished_at__gte=timezone.now() - timedelta(days=2)):
        # Killed between the end and the clearing up.
        shutil.rmtree(run_folder(run), ignore_errors=True)
    return {"requeued": len(queued), "failed": len(failed)}


def training_retry(*, run: TrainingRun) -> None:
    """Queue a failed run again; it goes on from its last checkpoint."""
    if not work.requeue(TrainingRun, run.pk, from_states=[State.FAILED]):
        raise Conflict("This training has not failed.", code="nothing_to_retry")
