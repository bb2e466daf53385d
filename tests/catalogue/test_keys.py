"""Every key is explained, and docs/keys.md says what the code says."""

from __future__ import annotations

import pytest
import write_keys
from shared import EXPERIMENTS, shipped

from genbench import registry
from genbench.catalogue.files import offered
from genbench.catalogue.keys import changed, key_names, keys, shown
from genbench.config import flatten, to_dict

CATALOGUE = offered()
NAMES = key_names(CATALOGUE)


def test_every_key_of_every_run_is_known() -> None:
    composed = {key for name in EXPERIMENTS for key in flatten(to_dict(shipped(name)))}
    of_components = {key for key in composed if key.endswith(".name")}
    assert composed - NAMES.keys() - of_components == set()
    parameters = {
        f"{group}.{option}"
        for group in registry.PACKAGES
        for name in registry.known(group)
        for option in registry.parameters(registry.lookup(group, name))
    }
    assert parameters <= NAMES.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_key_has_a_meaning(name: str) -> None:
    """The comment behind it in its YAML file, in each of its forms."""
    for key in keys(CATALOGUE, name):
        assert key.meaning, key
        assert not key.meaning.startswith(("or ", "of each", "at a time")), "it stands alone"


@pytest.mark.parametrize(
    ("name", "component", "values", "default"),
    [
        ("regularizer.every", "r1", "whole number ≥ 1", "1"),
        ("optimizer.lr", "sgd", "number > 0", "0.1"),
        ("optimizer.milestones", "adam", "list; each entry: whole number ≥ 1", "[]"),
        ("task.ema", "dirac", "number > 0 and < 1, or null", "null"),
        ("task.updates", "adversarial", "alternating or simultaneous", "alternating"),
        ("task.fid_split", "image-gan", "train, valid or test", "train"),
        ("dataset.channels", "images", "1 or 3", "3"),
        ("dataset.path", "images", "text, or null", "null"),
        ("model.conditional", "dcgan", "true or false", "false"),
        ("trainer.max_steps", None, "whole number ≥ 1, or null", "null"),
        ("seed", None, "whole number ≥ 0 and ≤ 4294967295", "1"),
        ("ensemble.replicas", None, "whole number ≥ 1 and ≤ 1000", "1"),
        ("ensemble.experiments", None, "list; each entry: text", ""),
        ("name", None, "a letter or digit, followed by at most 99 letters, digits and any of . _ = + -", ""),
        ("hydra.launcher.timeout_min", "slurm", "", "240"),
    ],
)
def test_type_range_and_default(name: str, component: str | None, values: str, default: str) -> None:
    (key,) = (key for key in keys(CATALOGUE, name) if component is None or component in key.components)
    assert (key.values, key.default) == (values, default)


@pytest.mark.parametrize(
    "name", ["optimizer.lr", "regularizer.coefficient", "trainer.batch_size", "critic_optimizer.lr"]
)
def test_the_experiments_that_change_a_key(name: str) -> None:
    """Held against what Hydra composes: those whose value is not the default of their component."""
    place, option = name.split(".")
    expected = {}
    for experiment in EXPERIMENTS:
        config = to_dict(shipped(experiment))
        if config[place] is None or option not in config[place]:
            continue
        (key,) = (key for key in keys(CATALOGUE, name) if config[place].get("name") in (*key.components, None))
        if shown(config[place][option]) != key.default:
            expected[experiment] = shown(config[place][option])
    found = {}
    for key in keys(CATALOGUE, name):
        found |= {who: value for value, names in changed(CATALOGUE, key).items() for who in names}
    assert found == expected
    assert expected


def test_values_are_shown_as_they_are_written() -> None:
    values = (None, True, 1e-08, 0.1, 3, [1, 2], [], "a b", {"gpus": 1}, "???")
    assert list(map(shown, values)) == ["null", "true", "1e-08", "0.1", "3", "[1, 2]", "[]", "a b", "{gpus: 1}", ""]


def test_the_page_of_keys_is_of_this_code() -> None:
    if write_keys.PAGE.read_text(encoding="utf-8") != write_keys.page():
        pytest.fail("docs/keys.md is of older code; write it again: python docs/write_keys.py", pytrace=False)
