"""One training in several processes, started by torchrun; alone it is a group of one.

Every process holds the whole network and takes its share of each batch. torch's own
distributed package: NCCL between GPUs, Gloo on CPUs. Imports torch.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

# Process 0 measures alone after an epoch, and the others wait for it.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Group:
    """The processes of a run.

    Attributes
    ----------
    rank, size : int
        This process, from 0, and how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Return whether this process measures, writes and speaks for all."""
        return self.rank == 0

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Replace the tensor by its sum over the processes, and return it."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def told(self, value: Any) -> Any:
        """Return the first process's value in every process."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]


def join_group(device: str) -> tuple[Group, str]:
    """Return the group that torchrun started this process in, and the device of this process.

    Without torchrun's environment it is a group of one. ``cuda`` becomes the process's own GPU.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Group(), device
    on_gpu = device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    return Group(distributed.get_rank(), size), device


def leave_group() -> None:
    """End the group, if there is one."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
