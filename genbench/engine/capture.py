"""A whole training step as one CUDA graph: its kernels are launched at once, without Python in between.

A step that is replayed does exactly what it did when it was recorded, on the same memory. So it may read nothing
but tensors: whatever changes from step to step is a tensor on the device, which `Task.prepare_step` writes to, or a
kind of step of its own, which it returns.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from genbench.errors import ConfigError

__all__ = ["CapturedStep", "CudaGraphs", "Graphs", "can_capture"]

Step = Callable[[Tensor], dict[str, Tensor]]

# Libraries choose their algorithms and allocate their workspaces in the first calls, which must not be captured.
WARM_UP = 3
# Kinds of steps with a graph of their own; the others run eagerly.
MOST = 8


def can_capture(device: torch.device) -> bool:
    """Whether steps on this device can be captured."""
    return device.type == "cuda"


class Graphs(Protocol):
    """How steps are recorded and replayed."""

    def eagerly(self, step: Step, batch: Tensor) -> dict[str, Tensor]:
        """Run a step without recording it, the way that recording demands of the steps before it."""

    def record(self, step: Step, batch: Tensor) -> tuple[Callable[[], None], dict[str, Tensor]]:
        """Record a step on `batch`, which is not done thereby.

        Returns what does it, as often as it is called, on whatever `batch` holds then, and the tensors that hold
        the step's values afterwards.
        """


class CudaGraphs:
    """Graphs that share one pool of memory: only one runs at a time, and its values are read before the next."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def eagerly(self, step: Step, batch: Tensor) -> dict[str, Tensor]:
        """On a side stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            values = step(batch)
        torch.cuda.current_stream().wait_stream(self._stream)
        return values

    def record(self, step: Step, batch: Tensor) -> tuple[Callable[[], None], dict[str, Tensor]]:
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        with _no_garbage_collection():
            try:
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                    values = step(batch)
            except BaseException:
                torch.cuda.set_stream(current)  # which PyTorch leaves out where ending the capture fails
                raise
        return graph.replay, values


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Garbage is collected before the block and not within: to destroy the graphs of an earlier run would end a
    capture."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class CapturedStep:
    """Runs a step eagerly a few times, then captures it and replays the graph.

    There is one graph for each kind of step, which `variant` and the batch's shape tell, and at most MOST of them.
    The eager steps are training steps like any other, so a captured run takes the same steps on the same random
    numbers as an eager one. The values returned live in the graph's memory: the next call overwrites them.

    Args:
        step: a batch → values on the device.
        graphs: how to record it; CUDA's by default.
        say: told when a step runs eagerly for want of a graph.

    Raises:
        ConfigError: where a step cannot be captured, as it reads something on the host.
    """

    def __init__(self, step: Step, graphs: Graphs | None = None, say: Callable[[str], None] = print) -> None:
        self._step, self._say = step, say
        self._graphs = CudaGraphs() if graphs is None else graphs
        self._calls: dict[Hashable, int] = {}
        self._batches: dict[torch.Size, Tensor] = {}  # what the graphs read, one for each shape
        self._captured: dict[Hashable, tuple[Callable[[], None], dict[str, Tensor]]] = {}

    @property
    def count(self) -> int:
        """Graphs captured so far."""
        return len(self._captured)

    def __call__(self, batch: Tensor, variant: Hashable = None) -> dict[str, Tensor]:
        kind = (variant, batch.shape)
        if kind not in self._captured:
            calls = self._calls[kind] = self._calls.get(kind, 0) + 1
            if calls <= WARM_UP or self.count == MOST:
                if calls == WARM_UP + 1:
                    self._say(f"more than {MOST} kinds of training steps: steps of kind {kind} are not captured")
                return self._graphs.eagerly(self._step, batch)
            self._captured[kind] = self._capture(batch)
        self._batches[batch.shape].copy_(batch)
        replay, values = self._captured[kind]
        replay()
        return values

    def _capture(self, batch: Tensor) -> tuple[Callable[[], None], dict[str, Tensor]]:
        own = self._batches.setdefault(batch.shape, torch.empty_like(batch))
        own.copy_(batch)
        try:
            return self._graphs.record(self._step, own)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            cause: BaseException = error  # that the capture could not be ended tells less than what happened in it
            while cause.__context__ is not None:
                cause = cause.__context__
            reason = str(cause).partition("\n")[0]
            raise ConfigError(
                f"this training step cannot be captured in a CUDA graph: {reason}", "set trainer.capture=false"
            ) from error
