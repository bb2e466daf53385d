"""Every shipped experiment is what it says, and runs."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from shared import EXPERIMENTS, shipped, smaller

from genbench import registry
from genbench.compose import CONFIG_DIRECTORY
from genbench.engine.trainer import Trainer

CHOICES = sorted(path for group in registry.PACKAGES for path in (CONFIG_DIRECTORY / group).glob("*.yaml"))

# What a chart would show if the run had it: a penalty, FID during training.
MAYBE = {"train/penalty", "eval/fid_in_hundreds"}

# Log-likelihoods of the test split as they are, but of few images and by few samples.
FEWER = {
    "variational": ("task.importance_images=10", "task.importance_samples=10"),
    "image-flow": ("task.importance_samples=2",),
}

# What measuring and drawing are there to change: of a run, and of its task.
LOGGED = ("progress", "done", "measurements")
SHOWN = ("samples", "bounds")


def trained(trainer: Trainer) -> dict[str, str]:
    """Fingerprints of all that training goes on from, the generators among them."""
    state = {key: value for key, value in trainer._state().items() if key not in LOGGED}
    state["task"] = {key: value for key, value in state["task"].items() if key not in SHOWN}
    return {key: fingerprint(value) for key, value in state.items()}


def fingerprint(value: Any) -> str:
    """Of tensors their kinds, shapes and bits, of dictionaries and lists what is in them."""
    digest = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            digest.update(f"{part.dtype}{list(part.shape)}".encode())
            digest.update(part.detach().contiguous().flatten().view(torch.uint8).numpy().data)
        elif isinstance(part, (dict, list, tuple)):
            digest.update(f"{type(part).__name__}{len(part)}".encode())
            for item in part.items() if isinstance(part, dict) else part:
                add(item)
        else:
            digest.update(repr(part).encode())

    add(value)
    return digest.hexdigest()


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the engine let a task measure and draw; that must not change what training goes on from."""
    called: Counter[str] = Counter()

    def watched(hook: str) -> Callable[[Trainer, Any], None]:
        method = getattr(Trainer, hook)

        def call(trainer: Trainer, argument: Any) -> None:
            before = trained(trainer)
            method(trainer, argument)
            assert trained(trainer) == before, f"{hook}({argument})"
            called[hook] += 1

        return call

    for hook in ("_evaluate", "_draw"):
        monkeypatch.setattr(Trainer, hook, watched(hook))
    return called


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """What the generators of a GPU would have been seeded with, were there one."""
    seeds: set[int] = set()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.add)
    return seeds


@pytest.mark.usefixtures("tiny_binmnist", "tiny_images", "few_digits", "tiny_planes", "tiny_instruments", "coarse")
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_two_steps(
    genbench: Callable[..., int], tmp_path: Path, hooks: Counter[str], seeded: set[int], experiment: str
) -> None:
    small = [*smaller(experiment), *FEWER.get(shipped(experiment).task["name"], ())]
    assert genbench(f"experiment={experiment}", "trainer.max_steps=2", "trainer.log_every=1", *small) == 0
    assert hooks["_evaluate"] >= 2
    assert hooks["_draw"] == 3
    assert seeded == {1}
    (run,) = (tmp_path / "outputs" / experiment).iterdir()  # so it bears its own name
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = Counter((row["metric"], row["step"]) for row in rows)
    assert {entry: count for entry, count in logged.items() if count > 1} == {}
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("done", 2)
    assert list((run / "figures").glob("*.png"))
    metrics = summary["metrics"]
    for reference in shipped(experiment).reference:
        assert metrics[reference.metric][reference.at]["value"] is not None
    assert summary["family"]["title"]
    names = [quantity["name"] for quantity in summary["quantities"]]
    assert len(set(names)) == len(names)
    headline = next(name for name in names if name in metrics)
    assert metrics[headline]["protocol"]["dataset"]  # so it was measured, not logged by a training step
    assert not summary["cover"] or (run / summary["cover"]).is_file()
    for title, curves in summary["curves"].items():
        assert metrics.keys() & set(curves), title
        assert set(curves) - metrics.keys() <= MAYBE


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_published_value_is_of_a_data_set(experiment: str) -> None:
    """Or it would be compared with what was measured on another one: dataset=svhn, dataset=images."""
    assert all("dataset" in reference.protocol for reference in shipped(experiment).reference)


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_a_choice_lists_every_parameter_of_its_component(path: Path) -> None:
    """So that each can be overridden without `+`, and the YAML shows what there is."""
    written = composed(path)
    component = registry.lookup(path.parent.name, written.pop("name"))
    assert list(written) == list(registry.parameters(component))


def composed(path: Path) -> dict[str, Any]:
    """A choice's own settings, then what it takes over from others of its group."""
    own = yaml.safe_load(path.read_text())
    defaults = own.pop("defaults", ["_self_"])
    assert defaults[-1] == "_self_"  # or it would be overruled
    for name in reversed(defaults[:-1]):
        own |= {key: value for key, value in composed(path.with_stem(name)).items() if key not in own}
    return own


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
