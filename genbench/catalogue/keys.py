"""Every key of the configuration: what it means, what it may be, what it is by default, who changes it.

The meaning is the comment behind it in its YAML file, type and range are those of a constructor's parameter or of a
field of the schema, and the default is the YAML's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args, get_origin, get_type_hints

from genbench import registry
from genbench.catalogue.files import Catalogue
from genbench.compose import HYDRA_GROUPS
from genbench.config import COMPONENTS, Config, Ensemble, TrainerConfig, group_of
from genbench.registry import Matching, OneOf, Range, Text

__all__ = ["Key", "changed", "key_names", "keys", "options", "shown"]

GROUPS = {
    **{key: group_of(key) for key in COMPONENTS},
    "trainer": "trainer",
    **{group.replace("/", "."): group for group in HYDRA_GROUPS},
}
"""Of keys under which a component has its options, the group that it is chosen from."""

GROUPED = {*GROUPS.values(), "hydra"}
"""Keys of every run that a choice stands for, and that are no settings therefore."""

OF_THE_ENTRY = {"ensemble": Ensemble}
"""Settings of every run that have keys of their own."""

KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}
UNSET = "???"
NO_OPTIONS = ("name", "_target_")


@dataclass(frozen=True)
class Key:
    """An option as some components of a group have it.

    Attributes:
        name: dotted.
        components: their names; none for a setting of every run.
        meaning: "" where the YAML says nothing.
        values: what it may be: a type and a range.
        default: as one would write it; "" where it has none.
    """

    name: str
    components: tuple[str, ...]
    meaning: str
    values: str
    default: str


def key_names(catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    """All keys in their order, each with the components that have it. Imports no component."""
    found: dict[str, tuple[str, ...]] = {}
    for name in catalogue.entry.values:
        own = [f"{name}.{field}" for field in get_type_hints(OF_THE_ENTRY[name])] if name in OF_THE_ENTRY else []
        found |= dict.fromkeys([name, *own], ())
    found = {name: of for name, of in found.items() if name not in GROUPED}
    for key, group in GROUPS.items():
        for component in catalogue.names(group):
            for option in options(catalogue, group, component):
                found[f"{key}.{option}"] = (*found.get(f"{key}.{option}", ()), component)
    return found


def options(catalogue: Catalogue, group: str, component: str) -> list[str]:
    """The options of a component, as its file lists them."""
    return [option for option in catalogue.choice(group, component).values if option not in NO_OPTIONS]


def keys(catalogue: Catalogue, name: str, only: str | None = None) -> list[Key]:
    """A key in each form that it has: an option of one name may differ from component to component.

    `only`: as this component has it.
    """
    components = (only,) if only else key_names(catalogue)[name]
    if not components:
        return [_of_the_entry(catalogue, name)]
    place, _, option = name.rpartition(".")
    forms: dict[tuple[str, str, str], list[str]] = {}
    for component in components:
        choice = catalogue.choice(GROUPS[place], component)
        form = choice.comments.get(option, ""), _values(_hint(place, component, option)), shown(choice.values[option])
        forms.setdefault(form, []).append(component)
    several = len(catalogue.names(GROUPS[place])) > 1
    return [Key(name, tuple(of) if several else (), *form) for form, of in forms.items()]


def _of_the_entry(catalogue: Catalogue, name: str) -> Key:
    outer, _, inner = name.partition(".")
    hint = get_type_hints(OF_THE_ENTRY[outer] if inner else Config, include_extras=True)[inner or outer]
    value = getattr(OF_THE_ENTRY[outer], inner, UNSET) if inner else catalogue.entry.values.get(name)
    meaning = catalogue.entry.comments.get(outer, "")
    if inner:
        meaning = next(part.metadata["meaning"] for part in fields(OF_THE_ENTRY[outer]) if part.name == inner)
    return Key(name, (), meaning, _values(hint), shown(value))


def _hint(place: str, component: str, option: str) -> Any:
    """The annotation of a component's option; None where there is none."""
    if place == "trainer":
        return get_type_hints(TrainerConfig, include_extras=True)[option]
    if GROUPS[place] in HYDRA_GROUPS:
        return None
    return registry.parameters(registry.lookup(GROUPS[place], component))[option].annotation


def _values(hint: Any) -> str:
    """An annotation in words: "whole number ≥ 1, or null"."""
    parts = get_args(hint)
    if type(None) in parts:
        (some,) = (part for part in parts if part is not type(None))
        return f"{words}, or null" if (words := _values(some)) else ""
    marks = list(registry.marks(hint))
    listed = get_origin(_bare(hint)) is list
    kind = _bare(get_args(_bare(hint))[0]) if listed else _bare(hint)
    words = next((_alternatives(mark) for mark in marks if isinstance(mark, (OneOf, Matching))), KINDS.get(kind, ""))
    ranges = [str(mark) for mark in marks if isinstance(mark, Range)]
    described = " ".join([words, *ranges]) if words else ""
    return f"list; each entry: {described}" if listed and described else described


def _alternatives(mark: OneOf | Matching) -> str:
    if isinstance(mark, Matching):
        return KINDS[str] if mark in registry.marks(Text) else str(mark)
    *others, last = map(str, mark.choices)
    return f"{', '.join(others)} or {last}" if others else last


def _bare(hint: Any) -> Any:
    """Without the marks of Annotated[…]."""
    return _bare(hint.__origin__) if hasattr(hint, "__metadata__") else hint


def shown(value: Any) -> str:
    """A value as one would write it on the command line; "" for one that is left open."""
    if value == UNSET:
        return ""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shown(entry)}" for key, entry in value.items()) + "}"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def changed(catalogue: Catalogue, key: Key) -> dict[str, list[str]]:
    """The experiments that change a key: their names by its value there."""
    place = key.name.rpartition(".")[0]
    found: dict[str, list[str]] = {}
    for experiment in catalogue.experiments.values():
        concerned = not key.components or experiment.components.get(place) in key.components
        if concerned and key.name in experiment.changes and not experiment.members:
            found.setdefault(shown(experiment.changes[key.name]), []).append(experiment.name)
    return found
