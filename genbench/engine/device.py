"""Where a run computes, and its sources of randomness."""

from __future__ import annotations

import os
import platform
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genbench.errors import ConfigError

__all__ = [
    "arithmetic",
    "autocast",
    "describe",
    "isolated_rng",
    "peak_memory_mib",
    "reset_peak_memory",
    "resolve",
    "rng_state",
    "seed_everything",
    "set_rng_state",
]


def resolve(name: str) -> torch.device:
    """`auto` is the first CUDA device, else the CPU. Raises ConfigError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is not a device", "use auto, cpu, cuda or cuda:N") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(device.type, 0)
    if (device.index or 0) >= count:
        raise ConfigError(f"device {name!r} is not available here", "use device=auto or device=cpu")
    return device


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed Python, NumPy and PyTorch; with `deterministic`, refuse operations that are not."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that a run calls draw from the global state
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def rng_state(device: torch.device) -> dict[str, Any]:
    """The state of every global generator that a run on `device` draws from.

    Only types that `torch.load(weights_only=True)` accepts.
    """
    version, words, gauss = random.getstate()
    mersenne = np.random.get_state(legacy=False)  # noqa: NPY002
    key = torch.from_numpy(mersenne["state"]["key"].astype(np.int64))
    return {
        "python": [version, list(words), gauss],
        "numpy": {**mersenne, "state": {**mersenne["state"], "key": key}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_rng_state(state: dict[str, Any], device: torch.device) -> None:
    """Put back what `rng_state` returned, as far as a run on `device` needs it."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    mersenne = state["numpy"]
    key = mersenne["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**mersenne, "state": {**mersenne["state"], "key": key}})  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """A block whose matrix products and convolutions run in `precision`, fp32 or bf16; parameters stay in float32."""
    if precision == "fp32":
        return nullcontext()
    # Weights are cast anew in every block: a cached copy would outlive the step in a captured graph.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


@contextmanager
def isolated_rng(seed: int, device: torch.device) -> Iterator[None]:
    """A block with PyTorch randomness of its own, so that measuring does not disturb training."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"


def arithmetic(device: torch.device, precision: str) -> str:
    """What networks compute in: `precision`, and where CUDA rounds the factors of fp32 products to TF32."""
    rounded = {
        "convolutions": torch.backends.cudnn.allow_tf32,
        "matrix products": torch.backends.cuda.matmul.allow_tf32,
    }
    where = [name for name, allowed in rounded.items() if allowed and device.type == "cuda"]
    return f"{precision}, TF32 in {' and '.join(where)}" if where else precision


def reset_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_mib` count from now on, where the system can (CUDA and Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory in MiB: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError, StopIteration):  # Linux: getrusage would count a parent's memory from before exec
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)
