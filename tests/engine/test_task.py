"""What a task must define, what it need not, and that its pictures do not depend on the order of calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from shared import smaller
from torch import Tensor

from genbench import registry
from genbench.build import build_task
from genbench.compose import configuration
from genbench.engine.task import Animates, Decodes, Densities, DrawsSweeps, Encodes, Samples, Task
from genbench.registry import register


def test_a_task_that_forgets_something_cannot_be_registered() -> None:
    class Forgetful(Task):
        def training_step(self, batch: Tensor) -> dict[str, Tensor]:
            return {}

        def state_dict(self) -> dict[str, Any]:
            return {}

    with pytest.raises(TypeError, match="task 'forgetful' does not define evaluate, load_state_dict"):
        register("task", "forgetful")(Forgetful)
    assert "forgetful" not in registry.known("task")


@pytest.mark.parametrize(
    ("capability", "names"),
    [
        (Samples, {"autoregressive", "density", "energy", "image-flow", "image-gan", "variational"}),
        (Decodes, {"density", "energy", "image-flow", "image-gan", "variational"}),
        (Encodes, {"density", "energy", "image-flow", "variational"}),
        (Densities, {"autoregressive", "density", "energy", "image-flow", "variational"}),
        (Animates, {"density", "dirac", "energy"}),
        (DrawsSweeps, {"density", "dirac", "divergence", "energy"}),
    ],
)
def test_what_only_some_tasks_can_do(capability: Any, names: set[str]) -> None:
    tasks = {name: registry.lookup("task", name) for name in registry.known("task")}
    can = issubclass if capability is Samples else isinstance  # the others are protocols, of methods and attributes
    assert {name for name, task in tasks.items() if can(task, capability)} == names


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
@pytest.mark.parametrize("experiment", ["vae-mnist5k", "pixelcnn-mnist5k", "realnvp-mnist5k", "mnist5k-gan"])
def test_grids_and_pictures_come_in_any_order(experiment: str, data_root: Path) -> None:
    """Raw grids may be asked for before the pictures that show them, and are those that the pictures show."""
    words = (f"experiment={experiment}", f"data_root={data_root}", *smaller(experiment))
    first, second = (build_task(configuration(*words), torch.device("cpu")) for _ in range(2))
    grid = first.images("start")["generated"]
    second.figures("start", Record())
    assert torch.equal(second.images("start")["generated"], grid)
    with torch.no_grad():
        for parameter in second.parts.model.parameters():
            parameter.add_(1.0)
    assert torch.equal(second.images("start")["generated"], grid)  # of the start they remain


@pytest.mark.usefixtures("few_digits")
def test_a_run_of_one_step_is_drawn_before_and_after_it(genbench: Callable[..., int], tmp_path: Path) -> None:
    assert genbench("experiment=vae-mnist5k", "trainer.max_steps=1", *smaller("vae-mnist5k")) == 0
    drawn = tmp_path.glob("outputs/*/*/figures/samples-*.png")
    assert {path.name for path in drawn} == {"samples-start.png", "samples-end.png"}


class Record:
    """Nothing logged yet."""

    title = "a run"

    def curve(self, metric: str, over: str = "epoch") -> list[tuple[float, float]]:
        return []

    def references(self, metric: str) -> list[tuple[str, float]]:
        return []
