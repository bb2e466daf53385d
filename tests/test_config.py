"""What a configuration may hold, and which of it decides a run's numbers: its identity."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from omegaconf import OmegaConf
from shared import shipped

from genbench import config as schema
from genbench import identity, registry
from genbench.compose import configuration
from genbench.config import to_dict
from genbench.errors import ConfigError
from genbench.identity import fingerprint, settings

EXPERIMENT = "experiment=vae-mnist5k"

# Of one experiment for each kind of task.
PINNED = {
    "dirac-w1-3": "16ceb11d",
    "vae-binmnist-L100": "041603a8",
    "pixelcnn-binmnist": "776ff703",
    "cifar10-jsd-3": "d6a6a156",
    "cifar10-hinge-sn-resnet": "65ff9df3",
    "flow-arcs-samples-k8": "b0d00d46",
    "flow-sine-density-k2": "1d4df8c7",
    "realnvp-mnist": "b6a91aa9",
    "divergence-w1": "883e5645",
}


@pytest.mark.parametrize(
    "word",
    [
        "device=cuda:1",
        "trainer.capture=false",
        "trainer.threads=7",
        "trainer.log_every=3",
        "trainer.checkpoint_every=17",
        "trainer.keep_checkpoints=9",
        "data_root=elsewhere",
        "output_root=elsewhere",
        "reference=[]",
        "optimizer.lr=0.001",  # what it is anyway
    ],
)
def test_a_run_resumes_whatever_does_not_decide_its_numbers(word: str) -> None:
    assert fingerprint(configuration(EXPERIMENT, word)) == fingerprint(configuration(EXPERIMENT))


def test_where_inception_lies_does_not_decide_the_numbers() -> None:
    experiment = "experiment=cifar10-jsd-3"
    there = configuration(experiment, "task.inception_weights=elsewhere")
    assert fingerprint(there) == fingerprint(configuration(experiment))


@pytest.mark.parametrize(
    "word",
    [
        "seed=2",
        "deterministic=true",
        "trainer.batch_size=63",
        "trainer.precision=tf32",
        "trainer.evaluate_every=5",
        "model.width=299",
        "optimizer=sgd",
        "optimizer.lr=0.002",
        "optimizer@critic_optimizer=adam",
        "task.compile=true",
        "loss.kl=mc",
        "dataset.binarized=false",
        "name=another",
    ],
)
def test_what_decides_the_numbers_is_another_run(word: str) -> None:
    assert fingerprint(configuration(EXPERIMENT, word)) != fingerprint(configuration(EXPERIMENT))


def test_fingerprints_of_one_experiment_of_each_kind_stay() -> None:
    """Runs of today are found by tomorrow's code: a change here orphans them, and needs a reason."""
    found = {name: fingerprint(shipped(name)) for name in PINNED}
    assert found == PINNED


def test_a_new_option_leaves_fingerprints_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """A component's, and one of the trainer; set to something else, they count."""
    before = fingerprint(configuration(EXPERIMENT))
    parameters = registry.parameters

    def more(component: Callable[..., object]) -> dict[str, inspect.Parameter]:
        found = parameters(component)
        if component is registry.lookup("model", "mlp-vae"):
            new = inspect.Parameter("fresh", inspect.Parameter.KEYWORD_ONLY, default=[1, 2], annotation=list[int])
            found = found | {"fresh": new}
        return found

    monkeypatch.setattr(registry, "parameters", more)
    monkeypatch.setattr(schema, "_schema", schema._schema.__wrapped__)  # as other code would have it
    longer = dataclasses.make_dataclass("Longer", [("fresh", int, 5)], bases=(schema.TrainerConfig,))
    for module in (schema, identity):
        monkeypatch.setattr(module, "TrainerConfig", longer)
    config = configuration(EXPERIMENT)
    assert settings(config)["model.fresh"] == [1, 2]
    assert settings(config)["trainer.fresh"] == 5
    assert fingerprint(config) == before
    for word in ("+model.fresh=[1]", "+trainer.fresh=6"):
        assert fingerprint(configuration(EXPERIMENT, word)) != before


def test_a_run_goes_on_under_other_intervals(genbench: Callable[..., int], tmp_path: Path) -> None:
    words = (EXPERIMENT, "trainer.max_steps=4", "model.width=10", "task.importance_samples=2")
    assert genbench(*words, "trainer.log_every=1") == 0
    assert genbench(*words, "trainer.log_every=2", "device=cpu", "trainer.threads=1") == 0
    assert len(list((tmp_path / "outputs" / "vae-mnist5k").iterdir())) == 1


COMPONENTS = [
    (group, name, registry.lookup(group, name)) for group in registry.PACKAGES for name in registry.known(group)
]


def numbers_of(component: Callable[..., object], kind: type) -> list[str]:
    """Its parameters that hold a number, or several, of a kind."""
    found = registry.parameters(component).values()
    return [parameter.name for parameter in found if kind in _parts(parameter.annotation)]


def _parts(hint: object) -> set[object]:
    return {hint}.union(*(_parts(part) for part in get_args(hint)))


def refused(group: str, name: str, key: str, value: object) -> str:
    base = to_dict(shipped("dirac-w1-1"))
    with pytest.raises(ConfigError) as refusal:
        schema.read(OmegaConf.create(base | {group: {"name": name, key: value}}))
    return str(refusal.value)


@pytest.mark.parametrize(
    ("group", "name", "component"), COMPONENTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_number_is_finite(group: str, name: str, component: Callable[..., object]) -> None:
    """And such that a tensor of float32 or int64 can hold it."""
    for key in numbers_of(component, float):
        for value in (math.inf, -math.inf, math.nan, 1e39, "inf", "nan"):
            assert refused(group, name, key, value).startswith(f"{group}.{key} must be finite")
    for key in numbers_of(component, int):
        assert f"{group}.{key}" in refused(group, name, key, 10**21)
        assert f"{group}.{key}" in refused(group, name, key, math.inf)


def test_a_published_value_is_finite() -> None:
    words = "experiment=dirac-w1-1", "reference=[{metric: eval/distance, value: inf, source: a}]"
    with pytest.raises(ConfigError, match=r"reference\[0\].value must be finite"):
        configuration(*words)


def test_whether_is_no_number() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.drop_last must be true or false, not 2"):
        configuration("experiment=dirac-w1-1", "trainer.drop_last=2")


def test_what_was_read_once_is_read_again_as_it_was_written() -> None:
    """Configurations share nothing, and equal values of other types are other values."""
    words = (EXPERIMENT, "model.latent_dim=1")
    first, before = configuration(*words), to_dict(configuration(*words))
    first.model["latent_dim"], first.trainer.batch_size = 7, 7
    first.reference.clear()
    assert to_dict(configuration(*words)) == before
    with pytest.raises(ConfigError, match="latent_dim"):
        configuration(EXPERIMENT, "model.latent_dim=1.0")
    with pytest.raises(ConfigError, match="latent_dim"):
        configuration(EXPERIMENT, "model.latent_dim=true")
    assert to_dict(configuration(*words)) == before


def test_limits_are_shown_as_they_are_written() -> None:
    for limit in (registry.Range(minimum=1, maximum=9), registry.Range(above=0, below=0.5), registry.OneOf("a", 2)):
        assert repr(eval(repr(limit), vars(registry))) == repr(limit)
    assert repr(registry.PositiveInt) == "typing.Annotated[int, Range(minimum=1)]"
