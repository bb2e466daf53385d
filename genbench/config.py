"""The typed schema of a run: unknown keys, wrong types and values out of range fail before anything runs.

`Config` and `TrainerConfig` describe what every run has. The schema of a component (model, loss …) is the
signature of its constructor (see `genbench.registry`), so it is written once, beside the code that uses it.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Annotated, Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException, ValidationError

from genbench import registry
from genbench.errors import ConfigError, first_line
from genbench.naming import closest
from genbench.registry import FINITE, Matching, OneOf, PositiveInt, Range, Text

__all__ = [
    "COMPONENTS",
    "LARGEST_SEED",
    "Config",
    "Ensemble",
    "Reference",
    "TrainerConfig",
    "flatten",
    "group_of",
    "read",
    "to_dict",
]

COMPONENTS = ("task", "model", "loss", "regularizer", "dataset", "optimizer", "critic_optimizer")
"""Keys of the configuration that hold a component; `critic_optimizer` may be null."""


LARGEST_SEED = 2**32 - 1  # what NumPy takes

REMEMBERED = 256  # parts of configurations that were checked: jobs of a sweep have most of them in common

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")  # to another key, of the whole value

# A run's name is a directory's, on any file system, and stands in commands and titles.
Name = Annotated[
    str,
    Matching(
        r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,99}",
        "a letter or digit, followed by at most 99 letters, digits and any of . _ = + -",
    ),
]


@dataclass
class TrainerConfig:
    """How long to train and what to do in between, as conf/trainer/default.yaml says it of every key."""

    batch_size: Annotated[int, Range(minimum=1, maximum=100_000)] = 64
    epochs: PositiveInt | None = None
    max_steps: PositiveInt | None = None
    drop_last: bool = False
    log_every: PositiveInt = 100
    evaluate_every: PositiveInt | None = None
    checkpoint_every: PositiveInt | None = None
    keep_checkpoints: PositiveInt = 2
    evaluate_first: bool = False
    precision: Annotated[str, OneOf("fp32", "tf32", "bf16")] = "fp32"
    capture: bool = True
    threads: Annotated[int, Range(minimum=1, maximum=1024)] | None = None

    def steps(self, steps_per_epoch: int) -> int:
        """All training steps: whichever of `epochs` and `max_steps` ends first."""
        limits = (self.max_steps, (self.epochs or 0) * steps_per_epoch)
        return min(limit for limit in limits if limit)


@dataclass
class Reference:
    """A published value with which a measurement is compared."""

    metric: Text
    value: float
    source: Text
    at: Annotated[str, OneOf("final", "best")] = "final"
    tolerance: Annotated[float, Range(minimum=0)] = 0.0
    better: Annotated[str, OneOf("higher", "lower")] = "higher"
    protocol: dict[str, str] = field(default_factory=dict)  # entries of a protocol that it holds for
    note: str = ""  # why a measurement may fall short of it, found by measurement

    @property
    def label(self) -> str:
        """Names its line in a picture."""
        return self.source if self.at == "final" else f"{self.source}, {self.at}"


Tracked = Annotated[
    str, Matching(r"(mlflow|trackio|wandb)(/[\w.-]+)?", "trackio, mlflow or wandb, or trackio/PROJECT")
]


@dataclass
class Ensemble:
    """Runs that are trained together, as one batched model."""

    experiments: list[str] = field(metadata={"meaning": "experiments whose runs are trained together"})
    replicas: Annotated[int, Range(minimum=1, maximum=1000)] = field(
        default=1, metadata={"meaning": "seeds of each experiment: seed, seed + 1, …"}
    )


@dataclass
class Config:
    """A whole run, components as plain dictionaries with their `name`; conf/train.yaml says what every key is."""

    name: Name
    seed: Annotated[int, Range(minimum=0, maximum=LARGEST_SEED)]
    device: Text
    deterministic: bool
    data_root: Text
    output_root: Text
    task: dict[str, Any]
    model: dict[str, Any]
    loss: dict[str, Any]
    regularizer: dict[str, Any]
    dataset: dict[str, Any]
    optimizer: dict[str, Any]
    critic_optimizer: dict[str, Any] | None
    trainer: TrainerConfig
    reference: list[Reference] = field(default_factory=list)
    objective: Text | None = None
    ensemble: Ensemble | None = None
    tracker: Tracked | None = None
    extend: Text | None = None
    init_from: Text | None = None


REQUIRED = {f.name for f in dataclasses.fields(Config) if f.default is f.default_factory is dataclasses.MISSING}
"""Keys that every run has a value of."""


def read(composed: DictConfig, overridden: Collection[str] = ()) -> Config:
    """Check a composed configuration against the schema and return it typed.

    `overridden` are the keys of the command line. Where it replaces an experiment's component by another one, what
    the experiment had set for the first and the second does not know is dropped: `regularizer=none` just works.

    Raises ConfigError, naming the key and what would be right.
    """
    values = _plain(composed)
    fields = {f.name for f in dataclasses.fields(Config)}
    for key in values:
        if key not in fields:
            raise ConfigError(f"unknown key {key!r}{closest(key, fields)}")
    for key in COMPONENTS:
        values[key] = _component(key, values.get(key), overridden)
    values["trainer"] = _typed(TrainerConfig, values.get("trainer"), "trainer")
    if values["trainer"].epochs is None and values["trainer"].max_steps is None:
        raise ConfigError("no end to the training", "set trainer.epochs or trainer.max_steps")
    if not isinstance(references := values.get("reference") or [], list):
        raise ConfigError(f"reference must be a list of published values, not {_shown(references)}")
    values["reference"] = [_typed(Reference, entry, f"reference[{i}]") for i, entry in enumerate(references)]
    if values.get("ensemble") is not None:
        values["ensemble"] = _typed(Ensemble, values["ensemble"], "ensemble")
    for name, schema in _scalars().items():
        if values.get(name) is None and name in REQUIRED:
            raise ConfigError(f"{name} has no value", f"set {name}=VALUE")
        values[name] = getattr(_typed(schema, {name: values.get(name)}, ""), name)
    return Config(**values)


def _plain(composed: DictConfig) -> dict[str, Any]:
    """As dictionaries, lists and scalars. Raises ConfigError for interpolations of nothing and values left open."""
    _refuse_references_to_null(composed)
    try:
        found = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = str(error.full_key)
        remedy = "choose experiment=NAME, or set name=NAME" if key == "name" else f"set {key}=VALUE"
        raise ConfigError(f"{key} has no value", remedy) from error
    except OmegaConfBaseException as error:
        raise ConfigError(first_line(error)) from error
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def _refuse_references_to_null(composed: DictConfig) -> None:
    """Raise ConfigError for ${key} where that key is null: who refers to a value counts on one."""
    raw: Any = OmegaConf.to_container(composed)
    for key, written in flatten(raw).items():
        reference = _REFERENCE.fullmatch(written) if isinstance(written, str) else None
        if reference and OmegaConf.select(composed, reference[1], default="") is None:
            raise ConfigError(f"{key}={written}, and {reference[1]} is null", f"set {reference[1]}=VALUE")


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain dictionaries, lists and scalars."""
    return dataclasses.asdict(config)


def flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as {dotted key: value}."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + str(key)] = value
    return flat


def group_of(key: str) -> str:
    """The registry's group of a component."""
    return "optimizer" if key == "critic_optimizer" else key


def _component(key: str, node: Any, overridden: Collection[str]) -> dict[str, Any] | None:
    if node is None:
        if key == "critic_optimizer":
            return None
        raise ConfigError(f"no {key} chosen", f"add {key}=NAME; known: {', '.join(registry.known(key))}")
    group = group_of(key)
    name = node.get("name") if isinstance(node, dict) else None
    if not isinstance(name, str):
        choice = key if key == group else f"{group}@{key}"
        known = ", ".join(registry.known(group))
        raise ConfigError(f"{key}.name is missing", f"choose one by {choice}=NAME; known: {known}")
    component = registry.lookup(group, name)
    given = {str(k): v for k, v in node.items() if k != "name"}
    if key in overridden:
        parameters = registry.parameters(component)
        given = {k: v for k, v in given.items() if k in parameters or f"{key}.{k}" in overridden}
    return {"name": name, **dataclasses.asdict(_typed(_schema(component, name), given, key))}


@cache
def _schema(component: Callable[..., Any], name: str) -> type:
    """A dataclass with a constructor's parameters as its fields."""
    fields = []
    for parameter in registry.parameters(component).values():
        default = parameter.default
        if isinstance(default, (list, tuple)):
            made: Any = dataclasses.field(default_factory=lambda value=default: list(value))  # type: ignore[misc]
        elif default is parameter.empty:
            made = dataclasses.field()
        else:
            made = dataclasses.field(default=default)
        fields.append((parameter.name, parameter.annotation, made))
    return dataclasses.make_dataclass(name, fields, kw_only=True)


@cache
def _scalars() -> dict[str, type]:
    """A dataclass for each key without another schema, of it alone: a sweep over seeds checks nothing else again."""
    hints = get_type_hints(Config, include_extras=True)
    names = [name for name in hints if name not in (*COMPONENTS, "trainer", "reference", "ensemble")]
    return {name: dataclasses.make_dataclass("Config", [(name, hints[name])]) for name in names}


@cache
def _hints(schema: type) -> dict[str, Any]:
    """The fields' annotations with their marks."""
    return get_type_hints(schema, include_extras=True)


def _typed(schema: type, values: Any, prefix: str) -> Any:
    """`values` as an instance of the dataclass `schema`, types and ranges checked."""
    return copy.deepcopy(_checked(schema, pickle.dumps(values), prefix))  # nobody changes what is remembered


@lru_cache(REMEMBERED)
def _checked(schema: type, pickled: bytes, prefix: str) -> Any:
    """As `_typed`; of values as bytes, which tell 1 from 1.0 and true."""
    values, hints, plain = pickle.loads(pickled), _hints(schema), get_type_hints(schema)
    dotted = f"{prefix}." if prefix else ""
    if not isinstance(values := {} if values is None else values, dict):
        raise ConfigError(f"{prefix} must be a mapping of keys to values, not {_shown(values)}")
    for name, hint in plain.items():
        value = values.get(name)
        if hint is bool and isinstance(value, (int, float)) and not isinstance(value, bool):
            # OmegaConf takes any number.
            raise ConfigError(f"{dotted}{name} must be true or false, not {_shown(value)}")
    try:
        node = OmegaConf.merge(OmegaConf.structured(schema), values)
        result = OmegaConf.to_object(node)
    except ConfigKeyError as error:
        word = str(error.key)
        known = [f.name for f in dataclasses.fields(schema)]
        raise ConfigError(
            f"unknown key '{dotted}{word}'{closest(word, known)}",
            f"known: {', '.join(known) or 'none'}",
        ) from error
    except ValidationError as error:
        raise ConfigError(f"{dotted}{error.full_key or error.key}: {first_line(error)}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{dotted}{error.full_key or ''}: {first_line(error)}") from error
    for f in dataclasses.fields(schema):
        value = getattr(result, f.name)
        limits = (mark for mark in registry.marks(hints[f.name]) if isinstance(mark, (Range, OneOf, Matching)))
        admissible = [FINITE, *limits]
        for entry in value if isinstance(value, list) else [value]:
            for mark in admissible if entry is not None else ():
                if entry not in mark:
                    raise ConfigError(f"{dotted}{f.name} must be {mark}, not {_shown(entry)}")
    return result


SHOWN = 60  # characters of a wrong value


def _shown(value: Any) -> str:
    """A wrong value, on one line."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
