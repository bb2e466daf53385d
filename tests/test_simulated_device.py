"""Every experiment on a device that is simulated: what can be known of a GPU without one."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shared import EXPERIMENTS, assert_same, shipped, smaller
from simulated import DEVICE, Simulated, Violation, simulated_device, step_of_the_device
from torch import Tensor

from genbench import registry
from genbench.build import build_task, make_batches
from genbench.compose import configuration
from genbench.config import COMPONENTS
from genbench.data import mnist5k
from genbench.engine import lockstep, trainer
from genbench.engine.capture import MAX_GRAPHS, WARM_UP, CapturedStep
from genbench.engine.trainer import Trainer

STEPS = WARM_UP + 4
TINY = ("tiny_binmnist", "tiny_images", "tiny_planes", "tiny_instruments")


def trained(words: list[str], captured: bool, steps: int = STEPS) -> tuple[list[dict[str, float]], Any, CapturedStep]:
    """What every step logs, the task's state afterwards, and the step itself."""
    config = configuration(*words)
    task = build_task(config, DEVICE)
    batches, step = make_batches(config, task), CapturedStep(task.training_step)
    rows = []
    for _ in range(steps):
        with step_of_the_device():
            batch, variant = batches.next(), task.prepare_step()
            values = step(batch, variant) if captured else task.training_step(*batch)
        rows.append({name: value.item() for name, value in values.items()})
    return rows, task.state_dict(), step


def kind(value: Any) -> Any:
    """A part of a configuration, but for how large its numbers are: only whether they are 0, 1 or more."""
    if isinstance(value, dict):
        return tuple((key, kind(part)) for key, part in value.items())
    if isinstance(value, list):
        return tuple(map(kind, value))
    return min(math.ceil(value), 2) if isinstance(value, (int, float)) else value


def one_of_each_kind() -> list[str]:
    """Of the experiments whose training steps consist of the same operations, the first."""
    found: dict[Any, str] = {}
    for name in EXPERIMENTS:
        config = shipped(name)
        parts = [getattr(config, component) for component in COMPONENTS if component != "dataset"]
        found.setdefault(kind(parts), name)
    return list(found.values())


@pytest.mark.usefixtures(*TINY)
@pytest.mark.parametrize("experiment", one_of_each_kind())
def test_training_steps_do_not_wait_and_can_be_captured(experiment: str, data_root: Path) -> None:
    """No read by the host, no tensors of two devices, no copy that waits; and replayed, with a learning rate that
    falls meanwhile, the steps do what they do one by one, to the last bit."""
    words = [f"experiment={experiment}", f"data_root={data_root}", "optimizer.milestones=[5]", "trainer.batch_size=4"]
    words += smaller(experiment)
    with simulated_device(captures=True):
        eager, expected, _ = trained(words, captured=False)
        replayed, found, step = trained(words, captured=True)
    assert replayed == eager
    assert_same(found, expected)
    assert 0 < step.count <= MAX_GRAPHS


@pytest.mark.usefixtures(*TINY)
@pytest.mark.parametrize(
    ("experiment", "words", "graphs"),
    [
        ("vae-mnist5k", ("loss.kl_anneal_steps=9",), 1),
        ("flow-arcs-density-k2", ("loss.anneal_steps=5",), 1),
        ("pixelvae-mnist5k", ("task.pixelcnn_from_step=6", *smaller("pixelvae-mnist5k")), 1),
        ("mnist5k-gan", ("task.critic_steps=2", "regularizer.every=3"), 3),
        ("dirac-w1-3", ("optimizer=adam", "task.ema=0.9"), 1),
        ("dirac-w1-1", ("optimizer=rmsprop",), 1),
        ("dirac-w1-1", ("optimizer=rmsprop", "optimizer.momentum=0.9"), 1),
        ("dirac-w1-1", ("optimizer.momentum=0.9", "optimizer.max_norm=0.1"), 1),
    ],
)
def test_what_changes_from_step_to_step_is_seen_by_a_captured_step(
    experiment: str, words: tuple[str, ...], graphs: int, data_root: Path
) -> None:
    steps = graphs * (WARM_UP + 3)
    with simulated_device(captures=True):
        overrides = [f"experiment={experiment}", f"data_root={data_root}", *words]
        eager, expected, _ = trained(overrides, captured=False, steps=steps)
        replayed, found, step = trained(overrides, captured=True, steps=steps)
    assert replayed == eager
    assert_same(found, expected)
    assert step.count == graphs


RUNS = {
    "adversarial": ("experiment=dirac-w1-8", "task=adversarial", "task.ema=0.9"),
    "autoregressive": ("experiment=pixelcnn-mnist5k", "model.channels=2", "model.blocks=1"),
    "density": ("experiment=flow-arcs-samples-k2",),
    "dirac": ("experiment=dirac-jsd-8",),
    "divergence": ("experiment=divergence-w1", "regularizer=gp"),
    "energy": ("experiment=flow-arcs-density-k2",),
    "image-flow": (
        "experiment=realnvp-mnist5k",
        "model.couplings=2",
        *smaller("realnvp-mnist5k"),
        "task.importance_samples=2",
    ),
    "image-gan": ("experiment=cifar10-ns-r1-resnet", *smaller("cifar10-ns-r1-resnet"), "task.classes=true"),
    "variational": (
        "experiment=pixelvae-iaf-mnist5k",
        *smaller("pixelvae-iaf-mnist5k"),
        "task.pixelcnn_from_step=2",
        "task.importance_images=50",
        "task.annealed_images=3",
        "task.annealing_steps=5",
        "task.annealing_chains=2",
    ),
}
# Tasks whose models may be class-conditional, once more with labels.
CONDITIONAL = {
    "autoregressive-conditional": (
        "experiment=pixelcnn-gated-mnist5k-conditional",
        *smaller("pixelcnn-gated-mnist5k-conditional"),
    ),
    "image-gan-conditional": (
        "experiment=cifar10-sngan-projection",
        *smaller("cifar10-sngan-projection"),
        "task.classes=true",
    ),
    "variational-conditional": ("experiment=vae-mnist5k-conditional", "model.width=8", "task.importance_samples=10"),
}
SHORT = ("trainer.max_steps=6", "trainer.evaluate_every=2", "trainer.log_every=1", "trainer.batch_size=8")


def logged(directory: Path) -> list[tuple[int, str, float]]:
    (path,) = directory.glob("*/*/metrics.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["step"], row["metric"], row["value"]) for row in rows]


def compare_with_golden(task: str, numbers: list[tuple[int, str, float]], write: bool) -> None:
    """Every number that a short run logs, beside those of an earlier version: a change of numbers is seen.

    `python -m pytest tests/test_simulated_device.py --write-golden` takes over the new ones, for a commit that
    explains them.
    """
    path = Path(__file__).parent / "golden" / f"{task}.json"
    if write:
        path.parent.mkdir(exist_ok=True)
        path.write_text("[\n" + ",\n".join(json.dumps(row) for row in numbers) + "\n]\n", encoding="utf-8")
    for (*what, found), (*expected, value) in zip(numbers, json.loads(path.read_text(encoding="utf-8")), strict=True):
        assert what == expected
        assert found == pytest.approx(value, rel=2e-5, abs=2e-6), what


def pictures(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("*/*/*/*.png")}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training of a whole run, with what stands between two steps of it, must not wait for the device."""
    take_steps = trainer.take_steps

    def watch(*arguments: Any) -> float:
        with step_of_the_device():
            return take_steps(*arguments)

    for module in (trainer, lockstep):
        monkeypatch.setattr(module, "take_steps", watch)


@pytest.fixture
def small_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The middle of a few of the 5000 digits: drawn pixel by pixel, they are soon done."""
    read = mnist5k._read

    def cut(source: Path, binarized: bool) -> dict[str, np.ndarray]:
        arrays = {name: array[:100] for name, array in read(source, binarized).items()}
        return {
            name: array if name.endswith("labels") else np.ascontiguousarray(array[..., 10:18, 10:18])
            for name, array in arrays.items()
        }

    monkeypatch.setattr(mnist5k, "_read", cut)


def test_there_is_a_run_for_every_task() -> None:
    assert sorted(RUNS) == registry.known("task")


@pytest.mark.usefixtures(*TINY, "watched", "small_digits", "coarse")
@pytest.mark.parametrize("task", [*RUNS, *CONDITIONAL])
def test_a_run_gives_the_numbers_of_the_cpu(
    task: str,
    genbench: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """And those that it gave before, but for the order in which a processor adds up.

    Stopped and resumed, bit for bit and picture for picture; without float64, as nearly as sums in float32.
    """
    words = (*(RUNS | CONDITIONAL)[task], *SHORT)
    assert genbench(*words, "output_root=cpu", "device=cpu") == 0
    stop, numbers = Trainer.next_stop, logged(tmp_path / "cpu")
    compare_with_golden(task, numbers, write=request.config.getoption("--write-golden"))

    def stop_after_three(run: Trainer) -> int:
        if run.progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return min(3, stop(run)) if run.progress.step < 3 else stop(run)

    with simulated_device():
        monkeypatch.setattr(Trainer, "next_stop", stop_after_three)
        assert genbench(*words, "output_root=device", "device=cpu") == 143
        monkeypatch.setattr(Trainer, "next_stop", stop)
        assert genbench(*words, "output_root=device", "device=cpu") == 0
    assert logged(tmp_path / "device") == numbers
    assert pictures(tmp_path / "device") == pictures(tmp_path / "cpu")

    with simulated_device(float64=False, captures=True):  # and learning rates in float32
        assert genbench(*words, "output_root=single", "device=cpu") == 0
    for (*what, found), (*expected, value) in zip(logged(tmp_path / "single"), numbers, strict=True):
        assert what == expected
        assert found == pytest.approx(value, rel=1e-5, abs=1e-6), what


ENSEMBLE = ("experiment=flow-toy-suite", "ensemble.experiments=[flow-arcs-samples-k2,flow-arcs-density-k2]")


@pytest.mark.usefixtures("tiny_planes", "watched", "coarse")
@pytest.mark.parametrize("captures", [False, True])
def test_an_ensemble_gives_the_numbers_of_the_cpu(
    genbench: Callable[..., int], tmp_path: Path, captures: bool
) -> None:
    """Its steps neither wait nor read what changes on the host; with graphs, the learning rate falls meanwhile."""
    words = (*ENSEMBLE, "ensemble.replicas=2", "optimizer.milestones=[4]", "device=cpu")
    words = (*words, "trainer.max_steps=9", "trainer.evaluate_every=3", "trainer.log_every=3", "trainer.batch_size=8")
    found: dict[str, list[list[tuple[int, str, float]]]] = {}
    assert genbench(*words, "output_root=cpu") == 0
    with simulated_device(captures=captures):
        assert genbench(*words, "output_root=device") == 0
    for root in ("cpu", "device"):
        found[root] = [
            [(row["step"], row["metric"], row["value"]) for row in map(json.loads, path.read_text().splitlines())]
            for path in sorted((tmp_path / root).glob("*/*/metrics.jsonl"))
        ]
    assert len(found["cpu"]) == 4
    for one, other in zip(found["device"], found["cpu"], strict=True):
        for (*what, value), (*expected, number) in zip(one, other, strict=True):
            assert what == expected
            assert value == pytest.approx(number, rel=1e-5, abs=1e-6), what
    summaries = [json.loads(path.read_text()) for path in (tmp_path / "device").glob("*/*/summary.json")]
    assert [row["captured_graphs"] for row in summaries] == [int(captures)] * 4


# What the simulated device itself minds


HOST_READS = {
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "bool": lambda x: bool(x.sum() > 0),
    "float": lambda x: float(x[0]),
    "cpu": lambda x: x.cpu(),
    "nonzero": lambda x: x.nonzero(),
    "a mask": lambda x: x[x > 0],
    "where": lambda x: torch.where(x > 0),
    "unique": lambda x: x.unique(),
    "equal": lambda x: torch.equal(x, x),
    "a list": lambda x: torch.tensor([1.0, 2.0], device=DEVICE),
    "a copy": lambda x: torch.ones(3).to(DEVICE),
    "a pinned copy that blocks": lambda x: torch.ones(3).pin_memory().to(DEVICE),
    "a copy into": lambda x: x.copy_(torch.ones(4)),
}


@pytest.mark.parametrize("name", HOST_READS)
def test_a_step_in_which_the_host_waits(name: str) -> None:
    with simulated_device():
        x = torch.arange(4.0, device=DEVICE)
        HOST_READS[name](x)  # between steps it may
        with step_of_the_device(), pytest.raises(Violation, match="in a training step"):
            HOST_READS[name](x)


def test_what_a_step_may_do() -> None:
    with simulated_device(), step_of_the_device():
        x = torch.randn(4, device=DEVICE)
        x.fill_(2.0).copy_(torch.ones(4).pin_memory(), non_blocking=True)
        x[1] = 5.0
        y = torch.where(x > 0, x, 0) + torch.full((), 0.5)  # a number on the CPU is an argument, not a tensor
    assert isinstance(y, Simulated)
    assert y.tolist() == [1.5, 5.5, 1.5, 1.5]


def test_tensors_of_two_devices() -> None:
    with simulated_device():
        x = torch.ones(3, device=DEVICE)
        with pytest.raises(Violation, match=r"\[3\] on the CPU meets one on the device"):
            x + torch.ones(3)
        with pytest.raises((TypeError, RuntimeError)):
            x.numpy()


def test_a_device_without_float64() -> None:
    with simulated_device(float64=False):
        x = torch.ones(3, device=DEVICE)
        for make in (lambda: x.double(), lambda: torch.zeros(3, dtype=torch.float64, device=DEVICE)):
            with pytest.raises(Violation, match="no float64"):
                make()
        assert x.cpu().double().dtype == torch.float64


@pytest.mark.usefixtures("tiny_planes")
@pytest.mark.parametrize(("capture", "graphs"), [("true", 1), ("false", 0)])
def test_steps_are_captured_unless_that_is_turned_off(
    capture: str, graphs: int, genbench: Callable[..., int], tmp_path: Path
) -> None:
    with simulated_device(captures=True):
        words = ("experiment=dirac-jsd-8", "trainer.max_steps=20", f"trainer.capture={capture}")
        assert genbench(*words, "device=cpu") == 0
    (path,) = tmp_path.glob("outputs/*/*/summary.json")
    assert json.loads(path.read_text())["captured_graphs"] == graphs


@pytest.mark.parametrize("where", ["in the host's number", "in a stale tensor"])
def test_a_step_that_cannot_be_captured_is_found_out(where: str, data_root: Path) -> None:
    """Both ways in which β of an annealed flow could be missed by a captured step."""

    def stale(task: Any) -> dict[str, Tensor]:
        task.updates += 1
        value = task.loss.beta(task.updates)
        beta = value if where == "in the host's number" else torch.full((), value, device=DEVICE)
        return task._gradients(torch.ones(4, 2, device=DEVICE), torch.as_tensor(beta))

    with simulated_device(captures=True):
        task = build_task(configuration("experiment=flow-arcs-density-k2", f"data_root={data_root}"), DEVICE)
        losses = []
        task.training_step = lambda batch: stale(task)
        step = CapturedStep(task.training_step)
        for _ in range(WARM_UP + 3):
            step((torch.ones(4, 2, device=DEVICE),))
            losses.append([parameter.grad.tolist() for parameter in task.model.parameters()])
    assert losses[0] != losses[1] != losses[2]  # the eager ones
    assert losses[-1] == losses[-2]
