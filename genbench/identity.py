"""Which run it is: a hash of what decides its numbers, and words for what was changed from its experiment."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from genbench import registry
from genbench.config import COMPONENTS, Config, TrainerConfig, flatten, group_of, to_dict

__all__ = [
    "LONGEST",
    "PARENTS",
    "WEIGHTS",
    "changes",
    "differences",
    "directory_name",
    "fingerprint",
    "settings",
    "title",
    "without",
    "words",
]

NOT_IDENTITY = (
    "data_root",
    "output_root",
    "reference",
    "objective",
    "tracker",
    "ensemble",
    "device",
    "task.inception_weights",
    "trainer.capture",
    "trainer.threads",
    "trainer.log_every",
    "trainer.checkpoint_every",
    "trainer.keep_checkpoints",
)
"""Keys that do not decide a run's numbers: places, published values, and how steps are launched, logged and saved.

So a run resumes where a path has moved, on another device, and with other intervals."""

LONGEST = 80  # characters of a directory's name

WEIGHTS = "model.safetensors"
"""The file of a packed model that holds its networks."""


def without(flat: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """{dotted key: value} less `keys` and all below them."""
    beginnings = tuple(f"{key}." for key in keys)
    return {key: value for key, value in flat.items() if not f"{key}.".startswith(beginnings)}


PARENTS = ("extend", "init_from")
"""Keys that name a run, or a packed model, that this run begins with."""


def settings(config: Config) -> dict[str, Any]:
    """The part of the configuration that decides what is computed, {dotted key: value}.

    Of a run that begins with another one that is the other's fingerprint, wherever it lies, or a digest of a packed
    model's weights; of the user's own files what they hold (registry.Contents).
    """
    marks = registry.contents(registry.lookup("dataset", config.dataset["name"])).values()
    flat = without(flatten(to_dict(config)), [*NOT_IDENTITY, *(f"dataset.{mark.place}" for mark in marks)])
    return flat | {key: _of_parent(Path(flat[key])) for key in PARENTS if flat[key]}


def _of_parent(path: Path) -> str:
    """A run directory's name ends in its fingerprint, and the run may be gone. A packed model may have any name."""
    weights = (path / WEIGHTS).absolute()
    if weights.is_file():
        found = weights.stat()
        return _digest(weights, found.st_mtime_ns, found.st_size)
    return path.resolve().name.rpartition("-")[2]


@functools.cache
def _digest(path: Path, modified: int, size: int) -> str:
    """Read once, however many jobs of a sweep begin with these weights; again if the file has changed."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def fingerprint(config: Config) -> str:
    """Eight hexadecimal digits that change when anything that is computed changes.

    Options at their defaults are left out, so a new option of genbench does not change the hashes of older runs.
    """
    defaults = _defaults(config)
    chosen = {key: value for key, value in settings(config).items() if key not in defaults or value != defaults[key]}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]


def _defaults(config: Config) -> dict[str, Any]:
    """Of all options that have one, {dotted key: value}."""
    found: dict[str, Any] = {f"trainer.{f.name}": f.default for f in dataclasses.fields(TrainerConfig)}
    found |= dict.fromkeys(PARENTS)
    for key in COMPONENTS:
        component = getattr(config, key)
        if component is not None:
            for parameter in registry.parameters(registry.lookup(group_of(key), component["name"])).values():
                default = parameter.default
                found[f"{key}.{parameter.name}"] = list(default) if isinstance(default, tuple) else default
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Keys of two flat configurations whose values differ, as text; "–" where a side does not have the key."""
    keys = dict.fromkeys([*before, *after])
    written = {key: (_written(before.get(key, "–")), _written(after.get(key, "–"))) for key in keys}
    return {key: pair for key, pair in written.items() if pair[0] != pair[1]}


def _written(value: Any) -> str:
    """As on the command line."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def changes(config: Config, experiment: Config | None) -> dict[str, str]:
    """What differs from the experiment that the run is named after, seed aside: {key: value as text}.

    A component that was replaced by another one appears by its name, with those of its options that are not at their
    defaults. Without an experiment of that name nothing is known to be changed.
    """
    if experiment is None:
        return {}
    defaults = _defaults(config)
    found: dict[str, str] = {}
    own, there = settings(config), settings(experiment)
    different = differences(there, own)
    replaced = {key.removesuffix(".name") for key in different if key.endswith(".name")}
    for key, (_, value) in different.items():
        component, _, option = key.partition(".")
        if key == "seed" or key not in own:
            continue
        if component not in replaced or not option:
            found[key] = value
        elif option == "name":
            found[component] = value
        elif own[key] != defaults.get(key):
            found[key] = value
    return found


def words(changed: Mapping[str, str]) -> list[str]:
    """`latent_dim=2`, … : a key's last part is enough where it is no other key's, too."""
    last = [key.rpartition(".")[2] for key in changed]
    names = [short if last.count(short) == 1 else key for short, key in zip(last, changed, strict=True)]
    return [f"{name}={value}" for name, value in zip(names, changed.values(), strict=True)]


def title(config: Config, changed: Mapping[str, str]) -> str:
    """Names a run in pictures and on the console."""
    return f"{config.name} {', '.join([*words(changed), f'seed={config.seed}'])}"


def directory_name(config: Config, changed: Mapping[str, str]) -> str:
    """`latent_dim=2,seed=1-<fingerprint>`: at most 80 characters, all of them safe in a shell.

    Words that find no room are counted: `latent_dim=2,+3,seed=1-…`.
    """
    safe = [re.sub(r"[^\w.=+-]+", "_", word, flags=re.ASCII).strip("_") for word in words(changed)]
    end = f"seed={config.seed}-{fingerprint(config)}"
    for kept in range(len(safe), -1, -1):
        counted = [f"+{len(safe) - kept}"] if kept < len(safe) else []
        name = ",".join([*safe[:kept], *counted, end])
        if len(name) <= LONGEST:
            break
    return name
