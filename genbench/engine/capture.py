"""A whole training step as one CUDA graph: its kernels are launched at once, without Python in between.

A replayed step repeats the recorded operations on the same memory, so it may read only tensors on the device.
`Task.prepare_step` writes to these tensors what changes from step to step, or returns another kind of step.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from genbench.engine.batches import Batch
from genbench.errors import ConfigError, first_line

__all__ = ["CapturedStep", "CudaGraphs", "Graphs", "can_capture"]

Step = Callable[..., dict[str, Tensor]]
"""The tensors of a batch → values on the device."""

# In the first calls libraries choose algorithms and allocate workspaces, which must not be captured.
WARM_UP = 3
# Kinds of steps with a graph of their own; the others run eagerly.
MAX_GRAPHS = 8


def can_capture(device: torch.device) -> bool:
    """Whether steps on this device can be captured."""
    return device.type == "cuda"


class Graphs(Protocol):
    """How steps are recorded and replayed."""

    def eagerly(self, step: Step, batch: Batch) -> dict[str, Tensor]:
        """Run a step without recording it, in the way required before a recording."""

    def record(self, step: Step, batch: Batch) -> tuple[Callable[[], None], dict[str, Tensor]]:
        """Record a step on `batch` without performing it.

        Returns a function that performs the step on the current contents of `batch`, and the tensors that it
        writes the step's values to.
        """


class CudaGraphs:
    """Graphs that share one memory pool: they run one at a time, and the values of each are read before the next."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def eagerly(self, step: Step, batch: Batch) -> dict[str, Tensor]:
        """On a side stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            values = step(*batch)
        torch.cuda.current_stream().wait_stream(self._stream)
        return values

    def record(self, step: Step, batch: Batch) -> tuple[Callable[[], None], dict[str, Tensor]]:
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        with _no_garbage_collection():
            try:
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                    values = step(*batch)
            except BaseException:
                torch.cuda.set_stream(current)  # PyTorch does not restore it if ending the capture fails
                raise
        return graph.replay, values


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect garbage before the block, not within it: destroying an earlier run's graphs would end the capture."""
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

    Each kind of step, given by `variant` and the shapes of the batch, has its own graph, up to MAX_GRAPHS. The eager
    steps are ordinary training steps, so a captured run takes the same steps on the same random numbers as an eager
    one. The returned values live in the graph's memory: the next call overwrites them.

    Args:
        step: the tensors of a batch → values on the device.
        graphs: how to record it; CUDA's by default.
        say: receives a message when a kind of step stays eager because there are too many.

    Raises:
        ConfigError: if a step cannot be captured because the host reads a value from the device.
    """

    def __init__(self, step: Step, graphs: Graphs | None = None, say: Callable[[str], None] = print) -> None:
        self._step, self._say = step, say
        self._graphs = CudaGraphs() if graphs is None else graphs
        self._calls: dict[Hashable, int] = {}
        self._batches: dict[tuple[torch.Size, ...], Batch] = {}  # the graphs' inputs, one for each shape
        self._captured: dict[Hashable, tuple[Callable[[], None], dict[str, Tensor]]] = {}

    @property
    def count(self) -> int:
        """Graphs captured so far."""
        return len(self._captured)

    def __call__(self, batch: Batch, variant: Hashable = None) -> dict[str, Tensor]:
        shapes = tuple(tensor.shape for tensor in batch)
        kind = (variant, shapes)
        if kind not in self._captured:
            calls = self._calls[kind] = self._calls.get(kind, 0) + 1
            if calls <= WARM_UP or self.count == MAX_GRAPHS:
                if calls == WARM_UP + 1:
                    self._say(
                        f"more than {MAX_GRAPHS} kinds of training steps: steps of kind {kind} are not captured"
                    )
                return self._graphs.eagerly(self._step, batch)
            self._captured[kind] = self._capture(batch, shapes)
        self._take_in(batch, shapes)
        replay, values = self._captured[kind]
        replay()
        return values

    def _take_in(self, batch: Batch, shapes: tuple[torch.Size, ...]) -> Batch:
        """Copy a batch to where the graphs of its shapes read it."""
        if shapes not in self._batches:
            self._batches[shapes] = tuple(torch.empty_like(tensor) for tensor in batch)
        for own, tensor in zip(self._batches[shapes], batch, strict=True):
            own.copy_(tensor)
        return self._batches[shapes]

    def _capture(self, batch: Batch, shapes: tuple[torch.Size, ...]) -> tuple[Callable[[], None], dict[str, Tensor]]:
        own = self._take_in(batch, shapes)
        try:
            return self._graphs.record(self._step, own)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            cause: BaseException = error  # the first error explains more than the failure to end the capture
            while cause.__context__ is not None:
                cause = cause.__context__
            raise ConfigError(
                f"this training step cannot be captured in a CUDA graph: {first_line(cause)}",
                "set trainer.capture=false",
            ) from error
