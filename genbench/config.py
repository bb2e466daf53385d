"""The typed schema of a run: unknown keys, wrong types and values out of range fail before anything runs.

`Config` and `TrainerConfig` describe what every run has. The schema of a component (model, loss …) is the
signature of its constructor (see `genbench.registry`), so it is written once, beside the code that uses it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from genbench import registry
from genbench.errors import ConfigError
from genbench.registry import OneOf, PositiveInt, Range

__all__ = [
    "COMPONENTS",
    "Config",
    "MetricsConfig",
    "Reference",
    "TrainerConfig",
    "declared",
    "fingerprint",
    "flatten",
    "identity",
    "read",
    "to_dict",
    "without",
]

COMPONENTS = ("task", "model", "loss", "regularizer", "dataset", "optimizer", "critic_optimizer")
"""Keys of the configuration that hold a component; `critic_optimizer` may be null."""

NOT_IDENTITY = (
    "data_root",
    "output_root",
    "metrics",
    "reference",
    "device",
    "trainer.capture",
    "trainer.threads",
    "trainer.log_every",
    "trainer.checkpoint_every",
    "trainer.keep_checkpoints",
)
"""Keys that do not decide a run's numbers: places, published values, and how steps are launched, logged and saved.

So a run resumes where a path has moved, on another device, and with other intervals."""


@dataclass
class TrainerConfig:
    """How long to train and what to do in between; every interval counts training steps."""

    batch_size: PositiveInt = 64
    epochs: PositiveInt | None = None  # passes over the training set
    max_steps: PositiveInt | None = None  # with `epochs` too, whichever ends first
    drop_last: bool = False  # leave out an epoch's last, smaller batch
    log_every: PositiveInt = 100
    evaluate_every: PositiveInt | None = None  # null: once an epoch
    checkpoint_every: PositiveInt | None = None  # null: at every evaluation
    keep_checkpoints: PositiveInt = 2
    evaluate_first: bool = False  # measure the untrained networks too
    precision: Annotated[str, OneOf("fp32", "tf32", "bf16")] = "fp32"  # of networks in training, penalties aside
    capture: bool = True  # on CUDA: a whole training step as one graph
    threads: PositiveInt | None = None  # CPU threads within an operation; null: PyTorch's choice


@dataclass
class MetricsConfig:
    """Where measuring instruments lie."""

    inception_weights: str | None = None  # null: under data_root/inception, else torch-fidelity's download


@dataclass
class Reference:
    """A published value with which a measurement is compared."""

    metric: str
    value: float
    source: str
    at: Annotated[str, OneOf("final", "best")] = "final"
    tolerance: Annotated[float, Range(minimum=0)] = 0.0
    better: Annotated[str, OneOf("higher", "lower")] = "higher"
    only: dict[str, str] = field(default_factory=dict)  # values of keys without which it says nothing of this run
    note: str = ""  # why a measurement may fall short of it, found by measurement

    def verdict(self, measured: float | None) -> str:
        """reached: as good as published, within the tolerance; missed; or not measured."""
        if measured is None:
            return "not measured"
        shortfall = self.value - measured if self.better == "higher" else measured - self.value
        return "reached" if shortfall <= self.tolerance else "missed"


@dataclass
class Config:
    """A whole run, components as plain dictionaries with their `name`."""

    name: str
    seed: Annotated[int, Range(minimum=0, maximum=2**32 - 1)]
    device: str
    deterministic: bool
    data_root: str
    output_root: str
    task: dict[str, Any]
    model: dict[str, Any]
    loss: dict[str, Any]
    regularizer: dict[str, Any]
    dataset: dict[str, Any]
    optimizer: dict[str, Any]
    critic_optimizer: dict[str, Any] | None
    trainer: TrainerConfig
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    reference: list[Reference] = field(default_factory=list)


def read(composed: DictConfig, overridden: Collection[str] = ()) -> Config:
    """Check a composed configuration against the schema and return it typed.

    `overridden` are the keys of the command line. Where it replaces an experiment's component by another one, what
    the experiment had set for the first and the second does not know is dropped: `regularizer=none` just works.

    Raises ConfigError, naming the key and what would be right.
    """
    fields = {f.name for f in dataclasses.fields(Config)}
    for key in composed:
        if str(key) not in fields:
            raise ConfigError(f"unknown key {key!r}{registry.closest(str(key), fields)}")
    values = {str(key): composed[key] for key in composed}
    for key in COMPONENTS:
        values[key] = _component(key, values.get(key), overridden)
    trainer = _typed(TrainerConfig, values["trainer"], "trainer")
    if trainer.epochs is None and trainer.max_steps is None:
        raise ConfigError("no end to the training", "set trainer.epochs or trainer.max_steps")
    references = [_typed(Reference, entry, f"reference[{i}]") for i, entry in enumerate(values["reference"] or [])]
    plain = {key: values.get(key) for key in ("name", "seed", "device", "deterministic", "data_root", "output_root")}
    if not plain["name"] or "/" in str(plain["name"]):
        raise ConfigError("name: the run needs a name without '/'", "choose experiment=NAME or set name=NAME")
    scalars = dataclasses.make_dataclass("Config", [(key, get_type_hints(Config)[key]) for key in plain])
    checked = _typed(scalars, plain, "", get_type_hints(Config, include_extras=True))
    found = Config(
        **{key: getattr(checked, key) for key in plain},
        **{key: values[key] for key in COMPONENTS},
        trainer=trainer,
        metrics=_typed(MetricsConfig, values.get("metrics"), "metrics"),
    )
    found.reference = declared(flatten(to_dict(found)), references)
    return found


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


def declared(flat: Mapping[str, Any], references: Iterable[Reference]) -> list[Reference]:
    """The published values that apply to a run with these settings, {dotted key: value}."""
    return [
        reference
        for reference in references
        if all(_is(flat.get(key), str(wanted)) for key, wanted in reference.only.items())
    ]


def _is(value: Any, wanted: str) -> bool:
    """A setting has the value that is written so: 1 is 1.0."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(wanted) == value
        except ValueError:
            return False
    return str(value) == wanted


def without(flat: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """{dotted key: value} less `keys` and all below them."""
    return {key: value for key, value in flat.items() if not any(f"{key}.".startswith(f"{k}.") for k in keys)}


def identity(config: Config) -> dict[str, Any]:
    """The part of the configuration that decides what is computed, {dotted key: value}."""
    return without(flatten(to_dict(config)), NOT_IDENTITY)


def fingerprint(config: Config) -> str:
    """Eight hexadecimal digits that change when anything that is computed changes.

    Options at their defaults are left out, so an option that is new in genbench leaves them as they were.
    """
    defaults = _defaults(config)
    chosen = {key: value for key, value in identity(config).items() if key not in defaults or value != defaults[key]}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]


def _defaults(config: Config) -> dict[str, Any]:
    """Of all options that have one, {dotted key: value}."""
    found = {f"trainer.{f.name}": f.default for f in dataclasses.fields(TrainerConfig)}
    for key in COMPONENTS:
        component = getattr(config, key)
        if component is not None:
            for parameter in registry.parameters(registry.lookup(_group(key), component["name"])).values():
                default = parameter.default
                found[f"{key}.{parameter.name}"] = list(default) if isinstance(default, tuple) else default
    return found


def _group(key: str) -> str:
    """The registry's group of a component."""
    return "optimizer" if key == "critic_optimizer" else key


def _component(key: str, node: DictConfig | None, overridden: Collection[str]) -> dict[str, Any] | None:
    if node is None:
        if key == "critic_optimizer":
            return None
        raise ConfigError(f"no {key} chosen", f"add {key}=NAME; known: {', '.join(registry.known(key))}")
    group = _group(key)
    name = node.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"{key}.name is missing", f"known: {', '.join(registry.known(group))}")
    parameters = registry.parameters(registry.lookup(group, name))
    given = {str(k): v for k, v in node.items() if k != "name"}
    if key in overridden:
        given = {k: v for k, v in given.items() if k in parameters or f"{key}.{k}" in overridden}
    hints = {parameter.name: parameter.annotation for parameter in parameters.values()}
    typed = _typed(_schema(name, parameters.values()), given, key, hints)
    return {"name": name, **dataclasses.asdict(typed)}


def _schema(name: str, parameters: Iterable[inspect.Parameter]) -> type:
    """A dataclass with a constructor's parameters as its fields."""
    fields = []
    for parameter in parameters:
        default = parameter.default
        if isinstance(default, (list, tuple)):
            default_field: Any = dataclasses.field(default_factory=lambda value=default: list(value))  # type: ignore[misc]
        elif default is parameter.empty:
            default_field = dataclasses.field()
        else:
            default_field = dataclasses.field(default=default)
        fields.append((parameter.name, _strip(parameter.annotation), default_field))
    return dataclasses.make_dataclass(name, fields, kw_only=True)


def _typed(schema: type, values: Any, prefix: str, hints: dict[str, Any] | None = None) -> Any:
    """`values` as an instance of the dataclass `schema`, types and ranges checked."""
    hints = hints or get_type_hints(schema, include_extras=True)
    dotted = f"{prefix}." if prefix else ""
    try:
        node = OmegaConf.merge(OmegaConf.structured(schema), values or {})
        result = OmegaConf.to_object(node)
    except ConfigKeyError as error:
        word = str(error.key)
        known = [f.name for f in dataclasses.fields(schema)]
        raise ConfigError(
            f"unknown key '{dotted}{word}'{registry.closest(word, known)}",
            f"known: {', '.join(known) or 'none'}",
        ) from error
    except ValidationError as error:
        raise ConfigError(f"{dotted}{error.full_key or error.key}: {_first_line(error)}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{dotted}{error.full_key or ''}: {_first_line(error)}") from error
    for f in dataclasses.fields(schema):
        value = getattr(result, f.name)
        for admissible in _marks(hints[f.name]):
            for entry in value if isinstance(value, list) else [value]:
                if entry is not None and entry not in admissible:
                    raise ConfigError(f"{dotted}{f.name} must be {admissible}, not {entry}")
    return result


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _marks(hint: Any) -> Iterator[Range | OneOf]:
    """The Range and OneOf marks in a (possibly optional or list) annotation."""
    for part in (*getattr(hint, "__metadata__", ()), *get_args(hint)):
        if isinstance(part, (Range, OneOf)):
            yield part
        else:
            yield from _marks(part)


def _strip(hint: Any) -> Any:
    """An annotation without its Annotated[…] marks: what OmegaConf understands."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _strip(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return Union[tuple(_strip(part) for part in get_args(hint))]  # noqa: UP007
    if origin is list:
        return list[_strip(get_args(hint)[0])]  # type: ignore[misc]
    return hint
