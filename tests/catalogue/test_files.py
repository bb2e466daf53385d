"""What is read from YAML files without Hydra is what Hydra composes."""

from __future__ import annotations

from pathlib import Path

import pytest
from shared import EXPERIMENTS, shipped

from genbench import compose
from genbench.catalogue.files import Catalogue, offered
from genbench.config import COMPONENTS, flatten, group_of, to_dict
from genbench.errors import ConfigError

CATALOGUE = offered()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_what_hydra_composes(name: str) -> None:
    found, composed = CATALOGUE.experiments[name], to_dict(shipped(name))
    assert found.components == {key: composed[key] and composed[key]["name"] for key in COMPONENTS}
    settings = flatten({key: composed[key] for key in (*COMPONENTS, "trainer")})
    changes = {key: value for key, value in found.changes.items() if "${" not in str(value)}
    assert changes == {key: settings[key] for key in changes}
    assert list(found.references) == shipped(name).reference
    # All else is as it is without the experiment.
    words = ["name=x", *(_choice(key, name) for key, name in found.components.items() if name)]
    plain = flatten(to_dict(compose.configuration(*words, "trainer.epochs=1")))
    unchanged = settings.keys() - found.changes.keys() - {"trainer.epochs"}
    assert {key: settings[key] for key in unchanged} == {key: plain[key] for key in unchanged}


def _choice(key: str, name: str) -> str:
    return f"{key}={name}" if group_of(key) == key else f"{group_of(key)}@{key}={name}"


def test_an_ensemble_names_its_members() -> None:
    suite = CATALOGUE.experiments["flow-toy-suite"]
    composed = compose.experiment("flow-toy-suite")
    assert composed is not None
    assert composed.ensemble is not None
    assert (list(suite.members), suite.replicas) == (composed.ensemble.experiments, composed.ensemble.replicas)


def test_a_small_twin_is_of_the_same_kind() -> None:
    """The same network in another size and the same loss, on 5000 digits or for fewer steps."""
    twins = [each for each in CATALOGUE.experiments.values() if each.twin]
    assert len(twins) > 20
    for each in twins:
        twin = CATALOGUE.experiments[each.twin]
        for key in ("task", "model", "loss"):
            assert twin.components[key] == each.components[key], each.name
        assert twin.components["dataset"] == "mnist5k" or twin.changes["trainer.max_steps"] == 5000, each.name
        assert not twin.twin
    small = {name for name in CATALOGUE.experiments if name.endswith("-small")}
    assert small == {each.twin for each in twins if each.twin.startswith("cifar10")}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A directory of configuration, empty."""
    for group in ("experiment", "model"):
        (tmp_path / group).mkdir()
    return tmp_path


def test_a_comment_is_what_stands_behind_a_key(own: Path) -> None:
    text = (
        "# First\n# and second\nname: striped\n"
        "colour: '#fff'   # of the stripes\n"
        "size: 3#4\n"
        "flags: [a, 'b # c']  # two\n"
        "nested:            # a mapping\n  inner: 1   # its key\n  other: null\n"
        "# not behind a key\nlast:   # nothing\n"
    )
    (own / "model" / "striped.yaml").write_text(text)
    choice = Catalogue([own]).choice("model", "striped")
    assert choice.remarks == ("First", "and second")
    assert {key: comment for key, comment in choice.comments.items() if comment} == {
        "colour": "of the stripes",
        "flags": "two",
        "nested": "a mapping",
        "nested.inner": "its key",
        "last": "nothing",
    }
    assert choice.values["size"] == "3#4"


def test_a_reason_belongs_to_its_value(own: Path) -> None:
    """An experiment that changes what another one gave a reason for does not repeat it."""
    (own / "experiment" / "low.yaml").write_text("optimizer:\n  lr: 1e-5  # careful\n  decay: 0.5  # half\n")
    (own / "experiment" / "high.yaml").write_text("defaults: [low, _self_]\noptimizer: {lr: 1}\n")
    comments = offered([own]).experiments["high"].comments
    assert (comments["optimizer.lr"], comments["optimizer.decay"]) == ("", "half")


def test_our_own_choice_comes_before_anybodys(own: Path) -> None:
    """As Hydra looks for it."""
    (own / "experiment" / "vae-mnist5k.yaml").write_text("# Another one\nname: vae-mnist5k\n")
    (own / "experiment" / "mine.yaml").write_text("# Mine\ndefaults: [vae-mnist5k, _self_]\nname: mine\n")
    catalogue = offered([own])
    assert catalogue.description("experiment", "vae-mnist5k").startswith("The first run")
    assert catalogue.experiments["mine"].components["model"] == "mlp-vae"


@pytest.mark.parametrize("base", ["dirac-w1-3", "/experiment/dirac-w1-3"])
def test_what_an_experiment_builds_on_is_named_in_two_ways(own: Path, base: str) -> None:
    (own / "experiment" / "mine.yaml").write_text(f"# @package _global_\ndefaults: [{base}, _self_]\nname: mine\n")
    found, ours = offered([own]).experiments["mine"], CATALOGUE.experiments["dirac-w1-3"]
    assert (found.components, found.changes) == (ours.components, ours.changes)
    compose.add_search_path([f"file://{own}"])
    try:
        config = to_dict(compose.configuration("experiment=mine"))
    finally:
        compose.add_search_path()
    assert config | {"name": ""} == to_dict(shipped("dirac-w1-3")) | {"name": ""}


@pytest.mark.parametrize("text", ["name: [", "name: x\nreference: [{metric: m, worth: 3}]\n", "reference: [5]\n"])
def test_a_broken_file_is_named(own: Path, text: str) -> None:
    (own / "experiment" / "broken.yaml").write_text(text)
    with pytest.raises(ConfigError, match="broken"):
        _ = offered([own]).experiments
