"""What only a CUDA device can show. Skipped where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genbench.engine.batches import Batches
from genbench.engine.ema import ExponentialMovingAverage

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


def test_a_training_step_never_waits_for_the_device(monkeypatch: pytest.MonkeyPatch, data_root: Path) -> None:
    """PyTorch itself reports every synchronizing call."""
    from hydra import compose, initialize_config_dir

    from genbench import cli
    from genbench.run import build_task

    with initialize_config_dir(str(cli.CONFIG_DIRECTORY), version_base="1.3"):
        for experiment in ("vae-mnist5k", "dirac-jsd-8", "dirac-w1-5"):
            composed = compose("train", overrides=[f"experiment={experiment}", f"data_root={data_root}"])
            task = build_task(cli.validate(composed), torch.device("cuda"))
            batches = Batches(task.dataset.train, 1 if "dirac" in experiment else 64, seed=0)
            for _ in range(3):  # the first steps set up kernels and optimizer states
                task.training_step(batches.next())
            torch.cuda.set_sync_debug_mode("error")
            try:
                for _ in range(3):
                    task.training_step(batches.next())
            finally:
                torch.cuda.set_sync_debug_mode("default")


def test_the_average_follows_on_the_device() -> None:
    network = torch.nn.Linear(3, 3).cuda()
    average = ExponentialMovingAverage(network, decay=0.5)
    before = network.weight.detach().clone()
    with torch.no_grad():
        network.weight += 1
    average.update()
    torch.testing.assert_close(average.network.weight, before + 0.5)
