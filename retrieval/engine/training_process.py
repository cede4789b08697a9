"""A training job in processes of its own: python -m retrieval.engine.training_process FOLDER.

FOLDER holds ``job.json`` and ``archive/``; the result comes into ``out/``. Under torchrun every
process runs this module. `run_in_processes` starts them and passes on what they say; they end
with the process that started them.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.engine.aligner.archive import read_archive
from retrieval.engine.errors import EngineError
from retrieval.engine.training_job import TrainingJob, run_job

Progress = Callable[[str], None]
Tick = Callable[[int, int], None]
_PR_SET_PDEATHSIG = 1


class ProcessesFailed(EngineError):
    """The processes of a training ended without a result."""

    code = "training_processes_failed"


def write_job(job: TrainingJob, folder: Path) -> None:
    """Write a job as JSON."""
    fields = asdict(job) | {"train": job.train.tolist(), "held_out": job.held_out.tolist()}
    (folder / "job.json").write_text(json.dumps(fields), encoding="utf-8")


def read_job(folder: Path) -> TrainingJob:
    """Return the job that `write_job` wrote."""
    fields: dict[str, Any] = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    for name in ("train", "held_out"):
        fields[name] = np.array(fields[name], np.int64)
    return TrainingJob(**fields)


def run_in_processes(
    job: TrainingJob, folder: Path, count: int, *, progress: Progress, tick: Tick
) -> dict[str, Any]:
    """Run a job whose archive lies in ``folder/archive`` by several processes; return its card.

    Raises
    ------
    EngineError
        What the job itself raised, or ProcessesFailed with the end of what was said.
    """
    write_job(job, folder)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={count}", "-m", __name__, str(folder)]
    with subprocess.Popen(
        command,
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_end_with_parent,
    ) as process:
        try:
            failure, last = _follow(process, progress, tick)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        if failure:
            raise EngineError(failure["message"], code=failure["code"])
        raise ProcessesFailed(f"The processes of the training ended: {' / '.join(last)[-300:]}")
    card: dict[str, Any] = json.loads((folder / "out" / "card.json").read_text(encoding="utf-8"))
    return card


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # Linux only


def _follow(
    process: "subprocess.Popen[str]", progress: Progress, tick: Tick
) -> tuple[dict[str, str] | None, list[str]]:
    """Pass on what is said until the end; return a named error, and the last plain lines."""
    failure: dict[str, str] | None = None
    last: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        try:
            told = json.loads(line)
            kind = told["kind"]
        except (ValueError, TypeError, KeyError):
            last = [*last[-2:], line.strip()]
            continue
        if kind == "tick":
            tick(told["done"], told["total"])
        elif kind == "said":
            progress(told["text"])
        elif kind == "error":
            failure = told
    return failure, last


def _tell(**told: Any) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def _watch_parent() -> None:
    """End this process when torchrun's own is killed: it would train on, unseen."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job of a folder; return the exit status."""
    folder = Path((sys.argv[1:] if arguments is None else arguments)[0])
    _watch_parent()
    try:
        run_job(
            read_archive(folder / "archive", label_column="label"),
            read_job(folder),
            folder / "out",
            progress=lambda text: _tell(kind="said", text=text),
            tick=lambda done, total: _tell(kind="tick", done=done, total=total),
        )
    except EngineError as error:
        _tell(kind="error", code=error.code, message=error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
