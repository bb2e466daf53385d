"""Batches, averages, meters, interrupts, devices: the small parts of the engine."""

from __future__ import annotations

import os
import random
import signal

import numpy as np
import pytest
import torch
from torch import nn

from genbench.config import LARGEST_SEED
from genbench.engine import device as devices
from genbench.engine.batches import Batches
from genbench.engine.ema import ExponentialMovingAverage
from genbench.engine.interrupts import Interrupted, Interrupts
from genbench.engine.meters import Meters

CPU = torch.device("cpu")


@pytest.mark.parametrize("per_step", [1, 2])
def test_the_same_rows_of_several_tensors(per_step: int) -> None:
    """In the order of one tensor, after resuming, too."""
    rows = torch.arange(10)
    alone = Batches((rows,), 3, seed=0, per_step=per_step)
    batches = Batches((rows, 100 + rows, rows.view(-1, 1).expand(-1, 2)), 3, seed=0, per_step=per_step)
    for step in range(8):
        (expected,) = alone.next()
        first, second, third = batches.next()
        assert torch.equal(first, expected) and torch.equal(second, 100 + expected)
        assert torch.equal(third, expected.view(-1, 1).expand(-1, 2))
        if step == 4:
            state = batches.state_dict()
            batches = Batches(batches.data, 3, seed=7, per_step=per_step)
            batches.load_state_dict(state)


def test_tensors_of_different_lengths_are_no_rows() -> None:
    with pytest.raises(ValueError, match="different lengths: 10, 9"):
        Batches((torch.arange(10), torch.arange(9)), 3, seed=0)


@pytest.mark.parametrize(("drop_last", "steps", "last"), [(False, 4, 1), (True, 3, 3)])
def test_an_epoch_holds_every_row_once(drop_last: bool, steps: int, last: int) -> None:
    batches = Batches((torch.arange(10),), 3, seed=0, drop_last=drop_last)
    assert batches.steps_per_epoch == steps
    for _ in range(3):
        drawn = [batches.next()[0] for _ in range(steps)]
        assert [len(batch) for batch in drawn] == [3] * (steps - 1) + [last]
        rows = torch.cat(drawn).tolist()
        assert len(set(rows)) == len(rows)
        assert drop_last or sorted(rows) == list(range(10))


def test_epochs_differ_and_the_seed_decides() -> None:
    def order(seed: int) -> list[int]:
        batches = Batches((torch.arange(100),), 10, seed)
        return torch.cat([batches.next()[0] for _ in range(20)]).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1)[:100] != order(1)[100:]


@pytest.mark.parametrize("position", [0, 1, 3, 4, 6])
def test_the_stream_goes_on_from_its_state(position: int) -> None:
    batches = Batches((torch.arange(10),), 3, seed=0)
    for _ in range(position):
        batches.next()
    saved = batches.state_dict()
    expected = [batches.next()[0].tolist() for _ in range(9)]
    other = Batches((torch.arange(10),), 3, seed=77)
    other.load_state_dict(saved)
    assert [other.next()[0].tolist() for _ in range(9)] == expected


def test_the_average_is_the_geometric_sum_of_the_past() -> None:
    network = nn.Linear(2, 1, bias=False).double()
    history = [network.weight.detach().clone()]
    average = ExponentialMovingAverage(network, decay=0.9)
    for _ in range(5):
        with torch.no_grad():
            network.weight += torch.randn_like(network.weight)
        history.append(network.weight.detach().clone())
        average.update()
    expected = 0.9**5 * history[0] + sum(0.1 * 0.9 ** (5 - t) * history[t] for t in range(1, 6))
    torch.testing.assert_close(average.network.weight, expected, rtol=1e-12, atol=1e-12)
    assert not any(p.requires_grad for p in average.network.parameters())


def test_the_average_copies_buffers() -> None:
    network = nn.BatchNorm1d(3)
    average = ExponentialMovingAverage(network, decay=0.5)
    network(torch.randn(8, 3))
    average.update()
    assert torch.equal(average.network.running_mean, network.running_mean)
    assert average.network.num_batches_tracked == 1


def test_meters_average_since_the_last_reading() -> None:
    meters = Meters()
    assert meters.read() == {}
    for value in (1.0, 2.0, 6.0):
        meters.add({"a": torch.tensor(value), "b": torch.tensor(-value)})
    assert meters.read() == {"a": 3.0, "b": -3.0}
    assert meters.read() == {}
    meters.add({"a": torch.tensor(float("nan")), "b": torch.tensor(0.0)})
    meters.add({"a": torch.tensor(1.0), "b": torch.tensor(0.0)})
    assert np.isnan(meters.read()["a"])


def test_meters_do_not_alter_what_they_are_given() -> None:
    value = torch.tensor(1.0)
    meters = Meters()
    meters.add({"a": value})
    meters.add({"a": value})
    assert value == 1


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_waits_until_it_does_no_harm(signum: int) -> None:
    before = signal.getsignal(signum)
    with Interrupts() as interrupts:
        interrupts.check()
        os.kill(os.getpid(), signum)
        assert interrupts.pending == signum
        with pytest.raises(Interrupted) as stop:
            interrupts.check()
    assert stop.value.exit_code == 128 + signum
    assert signal.getsignal(signum) is before


def test_a_signal_ends_what_may_be_interrupted() -> None:
    with Interrupts() as interrupts:
        with pytest.raises(Interrupted), interrupts.interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the signal did not raise")
        os.kill(os.getpid(), signal.SIGTERM)  # held again
        with pytest.raises(Interrupted), interrupts.interruptible():
            pytest.fail("a block began though a signal had come")


def test_a_second_signal_does_not_disturb_what_the_first_one_set_off() -> None:
    tidied = False
    with Interrupts() as interrupts, pytest.raises(Interrupted), interrupts.interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            tidied = True
    assert tidied


def test_signals_that_are_ignored_stay_ignored() -> None:
    """By nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            interrupts.check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_who_handled_a_signal_before_handles_it_at_the_end() -> None:
    """A scheduler's library, which puts the job back into its queue, when everything is saved."""
    told: list[str] = []
    before = signal.signal(signal.SIGUSR2, lambda *_: told.append("the scheduler"))
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGUSR2)
            with pytest.raises(Interrupted, match="SIGUSR2"):
                interrupts.check()
            told.append("saved")
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert told == ["saved", "the scheduler"]


def test_a_second_interrupt_ends_the_process_as_python_would() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_the_first_interrupt_after_another_signal_lets_the_run_be_saved() -> None:
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.pending == signal.SIGINT
        interrupts.pending = None


def test_rng_state_round_trip() -> None:
    devices.seed_everything(3, deterministic=False)
    saved = devices.rng_state(CPU)
    expected = (random.random(), np.random.rand(), torch.rand(3))  # noqa: NPY002
    devices.set_rng_state(saved, CPU)
    assert random.random() == expected[0]
    assert np.random.rand() == expected[1]  # noqa: NPY002
    assert torch.equal(torch.rand(3), expected[2])


def test_measuring_does_not_disturb_training() -> None:
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    with devices.isolated_rng(5, CPU):
        torch.rand(100)
    assert torch.equal(torch.rand(4), expected)


def test_the_largest_seed_has_successors() -> None:
    """Scores are of samples of the next seed."""
    drawn = []
    for seed in (LARGEST_SEED, LARGEST_SEED + 1):
        with devices.isolated_rng(seed, CPU):
            drawn.append(torch.rand(4))
    assert not torch.equal(*drawn)


def test_a_step_may_take_several_batches() -> None:
    batches = Batches((torch.arange(10),), 3, seed=0, per_step=3)
    assert batches.steps_per_epoch == 1
    drawn = [batches.next()[0] for _ in range(4)]  # an epoch's three full batches each; its last row is left out
    assert all(len(rows) == 9 and len(rows.unique()) == 9 for rows in drawn)
    assert len({tuple(rows.tolist()) for rows in drawn}) == 4
    one_row = Batches((torch.zeros(1, 1),), 1, seed=0, per_step=5)
    assert one_row.next()[0].shape == (5, 1)
