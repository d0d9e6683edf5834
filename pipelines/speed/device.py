"""What this machine's processor or GPU can do: the measure that the learners' and engines' figures are held against.

Invariants: a rate is measured on the device that training and generation use, in their arithmetic; nothing is kept.
"""

from __future__ import annotations

import math
import platform
import resource
import sys
import time
from pathlib import Path
from statistics import median

from actors.rewriter import Precision

PRODUCT_SIZE = {"cpu": 1024, "cuda": 8192}
"""Rows of the matrices that are multiplied: large enough for the device's full rate."""
ROUNDS, WARM_UP = 9, 2


def device_name() -> str:
    """The GPU's name, or the processor's."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()


def peak_memory_gb() -> float:
    """Most memory that tensors took on the GPU in this process; without one, the process' most resident memory."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def parameters(model_dir: Path) -> int:
    """Weights of a model; an embedding that is tied to the output is stored, and counted, once."""
    from safetensors import safe_open

    count = 0
    for file in model_dir.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            count += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return count


def product_gflops(precision: Precision) -> float:
    """Rate of a square matrix product, in 1e9 operations a second: the median of nine."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = PRODUCT_SIZE[device]
    matrix = torch.randn(size, size).to(device, getattr(torch, precision))
    seconds = []
    for _ in range(WARM_UP + ROUNDS):
        started = time.perf_counter()
        matrix @ matrix
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / median(seconds[WARM_UP:]) / 1e9
