"""Which steps are captured, and how many graphs there are; that they do the same is in test_simulated_device."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genbench.engine import capture
from genbench.engine.batches import Batch
from genbench.engine.capture import MAX_GRAPHS, WARM_UP, CapturedStep
from genbench.errors import ConfigError


class Counting:
    """Graphs that only remember what they are asked for."""

    def __init__(self) -> None:
        self.eager = self.recorded = self.replayed = 0

    def eagerly(self, step: capture.Step, batch: Batch) -> dict[str, Tensor]:
        self.eager += 1
        return step(*batch)

    def record(self, step: capture.Step, batch: Batch) -> tuple[Callable[[], None], dict[str, Tensor]]:
        self.recorded += 1
        values = {"sum": torch.zeros(())}

        def replay() -> None:
            self.replayed += 1
            values["sum"].copy_(step(*batch)["sum"])

        return replay, values


def total(batch: Tensor) -> dict[str, Tensor]:
    return {"sum": batch.sum()}


def test_each_kind_of_step_has_a_graph() -> None:
    graphs = Counting()
    step = CapturedStep(total, graphs)
    for i in range(WARM_UP + 2):
        for batch in (torch.full((4,), float(i)), torch.full((3,), float(i))):
            for variant in ("penalized", "plain"):
                assert step((batch,), variant)["sum"] == batch.sum()
    kinds = 4
    assert step.count == graphs.recorded == kinds
    assert (graphs.eager, graphs.replayed) == (kinds * WARM_UP, kinds * 2)


def test_a_batch_of_several_tensors_is_taken_in_whole() -> None:
    """Each is copied to the memory that its graph reads; shapes are those of all of them."""
    graphs = Counting()
    step = CapturedStep(lambda images, labels: {"sum": (images * labels).sum()}, graphs)
    for i in range(WARM_UP + 3):
        for rows in (4, 3):
            images, labels = torch.full((rows,), float(i)), torch.arange(rows) + i
            assert step((images, labels))["sum"] == (images * labels).sum()
    assert (step.count, graphs.replayed) == (2, 6)


def test_the_number_of_graphs_is_bounded_and_said_once_for_each_kind_beyond() -> None:
    graphs, said = Counting(), []
    step = CapturedStep(total, graphs, say=said.append)
    for _ in range(WARM_UP + 3):
        for variant in range(MAX_GRAPHS + 2):
            assert step((torch.ones(3),), variant)["sum"] == 3
    assert step.count == graphs.recorded == MAX_GRAPHS
    assert len(said) == 2
    assert f"more than {MAX_GRAPHS} kinds of training steps" in said[0]


def test_a_step_that_cannot_be_captured_is_a_clear_message() -> None:
    """PyTorch's second error, that the capture cannot be ended, is not the one that tells why."""

    class Failing(Counting):
        def record(self, step: capture.Step, batch: Batch) -> tuple[Callable[[], None], dict[str, Tensor]]:
            try:
                raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might …")
            finally:
                raise RuntimeError("operation failed due to a previous error during capture")

    step = CapturedStep(total, Failing())
    for _ in range(WARM_UP):
        step((torch.ones(3),))
    with pytest.raises(ConfigError, match=r"cannot be captured.*: operation not permitted [^\n]*\n.*capture=false"):
        step((torch.ones(3),))


def test_want_of_memory_is_not_a_step_that_cannot_be_captured() -> None:
    class Full(Counting):
        def record(self, step: capture.Step, batch: Batch) -> tuple[Callable[[], None], dict[str, Tensor]]:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    step = CapturedStep(total, Full())
    for _ in range(WARM_UP):
        step((torch.ones(3),))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        step((torch.ones(3),))
