"""The catalogue composes as Hydra does, and tells what a run has changed."""

from __future__ import annotations

import pytest
from hydra import compose
from omegaconf import OmegaConf

from genbench import cli
from genbench.report.catalog import Catalog, changes, declared, flatten, settings

# One of every chain of defaults: bases of bases, an experiment of another one, overrides with a package.
CHAINS = [
    "cifar10-hinge-sn-resnet",
    "mnist5k-gan",
    "vae-mnist5k-iaf",
    "flow-arcs-density-k8",
    "flow-toy-suite",
    "svhn-w1-lp",
]


@pytest.mark.parametrize("name", CHAINS)
def test_experiments_are_composed_as_hydra_does(name: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENBENCH_DATA", "data")
    with cli._composer():
        expected = OmegaConf.to_container(compose("train", overrides=[f"experiment={name}"]), resolve=True)
    experiment = catalog.get(name)
    assert experiment
    assert OmegaConf.to_container(OmegaConf.create(experiment.composed), resolve=True) == expected


def test_every_experiment_is_there(catalog: Catalog) -> None:
    names = {path.stem for path in (cli.CONFIG_DIRECTORY / "experiment").glob("*.yaml")}
    assert set(catalog.experiments) == names


def test_defaults_of_the_code_are_filled_in(catalog: Catalog) -> None:
    experiment = catalog.get("vae-binmnist-L100")
    assert experiment
    assert experiment.settings["optimizer.beta1"] == 0.9
    old = {key: value for key, value in experiment.composed.items() if key != "critic_optimizer"}
    assert changes(experiment.settings, settings(old)) == {}


def test_an_unknown_configuration_is_taken_as_it_stands() -> None:
    assert settings({"name": "own", "seed": 1, "task": {"name": "of another package"}, "data_root": "here"}) == {
        "name": "own",
        "task.name": "of another package",
    }


def test_changes() -> None:
    before, after = (
        {"model": {"width": 128, "depth": 2}, "lr": 1e-3},
        {"model": {"width": 32, "depth": 2}, "ema": None},
    )
    assert changes(flatten(before), flatten(after)) == {
        "model.width": ("128", "32"),
        "lr": ("0.001", "–"),
        "ema": ("–", "null"),
    }


def test_published_values_of_another_target_say_nothing(catalog: Catalog) -> None:
    experiment = catalog.get("flow-arcs-samples-k8")
    assert experiment
    assert len(declared(experiment.settings, experiment.references)) == 1
    assert declared(experiment.settings | {"dataset.target": "two-moons"}, experiment.references) == []
