"""The experiments that the configuration offers, with their published values, and what a run of one has changed.

Hydra composes an experiment in a tenth of a second, and a report asks for all of them. What the experiments use of it
is little: a list of defaults, groups chosen by `override`, the rest merged in order. That is done here, and a test
holds it against Hydra; an experiment that is written in another way is left to Hydra itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from genbench import compose, registry
from genbench.config import NOT_IDENTITY, Reference, flatten, identity, without
from genbench.errors import GenbenchError
from genbench.report.reading import Loader

__all__ = ["Catalog", "Experiment", "changes", "settings"]

# What decides neither what is learned nor how it is judged: beside the seed, how steps are computed.
NOT_SETTINGS = (*NOT_IDENTITY, "seed", "deterministic", "task.compile")


class Unusual(Exception):
    """An experiment's defaults say what is not understood here."""


class Experiment:
    """One YAML under `conf/experiment/`, composed."""

    def __init__(self, name: str, composed: dict[str, Any]) -> None:
        self.name = name
        self.composed = composed

    @property
    def task(self) -> str:
        return str((self.composed["task"] or {}).get("name", ""))

    @property
    def references(self) -> list[Reference]:
        return [Reference(**entry) for entry in self.composed["reference"] or []]

    @cached_property
    def flat(self) -> dict[str, Any]:
        """As its YAML says, {dotted key: value}; what the code has as defaults is not among it."""
        return flatten(self.composed)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """As a run of it would be configured, flat; see `settings`."""
        return settings(self.composed)


class Catalog:
    """All experiments of the configuration, plug-ins' included, by name."""

    def __init__(self, directories: Sequence[Path] | None = None) -> None:
        self._directories = directories or [compose.CONFIG_DIRECTORY, *registry.plugin_config_directories()]
        self._files: dict[Path, dict[str, Any]] = {}
        paths = [path for directory in self._directories for path in directory.glob("experiment/*.yaml")]
        paths.sort(key=lambda path: compose.natural(path.stem))
        found = {path.stem: Experiment(path.stem, self._composed(path)) for path in paths}
        # A run is found by what its experiment calls itself.
        self.experiments = {str(experiment.composed["name"]): experiment for experiment in found.values()}

    def get(self, name: str) -> Experiment | None:
        return self.experiments.get(name)

    def __iter__(self) -> Iterator[Experiment]:
        return iter(self.experiments.values())

    def _composed(self, path: Path) -> dict[str, Any]:
        try:
            return self._compose(path)
        except Unusual:
            return compose.compose_experiment(path.stem)

    def _compose(self, path: Path) -> dict[str, Any]:
        base = dict(self._load(Path("train.yaml")))
        choices: dict[str, str | None] = {}
        for entry in base.pop("defaults"):
            if isinstance(entry, dict):
                choices |= {key: value for key, value in entry.items() if not key.startswith("override ")}
        choices.pop("experiment")
        base.pop("hydra")
        body = self._body(path.relative_to(path.parents[1]), choices)
        for key, choice in choices.items():
            group, _, package = key.partition("@")
            if choice is not None:
                base[package or group] = dict(self._load(Path(group, f"{choice}.yaml")))
        return _merged(base, body)

    def _body(self, path: Path, choices: dict[str, str | None]) -> dict[str, Any]:
        """An experiment's own values over those of the files that it names; what they choose goes to `choices`."""
        values = dict(self._load(path))
        body: dict[str, Any] = {}
        for entry in values.pop("defaults", ["_self_"]):
            if isinstance(entry, dict):
                for key, value in entry.items():
                    if not key.startswith("override /") or key.startswith("override /hydra"):
                        raise Unusual(key)
                    choices[key.removeprefix("override /")] = value
            elif entry != "_self_":
                body = _merged(body, self._body(path.parent / f"{entry}.yaml", choices))
        return _merged(body, values)

    def _load(self, path: Path) -> dict[str, Any]:
        if path not in self._files:
            found = next((file for root in self._directories if (file := root / path).is_file()), None)
            if found is None:
                raise Unusual(path)
            self._files[path] = yaml.load(found.read_text(encoding="utf-8"), Loader) or {}
        return self._files[path]


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def settings(config: dict[str, Any], like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What decides what a run computes, its seed aside, as {dotted key: value}; defaults filled in.

    A configuration that has the very keys of `like`, settings of the same experiment, has nothing to be filled in.
    One that today's schema does not know is taken as it stands.
    """
    flat = without(flatten(config), NOT_SETTINGS)
    if like is not None and flat.keys() == like.keys():
        return flat
    try:
        return without(identity(compose.validate(OmegaConf.create(config))), NOT_SETTINGS)
    except GenbenchError:
        return flat


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Keys whose values differ, with both; a key that is only on one side has "–" on the other."""
    keys = dict.fromkeys([*before, *after])
    written = {key: (_written(before, key), _written(after, key)) for key in keys}
    return {key: pair for key, pair in written.items() if pair[0] != pair[1]}


def _written(flat: dict[str, Any], key: str) -> str:
    value = flat.get(key, "–")
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)
