"""The course of a training: TensorBoard files while it runs, and a picture at the end.

Both packages belong to training only; where one is missing, training goes on without that
output and says so.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Progress = Callable[[str], None]
_REMEDY = "pip install -c requirements-dev.lock tensorboard matplotlib"


class Curves:
    """Writes scalars by step into TensorBoard files below a folder.

    Parameters
    ----------
    folder : Path
    resumed_at : int
        Steps after this one, of an earlier process that was killed, are no longer shown.
    progress : callable
    """

    def __init__(self, folder: Path, *, resumed_at: int = 0, progress: Progress) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            progress(f"no TensorBoard files: tensorboard is not installed ({_REMEDY})")
            return
        self._writer = SummaryWriter(str(folder), purge_step=resumed_at + 1)

    def add(self, step: int, **values: float) -> None:
        """Write values at a step."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name.replace("__", "/"), value, step)

    def close(self) -> None:
        """Write what is left to the disk."""
        if self._writer is not None:
            self._writer.close()


def draw_curves(
    path: Path, panels: Sequence[tuple[str, Sequence[float]]], *, progress: Progress
) -> bool:
    """Draw one panel for each named series over the epochs, from 1; return whether it was done."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        progress(f"no picture of the curves: matplotlib is not installed ({_REMEDY})")
        return False
    figure = Figure(figsize=(4 * len(panels), 3), layout="constrained")
    for axes, (name, values) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        axes.plot(range(1, len(values) + 1), values, marker="o")
        axes.set_title(name)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=120)
    partial.replace(path)
    return True
