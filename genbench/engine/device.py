"""The device of a run, its arithmetic and its random number generators.

Only this module and `genbench.engine.capture` distinguish kinds of devices, besides `genbench.functional`, which
takes the formula that is fastest on each.
"""

from __future__ import annotations

import os
import platform
import random
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from genbench.errors import ConfigError, first_line

__all__ = [
    "autocast",
    "check_gradients",
    "check_precision",
    "describe",
    "double",
    "evaluation_batch",
    "float64_device",
    "inference_batch",
    "inference_layout",
    "isolated_rng",
    "one_thread_for",
    "peak_memory_mib",
    "repeatable",
    "reset_peak_memory",
    "resolve",
    "rng_state",
    "seed_everything",
    "set_rng_state",
    "synchronize",
    "tf32",
    "threads",
    "training_layout",
    "upload",
    "visible_gpus",
    "without_autocast",
    "working_mib",
]

DEVICE_HINT = "use device=auto, cpu, cuda, cuda:N or mps"
FEW_ROWS = 100  # up to which one thread is enough for small operations
WITHOUT_FLOAT64 = {"mps"}


def resolve(name: str) -> torch.device:
    """The device of this name, initialized and made PyTorch's current one; an accelerator with its index.

    `auto` is the first CUDA device, else the CPU; an Apple GPU must be named. TF32 is switched off, which PyTorch
    allows in cuDNN's convolutions by default. Raises ConfigError for a device that does not exist, and for an Apple
    GPU with wrong gradients.
    """
    # cuBLAS reads it once, when a process first uses CUDA, and a later job of the same sweep may be deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is not a device", DEVICE_HINT) from error
    if wanted.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"genbench does not train on device {name!r}", DEVICE_HINT)
    count, index = _count(wanted.type), wanted.index or 0
    if index >= count:
        there = f"there is {count or 'no'} {wanted.type} device here" if count < 2 else f"there are {count} here"
        raise ConfigError(f"device {name!r} is not available: {there}", "use device=auto or device=cpu")
    if wanted.type == "cpu":
        return torch.device("cpu")  # without an index, as PyTorch gives it to tensors
    device = torch.device(wanted.type, index)
    if wanted.type == "cuda":
        _start_cuda(device)
    else:
        check_gradients(device)
    return device


def _count(kind: str) -> int:
    """How many devices of this kind there are."""
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    return int(kind == "cpu" or torch.backends.mps.is_available())


def _start_cuda(device: torch.device) -> None:
    try:
        torch.cuda.init()
        torch.cuda.set_device(device)  # streams and graphs belong to the current device
    except RuntimeError as error:
        reason = first_line(error)
        raise ConfigError(f"device {device} cannot be used: {reason}", "use another device, or device=cpu") from error
    _allow_tf32(False)


def check_gradients(device: torch.device) -> None:
    """Raise ConfigError unless first and second derivatives of a small convolution on `device` match the CPU's.

    Versions of PyTorch have computed wrong gradients on Apple GPUs silently.
    """
    generator = torch.Generator().manual_seed(0)
    image, weight = torch.randn(2, 3, 8, 8, generator=generator), torch.randn(4, 3, 3, 3, generator=generator)

    def gradients(where: torch.device) -> tuple[Tensor, ...]:
        x, w = (tensor.to(where).requires_grad_() for tensor in (image, weight))
        score = torch.tanh(F.conv2d(x, w, stride=2, padding=1)).sum()
        by_x, by_w = torch.autograd.grad(score, (x, w), create_graph=True)
        (twice,) = torch.autograd.grad(by_x.square().sum(), w)
        return by_x.detach().cpu(), by_w.detach().cpu(), twice.cpu()

    names = "the input", "the weight", "the weight of the input's squared gradient"
    for what, found, true in zip(names, gradients(device), gradients(torch.device("cpu")), strict=True):
        error = ((found - true).abs().max() / true.abs().max()).item()
        if not error < 1e-4:  # NaN too
            raise ConfigError(
                f"device {device} computes wrong gradients: that of a convolution by {what} is off by {error:.1g}",
                "use device=cpu, or another version of PyTorch",
            )


def check_precision(device: torch.device, precision: str) -> None:
    """Raise ConfigError if the device does not support `precision` (fp32, tf32 or bf16)."""
    if precision == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        raise ConfigError(
            f"precision tf32 needs an NVIDIA GPU of compute capability 8.0, and this is {describe(device)}",
            "set trainer.precision=fp32",
        )
    if precision == "bf16" and not torch.amp.is_autocast_available(device.type):
        raise ConfigError(f"PyTorch {torch.__version__} has no bf16 on {device}", "set trainer.precision=fp32")


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed Python, NumPy and PyTorch; with `deterministic`, forbid nondeterministic operations."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries draw from the global state
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def _accelerator(device: torch.device) -> ModuleType | None:
    """PyTorch's module for this kind of device; its functions act on the current device, which `resolve` has set."""
    return {"cuda": torch.cuda, "mps": torch.mps}.get(device.type)


def rng_state(device: torch.device) -> dict[str, Any]:
    """The state of every global generator that a run on `device` draws from.

    Only types that `torch.load(weights_only=True)` accepts.
    """
    version, words, gauss = random.getstate()
    mersenne = np.random.get_state(legacy=False)  # noqa: NPY002
    key = torch.from_numpy(mersenne["state"]["key"].astype(np.int64))
    state = {
        "python": [version, list(words), gauss],
        "numpy": {**mersenne, "state": {**mersenne["state"], "key": key}},
        "torch": torch.get_rng_state(),
    }
    accelerator = _accelerator(device)
    return state if accelerator is None else state | {device.type: accelerator.get_rng_state()}


def set_rng_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore what `rng_state` returned; an accelerator's state only if it was saved on the same kind of device."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    mersenne = state["numpy"]
    key = mersenne["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**mersenne, "state": {**mersenne["state"], "key": key}})  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    accelerator, saved = _accelerator(device), state.get(device.type)
    if accelerator is not None and saved is not None:
        accelerator.set_rng_state(saved)


@contextmanager
def isolated_rng(seed: int, device: torch.device) -> Iterator[None]:
    """A block in which all global generators start from `seed`, restored afterwards: what is measured in it is the
    same at every time, and does not disturb training."""
    before, accelerator = rng_state(device), _accelerator(device)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - it takes no larger one, and the largest seed has successors
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every device
    if accelerator is not None:
        accelerator.manual_seed(seed)
    try:
        yield
    finally:
        set_rng_state(before, device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """A block whose matrix products and convolutions run in bfloat16 where `precision` is bf16; parameters stay in
    float32."""
    if precision != "bf16":
        return nullcontext()
    # Weights are cast again in every block: a cached copy would outlive the step in a captured graph.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A block that computes in the precision of its tensors, even inside an `autocast` block."""
    if not torch.is_autocast_enabled(device.type):
        return nullcontext()  # also where there is no autocast at all
    return torch.autocast(device.type, enabled=False)


@contextmanager
def repeatable() -> Iterator[None]:
    """A block whose convolutions agree on all CUDA devices up to float32 rounding."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False), tf32(False):
        yield


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """A block in which CUDA rounds the inputs of float32 matrix products and convolutions to TF32 if `allowed`."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    _allow_tf32(allowed, allowed)
    try:
        yield
    finally:
        _allow_tf32(*before)


def _allow_tf32(products: bool, convolutions: bool = False) -> None:
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = products, convolutions


def float64_device(device: torch.device) -> torch.device:
    """`device`, or the CPU if `device` (an Apple GPU) has no float64."""
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


def double(x: Tensor) -> Tensor:
    """`x` in float64, on the CPU if its device has none: for sums and means of many values."""
    return x.to(float64_device(x.device)).double()


def upload(x: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to `device` without making the host wait; on the CPU, the tensor itself."""
    if device.type in ("cpu", "mps"):  # an Apple GPU shares the host's memory
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)  # from pageable memory the copy would be synchronous


def training_layout(device: torch.device) -> torch.memory_format:
    """The memory layout in which convolutions train fastest; on a CPU most do, by up to 12 % (`make bench-peak`)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def inference_layout(device: torch.device) -> torch.memory_format:
    """The fastest memory layout for exact float32 without gradients: channels_last is 1.4 times as fast on a CPU."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def inference_batch(device: torch.device) -> int:
    """Images per forward pass of a large network without gradients: 8 fit in a CPU's cache, a GPU wants more work."""
    return 8 if device.type == "cpu" else 32


def evaluation_batch(device: torch.device, most: int) -> int:
    """Images at a time, at most so many, whose likelihood is computed: on a CPU 64. What convolutions at full
    resolution make of 500 images does not fit its cache, and takes twice as long for each of them."""
    return min(most, 64) if device.type == "cpu" else most


def working_mib(device: torch.device, most: float) -> float:
    """Memory for one chunk of a long computation, `most` MiB of it: on a CPU 16, which its cache holds."""
    return min(most, 16) if device.type == "cpu" else most


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """A block that computes with so many threads of the CPU; None: with as many as before."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread_for(rows: int, device: torch.device) -> AbstractContextManager[None]:
    """A block of many small operations on so many rows. On a CPU one thread does them as fast as several, which wait
    for each other after each of them: where other processes compute, too, up to 100 times as long."""
    return threads(1 if device.type == "cpu" and rows <= FEW_ROWS else None)


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done all its work."""
    accelerator = _accelerator(device)
    if accelerator is not None:
        accelerator.synchronize()


def visible_gpus() -> list[str]:
    """CUDA devices of this process, as CUDA_VISIBLE_DEVICES names them."""
    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


def describe(device: torch.device) -> str:
    """The device's name for people: a GPU's model, or kind, processor and threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type} ({platform.machine()}, {threads} thread{'s' if threads > 1 else ''})"


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak that `peak_memory_mib` reports, where the system allows it (CUDA and Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory in MiB: allocated on a CUDA device, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError, StopIteration):  # Linux: getrusage would count a parent's memory from before exec
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)
