"""Likelihoods are computed of as many images at a time as a CPU's cache holds, and do not depend on how many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from genbench.build import build_task
from genbench.compose import configuration
from genbench.engine import device as devices


def evaluated(task: Any, monkeypatch: pytest.MonkeyPatch, method: str) -> tuple[float, list[int]]:
    """The headline value of the validation split, and how many images the model was given at a time."""
    sizes: list[int] = []
    call = getattr(task.model, method)

    def counted(x: torch.Tensor, *rest: torch.Tensor) -> Any:
        sizes.append(len(x))
        return call(x, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(task.model, method, counted)
        found = task.evaluate("valid")
    name = next(quantity.name for quantity in task.quantities if quantity.name in found)
    return found[name].value, sizes


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize(
    ("experiment", "words"),
    [("pixelcnn-mnist5k", ["model.channels=4"]), ("realnvp-mnist5k", ["model.width=4"])],
)
def test_64_at_a_time(experiment: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, all_at_once = (
        build_task(configuration(f"experiment={experiment}", *words, f"data_root={tmp_path}"), torch.device("cpu"))
        for _ in range(2)
    )
    all_at_once._batch = 500
    value, sizes = evaluated(few, monkeypatch, "log_prob")
    expected, whole = evaluated(all_at_once, monkeypatch, "log_prob")
    assert (sizes, whole) == ([64, 36], [100])
    assert value == pytest.approx(expected, rel=1e-6)


@pytest.mark.usefixtures("few_digits")
def test_as_many_as_sixteen_mebibytes_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["experiment=pixelvae-mnist5k", "model.pixelcnn_blocks=1", f"data_root={tmp_path}"]
    task = build_task(configuration(*words), torch.device("cpu"))
    fitting = int(16 * 2**20 / 4 / task.model.image_floats)
    assert 1 < fitting < 100 < task._batch
    value, sizes = evaluated(task, monkeypatch, "encode")
    assert max(sizes) == fitting
    task._judged_batch = task._batch
    expected, whole = evaluated(task, monkeypatch, "encode")
    assert max(whole) == 100
    assert value == pytest.approx(expected, abs=0.5)  # of other noise


def test_other_devices_take_more() -> None:
    gpu = torch.device("meta")
    assert devices.evaluation_batch(gpu, 500) == 500
    assert devices.evaluation_batch(torch.device("cpu"), 10) == 10
    assert devices.working_mib(gpu, 256) == 256
