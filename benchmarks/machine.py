"""What the machine is, and the most that it can compute."""

import platform
import time
from pathlib import Path
from typing import Any


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory_mb(line: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = next(row for row in status.splitlines() if row.startswith(line)).split()[1]
    return int(kilobytes) / 1024


def start_of_peak() -> float:
    """Return the MB that this process holds now, and forget what it held at most before.

    Linux only: the kernel's own high-water mark is set back.
    """
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _memory_mb("VmRSS:")


def peak_mb() -> float:
    """Return the most MB that this process has held since `start_of_peak`."""
    return _memory_mb("VmHWM:")


def matmul_limit(device: Any, kind: Any, *, seconds: float = 1.0) -> float:
    """Return measured multiply-add operations per second (each counted twice) of a large product.

    The best of the products that fit into `seconds`: what the chip reaches on this machine, not
    what its data sheet says.
    """
    import torch

    size = 8192 if device.type == "cuda" else 1536
    a = torch.randn(size, size, device=device, dtype=kind)
    b = torch.randn(size, size, device=device, dtype=kind)

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    best = float("inf")
    for _ in range(3):
        a @ b
    finish()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        a @ b
        finish()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def operations(network: Any, images: Any) -> int:
    """Return the operations of one forward pass, as torch counts them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(images)
    return int(counter.get_total_flops())
