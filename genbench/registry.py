"""Components by group and name, and the configuration that each of them takes.

A component is a callable registered under `(group, name)`. Its keyword-only parameters *are* its
configuration schema: name, type, default and admissible range are written once, in the signature.
genbench supplies its positional parameters (a data set's shape, parameters to optimize …).

    @register("regularizer", "r1")
    @dataclass(kw_only=True)
    class R1:
        coefficient: NonNegativeFloat = 0.0

A plug-in package announces a module under the entry-point group `genbench.plugins`; importing the
module registers its components, and a `conf/` directory beside the module joins the configuration search path.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import operator
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Annotated, Any, TypeVar, get_args

from genbench.errors import ConfigError
from genbench.naming import closest

__all__ = [
    "FINITE",
    "Contents",
    "Depth",
    "Matching",
    "NonNegativeFloat",
    "NonNegativeInt",
    "OneOf",
    "OpenUnitFloat",
    "PositiveFloat",
    "PositiveInt",
    "Range",
    "SampleCount",
    "Text",
    "Width",
    "build",
    "contents",
    "known",
    "load_components",
    "lookup",
    "marks",
    "parameters",
    "plugin_config_directories",
    "register",
]

# Groups of components, and the packages that define them.
PACKAGES = {
    "model": "models",
    "loss": "losses",
    "regularizer": "regularizers",
    "dataset": "data",
    "optimizer": "optimizers",
    "task": "tasks",
}

_components: dict[tuple[str, str], Callable[..., Any]] = {}
C = TypeVar("C", bound=Callable[..., Any])


class Range:
    """An admissible interval, written in an annotation: `Annotated[float, Range(above=0, below=1)]`."""

    RELATIONS = {
        "minimum": ("≥", operator.ge),
        "above": (">", operator.gt),
        "maximum": ("≤", operator.le),
        "below": ("<", operator.lt),
    }

    def __init__(
        self,
        minimum: float | None = None,
        maximum: float | None = None,
        above: float | None = None,
        below: float | None = None,
    ) -> None:
        bounds = {"minimum": minimum, "above": above, "maximum": maximum, "below": below}
        self.bounds = {name: bound for name, bound in bounds.items() if bound is not None}

    def __contains__(self, value: float) -> bool:
        return all(self.RELATIONS[name][1](value, bound) for name, bound in self.bounds.items())

    def __str__(self) -> str:
        return " and ".join(f"{self.RELATIONS[name][0]} {bound:.10g}" for name, bound in self.bounds.items())

    def __repr__(self) -> str:
        return f"Range({', '.join(f'{name}={bound!r}' for name, bound in self.bounds.items())})"


class OneOf:
    """The admissible words or numbers, written in an annotation: `Annotated[str, OneOf("analytic", "mc")]`."""

    def __init__(self, *choices: str | int) -> None:
        self.choices = choices

    def __contains__(self, value: str | int) -> bool:
        return value in self.choices

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.choices))}"

    def __repr__(self) -> str:
        return f"OneOf({', '.join(map(repr, self.choices))})"


class Matching:
    """The admissible texts, written in an annotation: a regular expression for the whole text, and words for it."""

    def __init__(self, pattern: str, words: str) -> None:
        self.pattern, self.words = re.compile(pattern), words

    def __contains__(self, value: str) -> bool:
        return self.pattern.fullmatch(value) is not None

    def __str__(self) -> str:
        return self.words


class Contents:
    """Marks an option of a data set that tells, as a hash, what the user's own files hold; null: whatever they hold.

    Before a run is named, `find(root, settings)` tells it in place of null; then it is part of what identifies the
    run, and the option `place`, which says where the files lie, is not. So files may move, and other files make
    another run.
    """

    def __init__(self, place: str, find: Callable[[Path, Mapping[str, Any]], str]) -> None:
        self.place, self.find = place, find


class _Finite:
    """What holds for every number of a configuration, as tensors of int64 and float32 must hold it.

    There is no infinity: a limit that is not wanted is null.
    """

    largest = {int: 2**63 - 1, float: 3.4e38}

    def __contains__(self, value: Any) -> bool:
        limit = self.largest.get(type(value), math.inf)
        return not isinstance(value, (int, float)) or -limit <= value <= limit  # false for NaN

    def __str__(self) -> str:
        return f"finite and within ±{self.largest[float]:g}, or a whole number of 64 bits"


FINITE = _Finite()

PositiveInt = Annotated[int, Range(minimum=1)]
NonNegativeInt = Annotated[int, Range(minimum=0)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(minimum=0)]
OpenUnitFloat = Annotated[float, Range(above=0, below=1)]

Text = Annotated[str, Matching(r"[^\x00-\x1f\x7f]+", "a line of text, without control characters")]

# Sizes. The bounds are far above what is of use, so that what they refuse is a slip of the finger. Whether a network
# of admissible sizes fits into memory, genbench.preflight finds out.
Depth = Annotated[int, Range(minimum=1, maximum=1000)]
"""Layers, blocks or iterations one after another."""
Width = Annotated[int, Range(minimum=1, maximum=2**20)]
"""Units, channels or dimensions beside one another."""
SampleCount = Annotated[int, Range(minimum=1, maximum=10**6)]
"""Random draws for one estimate."""


def register(group: str, name: str) -> Callable[[C], C]:
    """Class or function decorator: makes a component known as `name` in `group`.

    Raises ValueError for an unknown group or a name that is already taken by another component, and TypeError for a
    class that leaves an abstract method undefined.
    """
    if group not in PACKAGES:
        raise ValueError(f"unknown group {group!r}; groups: {', '.join(PACKAGES)}")

    def remember(component: C) -> C:
        if missing := sorted(getattr(component, "__abstractmethods__", ())):
            raise TypeError(f"{group} {name!r} does not define {', '.join(missing)}")
        taken = _components.setdefault((group, name), component)
        if (taken.__module__, taken.__qualname__) != (component.__module__, component.__qualname__):
            raise ValueError(f"{group} {name!r} is already registered by {taken.__module__}")
        return component

    return remember


@cache
def load_components() -> None:
    """Import every module of the component packages and every plug-in, which registers their components."""
    for name in PACKAGES.values():
        package = importlib.import_module(f"genbench.{name}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    plugin_modules()


@cache
def plugin_modules() -> tuple[ModuleType, ...]:
    """The imported modules that installed packages announce under `genbench.plugins`."""
    modules = []
    for entry in sorted(entry_points(group="genbench.plugins")):
        try:
            modules.append(entry.load())
        except Exception as error:  # foreign code may raise anything: name the plug-in
            raise ConfigError(f"plug-in {entry.name} ({entry.value}) cannot be imported: {error}") from error
    return tuple(modules)


def plugin_config_directories() -> list[Path]:
    """The `conf/` directories that lie beside plug-in modules, which are found without being imported."""
    specs = [_found(entry.module) for entry in sorted(entry_points(group="genbench.plugins"))]
    candidates = [Path(spec.origin).parent / "conf" for spec in specs if spec and spec.origin]
    return [directory for directory in candidates if directory.is_dir()]


def _found(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except Exception:  # a package that cannot be imported: load_components tells why
        return None


def known(group: str) -> list[str]:
    load_components()
    return sorted(name for (g, name) in _components if g == group)


def lookup(group: str, name: str) -> Callable[..., Any]:
    """The component `name` of `group`. Raises ConfigError with the known names and the closest one."""
    load_components()
    if (group, name) not in _components:
        raise ConfigError(
            f"unknown {group} {name!r}{closest(name, known(group))}", f"known: {', '.join(known(group))}"
        )
    return _components[group, name]


@cache
def parameters(component: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The keyword-only parameters of a component, annotations resolved: its configuration schema.

    A class that takes `**settings` hands them on to its base class, whose parameters follow its own.
    """
    found: dict[str, inspect.Parameter] = {}
    constructors: list[Any] = [component]
    if inspect.isclass(component):
        constructors = [vars(cls)["__init__"] for cls in component.__mro__ if "__init__" in vars(cls)]
    for constructor in constructors:
        own = inspect.signature(constructor, eval_str=True).parameters.values()
        found |= {p.name: p for p in own if p.kind is p.KEYWORD_ONLY and p.name not in found}
        if not any(p.kind is p.VAR_KEYWORD for p in own):
            break
    return MappingProxyType(found)


def contents(component: Callable[..., Any]) -> dict[str, Contents]:
    """The options of a data set that tell what files hold."""
    found = parameters(component).values()
    return {p.name: mark for p in found for mark in marks(p.annotation) if isinstance(mark, Contents)}


def marks(annotation: Any) -> Iterator[Any]:
    """What is written in `Annotated[…]` anywhere in a (possibly optional or list) annotation."""
    yield from getattr(annotation, "__metadata__", ())
    for part in get_args(annotation):
        yield from marks(part)


def build(group: str, config: dict[str, Any], *context: Any) -> Any:
    """Call the component `config["name"]` with the other keys, and with as much of the positional `context` as it
    takes, from the left: what only some components need comes last."""
    component = lookup(group, config["name"])
    options = {key: value for key, value in config.items() if key != "name"}
    kinds = [parameter.kind for parameter in inspect.signature(component).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        context = context[: sum(kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds)]
    return component(*context, **options)
