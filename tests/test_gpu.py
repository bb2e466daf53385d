"""What only a CUDA device can show. Skipped where there is none; see test_simulated_device for the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from shared import smaller

from genbench.build import build_task, make_batches
from genbench.compose import configuration
from genbench.engine import device as devices
from genbench.engine.batches import Batches
from genbench.engine.capture import WARM_UP, CapturedStep
from genbench.engine.task import Task
from genbench.metrics import fidelity

pytestmark = pytest.mark.gpu

TINY = ("tiny_binmnist", "tiny_images", "tiny_planes", "tiny_instruments")
# One of every task, model and kind of penalty.
KINDS = (
    "vae-mnist5k",
    "vae-mnist5k-conv",
    "vae-mnist5k-gaussian-mc",
    "pixelvae-iaf-mnist5k",
    "iwae-mnist5k-k50",
    "pixelcnn-mnist5k",
    "pixelcnn-gated-mnist5k",
    "realnvp-mnist5k",
    "realnvp-mnist-multiscale",
    "cifar10-jsd-3",
    "cifar10-w1-4",
    "cifar10-hinge-sn-resnet",
    "cifar10-relativistic-r1r2",
    "mnist5k-gan",
    "divergence-w1",
    "dirac-jsd-8",
    "flow-arcs-samples-k8",
    "flow-arcs-density-k8",
)


def build(experiment: str, data_root: Path, *words: str) -> tuple[Task, Batches]:
    config = configuration(f"experiment={experiment}", f"data_root={data_root}", *smaller(experiment), *words)
    task = build_task(config, devices.resolve("cuda"))
    return task, make_batches(config, task)


@pytest.fixture(autouse=True)
def _nondeterministic_afterwards() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


def only_run(tmp_path: Path) -> Path:
    (path,) = tmp_path.glob("outputs/*/*/summary.json")
    return path.parent


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_a_run_on_the_gpu(genbench: Callable[..., int], tmp_path: Path, device: str) -> None:
    assert genbench("experiment=vae-mnist5k", f"device={device}", "trainer.max_steps=20") == 0
    summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
    assert summary["status"] == "done"
    assert summary["device"] == torch.cuda.get_device_name()
    assert summary["captured_graphs"] == 1


@pytest.mark.usefixtures(*TINY)
@pytest.mark.parametrize("experiment", KINDS)
def test_a_training_step_never_waits_for_the_device(experiment: str, data_root: Path) -> None:
    """PyTorch itself reports every synchronizing call."""
    task, batches = build(experiment, data_root)

    def steps(count: int) -> None:
        for _ in range(count):
            batch = batches.next()
            task.prepare_step()
            task.training_step(*batch)

    steps(WARM_UP)  # the first steps set up kernels and optimizer states
    torch.cuda.set_sync_debug_mode("error")
    try:
        steps(3)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures(*TINY)
@pytest.mark.parametrize("experiment", KINDS)
def test_captured_and_eager_steps_give_the_same_losses(experiment: str, data_root: Path) -> None:
    """On the same random numbers, with kernels that sum in a fixed order; the learning rate falls meanwhile."""
    losses = []
    for captured in (False, True):
        task, batches = build(experiment, data_root, "deterministic=true", "optimizer.milestones=[10]")
        step = (
            CapturedStep(task.training_step) if captured else lambda batch, _, task=task: task.training_step(*batch)
        )
        rows = []
        for _ in range(30):
            values = step(batches.next(), task.prepare_step())
            rows.append(torch.stack([value.clone() for _, value in sorted(values.items()) if "penalty" not in _]))
        losses.append(torch.stack(rows))
    assert losses[0].isfinite().all()
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("tiny_planes")
def test_an_ensemble_is_captured(genbench: Callable[..., int], tmp_path: Path) -> None:
    """And gives the numbers of its runs alone."""
    name, words = "flow-arcs-density-k8", ("trainer.max_steps=20", "trainer.log_every=5", "device=cuda")
    assert genbench("experiment=flow-toy-suite", "ensemble.replicas=2", *words) == 0
    assert genbench(f"experiment={name}", "output_root=alone", *words) == 0
    paths = list((tmp_path / "outputs").glob("*/*/summary.json"))
    assert [json.loads(path.read_text())["captured_graphs"] for path in paths] == [1] * 24
    values = []
    for root in ("outputs", "alone"):
        (path,) = (tmp_path / root / name).glob("*seed=1-*/metrics.jsonl")
        values.append([json.loads(line)["value"] for line in path.read_text().splitlines()])
    assert values[0] == pytest.approx(values[1], rel=1e-4, abs=1e-4)


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_captured_gan_run(genbench: Callable[..., int], tmp_path: Path, precision: str) -> None:
    words = ("task.fid_samples=16", "task.fid_reference=16", "task.final_samples=16", "task.batch_norm_batches=2")
    run = ("trainer.max_steps=30", "trainer.evaluate_every=10", f"trainer.precision={precision}", "model.width=8")
    assert genbench("experiment=cifar10-jsd-3", "device=cuda", *run, *words) == 0
    summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
    assert summary["status"] == "done"
    assert summary["arithmetic"] == precision


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
@pytest.mark.parametrize("experiment", ["vae-mnist5k", "cifar10-jsd-3", "realnvp-mnist5k"])
def test_a_resumed_run_takes_the_same_steps(
    genbench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], experiment: str
) -> None:
    """Bit for bit, where kernels sum in a fixed order: the first steps after resuming run eagerly, the others as a
    graph, whose random numbers go on from the checkpoint's."""
    words = (f"experiment={experiment}", *smaller(experiment), "device=cuda", "deterministic=true")
    words += ("trainer.epochs=null", "trainer.max_steps=20", "trainer.checkpoint_every=10", "trainer.log_every=1")
    assert genbench(*words) == 0
    run = only_run(tmp_path)
    rows = (run / "metrics.jsonl").read_text().splitlines()
    (run / "checkpoints" / "step-000000020.pt").unlink()
    (run / "status.json").unlink()
    assert genbench(*words) == 0
    again = (run / "metrics.jsonl").read_text().splitlines()
    assert "resumes from step 10" in capsys.readouterr().out
    first, second = ([json.loads(row) for row in lines if '"train/' in row] for lines in (rows, again))
    assert [(row["metric"], row["step"], row["value"]) for row in second] == [
        (row["metric"], row["step"], row["value"]) for row in first
    ]


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_moves_between_devices(genbench: Callable[..., int], tmp_path: Path, first: str, second: str) -> None:
    """The weights' layout changes on the way, and the optimizer's moments with it."""
    words = ("experiment=cifar10-jsd-3", "model.width=8", "task.fid_samples=null", "task.final_samples=null")
    words += (
        "task.batch_norm_batches=2",
        "trainer.checkpoint_every=5",
        "trainer.log_every=1",
        "trainer.max_steps=10",
    )
    assert genbench(*words, f"device={first}") == 0
    run = only_run(tmp_path)
    losses = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (run / "checkpoints" / "step-000000010.pt").unlink()
    (run / "status.json").unlink()
    assert genbench(*words, f"device={second}") == 0
    again = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    penalties = [[row["value"] for row in rows if row["metric"] == "train/penalty"] for rows in (losses, again)]
    assert len(penalties[1]) == 10
    assert penalties[1][5:] == pytest.approx(penalties[0][5:], rel=0.5)  # other latents, the same weights


def test_a_deterministic_job_after_another(genbench: Callable[..., int], tmp_path: Path) -> None:
    """cuBLAS reads its settings once in a process."""
    assert genbench("-m", "experiment=vae-mnist5k", "deterministic=false,true", "trainer.max_steps=5") == 0


def test_the_distance_of_features_is_computed_on_the_device() -> None:
    """In float64, as on a CPU."""
    generator = torch.Generator().manual_seed(0)
    pools = [torch.randn(500, 256, generator=generator) for _ in range(2)]
    device = devices.resolve("cuda")
    there, here = ([fidelity.statistics(pool.to(where)) for pool in pools] for where in (device, "cpu"))
    assert there[0].sigma.device == device
    assert fidelity.frechet_distance(*there) == pytest.approx(fidelity.frechet_distance(*here), rel=1e-9)
