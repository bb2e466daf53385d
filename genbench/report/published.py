"""The published values of all experiments that the configuration offers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, cast

from omegaconf import OmegaConf

from genbench import compose, registry
from genbench.config import Reference
from genbench.naming import natural

__all__ = ["Published", "missing", "published"]


@dataclass(frozen=True)
class Published:
    """An experiment with its published values."""

    experiment: str
    references: tuple[Reference, ...]


def published() -> list[Published]:
    """Of every experiment, plug-ins' included, as its YAML says.

    To compose them all takes Hydra many seconds. Published values are a list, which a YAML replaces as a whole, so
    the nearest one is that of the composed experiment; a test holds this against Hydra.
    """
    roots = [path / "experiment" for path in (compose.CONFIG_DIRECTORY, *registry.plugin_config_directories())]
    names = {path.stem for root in roots for path in root.glob("*.yaml")}
    rows = [(name, _references(name, roots) or []) for name in sorted(names, key=natural)]
    return [Published(name, tuple(Reference(**entry) for entry in entries)) for name, entries in rows if entries]


def _references(name: str, roots: Sequence[Path]) -> list[dict[str, Any]] | None:
    """An experiment's own, else those of the last experiment that it builds on; the first root that has it counts."""
    path = next((path for root in roots if (path := root / f"{name}.yaml").is_file()), None)
    if path is None:
        return None
    values = _loaded(path)
    if "reference" in values:
        return [entry | {"protocol": _texts(entry.get("protocol", {}))} for entry in values["reference"]]
    bases = [entry for entry in values.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    # Names are relative to the folder of the experiment that gives them.
    found = [_references(str(PurePosixPath(name).parent / base), roots) for base in bases]
    return next((entries for entries in reversed(found) if entries is not None), None)


def _texts(protocol: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in protocol.items()}


@cache
def _loaded(path: Path) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))


def missing(everything: Sequence[Published], compared: Collection[tuple[str, str, str]]) -> list[Published]:
    """What was not compared with any measurement; `compared` are (experiment, metric, source) triples."""
    found = []
    for entry in everything:
        left = tuple(r for r in entry.references if (entry.experiment, r.metric, r.label) not in compared)
        found += [replace(entry, references=left)] if left else []
    return found
