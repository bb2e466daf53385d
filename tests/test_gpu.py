"""What only a CUDA device can show. Skipped where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from genbench import cli
from genbench.config import Config
from genbench.engine.batches import Batches
from genbench.engine.capture import CapturedStep
from genbench.engine.ema import ExponentialMovingAverage
from genbench.engine.task import Task
from genbench.run import build_task

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("experiment", ["vae-mnist5k", "dirac-jsd-8"])
def test_a_run_on_the_gpu(genbench: Callable[..., int], tmp_path: Path, experiment: str) -> None:
    assert genbench(f"experiment={experiment}", "device=cuda", "trainer.max_steps=20") == 0
    (run,) = (tmp_path / "outputs" / experiment).iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "done"
    assert summary["device"] == torch.cuda.get_device_name()


def test_auto_takes_the_gpu(genbench: Callable[..., int], tmp_path: Path) -> None:
    assert genbench("experiment=dirac-w1-1", "trainer.max_steps=2") == 0
    (path,) = tmp_path.glob("outputs/*/*/summary.json")
    assert json.loads(path.read_text())["device"] == torch.cuda.get_device_name()


def build(experiment: str, data_root: Path, *words: str) -> tuple[Config, Task, Batches]:
    overrides = [f"experiment={experiment}", f"data_root={data_root}", *words]
    with initialize_config_dir(str(cli.CONFIG_DIRECTORY), version_base="1.3"):
        config = cli.validate(compose("train", overrides=overrides))
    task = build_task(config, torch.device("cuda"))
    batches = Batches(task.dataset.train, config.trainer.batch_size, config.seed, per_step=task.batches_per_step)
    return config, task, batches


GAN = ("task.fid_samples=null", "task.final_samples=null", "model.width=8")


@pytest.mark.usefixtures("tiny_images")
@pytest.mark.parametrize(
    ("experiment", "words"),
    [
        ("vae-mnist5k", ()),
        ("dirac-jsd-8", ()),
        ("dirac-w1-5", ()),
        ("cifar10-jsd-3", GAN),
        ("cifar10-w1-4", GAN),
        ("cifar10-hinge-sn-resnet", GAN),
        ("cifar10-relativistic-r1r2", (*GAN, "trainer.precision=bf16")),
        ("divergence-w1", ()),
    ],
)
def test_a_training_step_never_waits_for_the_device(experiment: str, words: tuple[str, ...], data_root: Path) -> None:
    """PyTorch itself reports every synchronizing call."""
    _, task, batches = build(experiment, data_root, *words)

    def steps(count: int) -> None:
        for _ in range(count):
            batch = batches.next()
            task.prepare_step()
            task.training_step(batch)

    steps(3)  # the first steps set up kernels and optimizer states
    torch.cuda.set_sync_debug_mode("error")
    try:
        steps(3)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("tiny_images")
@pytest.mark.parametrize(
    ("experiment", "words"),
    [
        ("cifar10-jsd-3", GAN),
        ("cifar10-w1-4", (*GAN, "regularizer.every=3")),
        ("cifar10-hinge-sn-resnet", GAN),
        ("cifar10-relativistic-r1r2", GAN),
    ],
)
def test_captured_and_eager_steps_give_the_same_losses(
    experiment: str, words: tuple[str, ...], data_root: Path
) -> None:
    """For 100 steps, on the same random numbers, with kernels that sum in a fixed order."""
    losses = []
    for captured in (False, True):
        _, task, batches = build(experiment, data_root, "deterministic=true", *words)
        step = CapturedStep(task.training_step) if captured else lambda batch, _, task=task: task.training_step(batch)
        rows = []
        for _ in range(100):
            values = step(batches.next(), task.prepare_step())
            rows.append(values[f"train/{task.loss.symbol}"].clone())
        losses.append(torch.stack(rows))
    torch.use_deterministic_algorithms(False)
    assert losses[0].isfinite().all()
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_captured_gan_run(genbench: Callable[..., int], tmp_path: Path, precision: str) -> None:
    words = ("task.fid_samples=16", "task.fid_reference=16", "task.final_samples=16", "task.batch_norm_batches=2")
    run = ("trainer.max_steps=30", "trainer.evaluate_every=10", f"trainer.precision={precision}", "model.width=8")
    assert genbench("experiment=cifar10-jsd-3", "device=cuda", *run, *words) == 0
    (path,) = tmp_path.glob("outputs/*/*/summary.json")
    assert json.loads(path.read_text())["status"] == "done"


def test_the_average_follows_on_the_device() -> None:
    network = torch.nn.Linear(3, 3).cuda()
    average = ExponentialMovingAverage(network, decay=0.5)
    before = network.weight.detach().clone()
    with torch.no_grad():
        network.weight += 1
    average.update()
    torch.testing.assert_close(average.network.weight, before + 0.5)
