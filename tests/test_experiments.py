"""Every shipped experiment is what it says, and runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from shared import EXPERIMENTS, smaller

from genbench import registry
from genbench.compose import CONFIG_DIRECTORY, compose_experiment

CHOICES = sorted(path for group in registry.PACKAGES for path in (CONFIG_DIRECTORY / group).glob("*.yaml"))


@pytest.mark.usefixtures("tiny_binmnist", "tiny_images", "tiny_planes", "tiny_instruments")
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_two_steps(genbench: Callable[..., int], tmp_path: Path, experiment: str) -> None:
    assert (
        genbench(f"experiment={experiment}", "trainer.max_steps=2", "trainer.log_every=1", *smaller(experiment)) == 0
    )
    (run,) = (tmp_path / "outputs" / experiment).iterdir()  # so it bears its own name
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("done", 2)
    if summary["protocol"]["dataset"] != "lines":  # its picture needs a sweep
        assert list((run / "figures").glob("*.png"))
    for reference in compose_experiment(experiment)["reference"]:
        assert summary["metrics"][reference["metric"]][reference.get("at", "final")]["value"] is not None


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_a_choice_lists_every_parameter_of_its_component(path: Path) -> None:
    """So that each can be overridden without `+`, and the YAML shows what there is."""
    written = yaml.safe_load(path.read_text())
    component = registry.lookup(path.parent.name, written.pop("name"))
    assert list(written) == list(registry.parameters(component))


@pytest.mark.parametrize("group", registry.PACKAGES)
def test_every_component_has_a_choice(group: str) -> None:
    assert registry.known(group) == sorted(path.stem for path in CHOICES if path.parent.name == group)


def test_a_component_has_the_parameters_that_it_passes_on() -> None:
    """Its own first; those of the base class follow, down to the first constructor that takes no more."""

    class Base:
        def __init__(self, first: int, *, shared: int = 1, own: int = 2) -> None: ...

    class Middle(Base):
        pass

    class Passing(Middle):
        def __init__(self, first: int, *, own: float = 3.0, **settings: int) -> None: ...

    class Closed(Passing):
        def __init__(self, first: int, *, alone: int = 4) -> None: ...

    found = registry.parameters(Passing)
    assert {name: parameter.default for name, parameter in found.items()} == {"own": 3.0, "shared": 1}
    assert list(registry.parameters(Closed)) == ["alone"]
