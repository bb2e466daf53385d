"""The catalogue composes as Hydra does, and tells what a run has changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from genbench import compose
from genbench.config import Reference, declared, flatten, to_dict
from genbench.errors import ConfigError
from genbench.report.catalog import Catalog, changes, settings

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
    expected = OmegaConf.to_container(OmegaConf.create(compose.compose_experiment(name)), resolve=True)
    experiment = catalog.get(name)
    assert experiment
    assert OmegaConf.to_container(OmegaConf.create(experiment.composed), resolve=True) == expected


def test_every_experiment_is_there(catalog: Catalog) -> None:
    names = {path.stem for path in (compose.CONFIG_DIRECTORY / "experiment").glob("*.yaml")}
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


@pytest.mark.parametrize(
    "defaults",
    ["- base/vae-mlp", "- /experiment/base/vae-mlp", "- base/vae-mlp\n  - optional /local: mine"],
    ids=["as ours", "absolute", "optional"],
)
def test_experiments_in_other_spellings_are_left_to_hydra(
    defaults: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(compose.CONFIG_DIRECTORY, conf)
    (conf / "experiment" / "mine.yaml").write_text(
        f"# @package _global_\ndefaults:\n  {defaults}\n  - _self_\n\nname: mine\nmodel: {{width: 77}}\n"
    )
    monkeypatch.setattr(compose, "CONFIG_DIRECTORY", conf)
    found = Catalog([conf]).get("mine")
    assert found
    assert (found.task, found.flat["model.width"]) == ("variational", 77)


def test_an_experiment_that_cannot_be_composed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(compose.CONFIG_DIRECTORY, conf)
    (conf / "experiment" / "mine.yaml").write_text("defaults:\n  - override /model: nowhere\nname: mine\n")
    monkeypatch.setattr(compose, "CONFIG_DIRECTORY", conf)
    with pytest.raises(ConfigError, match="experiment mine cannot be composed"):
        Catalog([conf])


@pytest.mark.parametrize(("written", "found"), [("1", 1), ("1.0", 1), ("1e0", 1), ("2", 0), ("one", 0)])
def test_a_run_and_its_report_agree_on_what_a_published_value_is_of(written: str, found: int) -> None:
    """A number is the same however it is written, on the command line or in a YAML."""
    overrides = ["experiment=cifar10-w1-3", "regularizer.coefficient=1"]
    composed = OmegaConf.create(to_dict(compose.configuration(*overrides)))
    composed.reference = [{"metric": "m", "value": 0, "source": "s", "only": {"regularizer.coefficient": written}}]
    assert len(compose.validate(composed).reference) == found
    reference = Reference("m", 0, "s", only={"regularizer.coefficient": written})
    for coefficient in (1, 1.0):
        assert len(declared({"regularizer.coefficient": coefficient}, [reference])) == found


@pytest.mark.parametrize(("coefficient", "published"), [(1, 33.621), (10, 59.469)])
def test_a_published_value_is_of_its_coefficient(coefficient: int, published: float) -> None:
    config = compose.configuration("experiment=cifar10-w1-3", f"regularizer.coefficient={coefficient}")
    assert [reference.value for reference in config.reference if reference.metric == "test/fid"] == [published]


def test_published_values_of_another_target_say_nothing(catalog: Catalog) -> None:
    experiment = catalog.get("flow-arcs-samples-k8")
    assert experiment
    assert len(declared(experiment.settings, experiment.references)) == 1
    assert declared(experiment.settings | {"dataset.target": "two-moons"}, experiment.references) == []
