"""The YAML files of all groups, plug-ins' included, read without Hydra: it takes a tenth of a second for each.

An experiment's values are those that Hydra composes on top of its components; a test holds this against Hydra.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, cast

import yaml
from omegaconf import OmegaConf

from genbench import compose, registry
from genbench.config import COMPONENTS, Reference, flatten, group_of
from genbench.errors import ConfigError
from genbench.naming import natural

__all__ = ["NO_CHANGE", "Catalogue", "Choice", "Experiment", "offered"]

ENTRY = "train"
"""The file that is composed first."""

CHOSEN = re.compile(r"(?:override )?/?(?P<group>[^@]+)(?:@(?P<key>\w+))?")
"""In a defaults list, a component: `override /optimizer@critic_optimizer`."""

TWIN = "Small twin:"
PARTS = (*COMPONENTS, "trainer")
NO_CHANGE = ("name", "reference", "ensemble")
"""Keys of an experiment that change nothing of a run."""


@dataclass(frozen=True)
class Choice:
    """A file of a group, with what it takes over from others of its group.

    Attributes:
        remarks: the comment lines at its head.
        values: its settings, nested.
        comments: what stands behind a setting, by dotted key.
        components: the names that it chooses, by key of the configuration.
    """

    remarks: tuple[str, ...]
    values: Mapping[str, Any]
    comments: Mapping[str, str]
    components: Mapping[str, str | None]


@dataclass(frozen=True)
class Experiment:
    """An experiment as `experiment=NAME` composes it.

    Attributes:
        description: what it is, in a line.
        twin: an experiment like it that a CPU trains in minutes, from the remark `Small twin: NAME`; "" for none.
        components: the names of its components, by key of the configuration; None where there is none.
        changes: what it sets to another value than its components and the trainer have, by dotted key.
        comments: why, where its file says so, by dotted key.
        references: its published values.
        members: the experiments that are trained together, if it is an ensemble; nothing else of it counts then.
        replicas: the seeds of each of them.
    """

    name: str
    description: str
    twin: str
    components: Mapping[str, str | None]
    changes: Mapping[str, Any]
    comments: Mapping[str, str]
    references: Sequence[Reference]
    members: Sequence[str] = ()
    replicas: int = 1


class Catalogue:
    """All choices in some `conf/` directories, of which the first counts that has one."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._read: dict[tuple[str, str], Choice] = {}

    def names(self, group: str) -> list[str]:
        """The choices of a group, in natural order."""
        found = {path.stem for root in self.roots for path in (root / group).glob("*.yaml")}
        return sorted(found, key=natural)

    def description(self, group: str, name: str) -> str:
        """The first comment of a choice's file."""
        path = self._path(group, name)
        remarks = _remarks(path.read_text(encoding="utf-8")) if path else ()
        return next((remark for remark in remarks if not remark.startswith(TWIN)), "")

    def choice(self, group: str, name: str) -> Choice:
        """A file by its group and name; `group` "" is that of the entry."""
        key = group, name
        if key not in self._read:
            self._read[key] = self._load(group, name)
        return self._read[key]

    @cached_property
    def entry(self) -> Choice:
        """The settings of every run, and the components that are chosen where an experiment chooses none."""
        return self.choice("", ENTRY)

    @cached_property
    def experiments(self) -> dict[str, Experiment]:
        """By name, in natural order."""
        return {name: self._experiment(name) for name in self.names("experiment")}

    def _experiment(self, name: str) -> Experiment:
        choice = self.choice("experiment", name)
        components = {key: choice.components.get(key, self.entry.components.get(key)) for key in PARTS}
        below = dict(self.entry.values)
        for key, component in components.items():
            if component is not None:
                below[key] = self.choice(group_of(key), component).values
        before = flatten(below)
        written = flatten({key: value for key, value in choice.values.items() if key not in NO_CHANGE})
        twins = [remark.removeprefix(TWIN).strip() for remark in choice.remarks if remark.startswith(TWIN)]
        ensemble = choice.values.get("ensemble") or {}
        return Experiment(
            name=name,
            description=self.description("experiment", name),
            twin=twins[0] if twins else "",
            components={key: component for key, component in components.items() if key != "trainer"},
            changes={key: value for key, value in written.items() if key not in before or before[key] != value},
            comments=choice.comments,
            references=_references(name, choice.values.get("reference") or ()),
            members=ensemble.get("experiments", ()),
            replicas=ensemble.get("replicas", 1),
        )

    def _path(self, group: str, name: str) -> Path | None:
        return next((path for root in self.roots if (path := root / group / f"{name}.yaml").is_file()), None)

    def _load(self, group: str, name: str) -> Choice:
        path = self._path(group, name)
        if path is None:  # what builds on it says so when it is composed
            return Choice((), {}, {}, {})
        text = path.read_text(encoding="utf-8")
        try:
            written = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is no YAML: {error}".replace("\n", " ")) from error
        values: dict[str, Any] = {}
        comments: dict[str, str] = {}
        components: dict[str, str | None] = {}
        for entry in written.pop("defaults", ()):
            if isinstance(entry, Mapping):
                components |= {_key(key): chosen and str(chosen) for key, chosen in entry.items()}
            elif entry != "_self_":
                base = self.choice(*_place(group, name, entry))
                values = _merged(values, base.values)
                comments |= base.comments
                components |= base.components
        comments |= dict.fromkeys(flatten(written), "") | dict(_comments(text))  # another value has another reason
        return Choice(tuple(_remarks(text)), _merged(values, written), comments, components)


def offered(own: Sequence[Path] = ()) -> Catalogue:
    """What Hydra finds: our own choices, those in the user's directories `own`, and those of plug-in packages."""
    return Catalogue((compose.CONFIG_DIRECTORY, *own, *registry.plugin_config_directories()))


def _key(written: str) -> str:
    """The key of the configuration for which an entry of a defaults list chooses a component."""
    found = CHOSEN.fullmatch(written)
    return (found["key"] or found["group"]) if found else written


def _references(experiment: str, entries: Sequence[Mapping[str, Any]]) -> tuple[Reference, ...]:
    """Published values as `config.read` gives them."""
    try:
        texts = [{key: str(value) for key, value in entry.get("protocol", {}).items()} for entry in entries]
        return tuple(Reference(**{**entry, "protocol": text}) for entry, text in zip(entries, texts, strict=True))
    except (AttributeError, TypeError) as error:
        raise ConfigError(f"experiment {experiment}: reference: {error}", "see docs/extending.md") from error


def _place(group: str, name: str, base: str) -> tuple[str, str]:
    """Group and name of what a file builds on: relative to its folder, or from the top, as /GROUP/NAME."""
    if base.startswith("/"):
        group, _, name = base[1:].partition("/")
        return group, name
    return group, str(PurePosixPath(name).parent / base)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings, one laid over the other; a list replaces a list."""
    found = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = _merged(found[key], value) if both else value
    return found


def _remarks(text: str) -> Iterator[str]:
    """The comment lines at the head of a file, but for Hydra's own."""
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        if "@package" not in line:
            yield line[1:].strip()


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Dotted keys, with the comment behind each of them on its line."""
    lines = text.splitlines()

    def walk(node: yaml.Node, prefix: str) -> Iterator[tuple[str, str]]:
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            block = isinstance(value, yaml.CollectionNode) and not value.flow_style
            mark = key.end_mark if block else value.end_mark
            found = re.match(r":?\s+#\s*(.*)", lines[mark.line][mark.column :]) if mark.line < len(lines) else None
            if found:
                yield prefix + key.value, found[1].strip()
            yield from walk(value, f"{prefix}{key.value}.")

    yield from walk(yaml.compose(text, Loader=yaml.SafeLoader), "")
