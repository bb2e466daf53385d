"""The typed schema of a run: unknown keys, wrong types and values out of range fail before anything runs.

`Config` and `TrainerConfig` describe what every run has. The schema of a component (model, loss …) is the
signature of its constructor (see `genbench.registry`), so it is written once, beside the code that uses it.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from genbench import registry
from genbench.errors import ConfigError
from genbench.naming import closest
from genbench.registry import OneOf, PositiveInt, Range

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
class Reference:
    """A published value with which a measurement is compared."""

    metric: str
    value: float
    source: str
    at: Annotated[str, OneOf("final", "best")] = "final"
    tolerance: Annotated[float, Range(minimum=0)] = 0.0
    better: Annotated[str, OneOf("higher", "lower")] = "higher"
    protocol: dict[str, str] = field(default_factory=dict)  # entries of a protocol that it holds for
    note: str = ""  # why a measurement may fall short of it, found by measurement

    @property
    def label(self) -> str:
        """Names its line in a picture."""
        return self.source if self.at == "final" else f"{self.source}, {self.at}"


@dataclass
class Ensemble:
    """Runs that are trained together, as one batched model."""

    experiments: list[str]
    replicas: PositiveInt = 1  # seeds of each: seed, seed + 1, …


@dataclass
class Config:
    """A whole run, components as plain dictionaries with their `name`."""

    name: str
    seed: Annotated[int, Range(minimum=0, maximum=LARGEST_SEED)]
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
    reference: list[Reference] = field(default_factory=list)
    ensemble: Ensemble | None = None


def read(composed: DictConfig, overridden: Collection[str] = ()) -> Config:
    """Check a composed configuration against the schema and return it typed.

    `overridden` are the keys of the command line. Where it replaces an experiment's component by another one, what
    the experiment had set for the first and the second does not know is dropped: `regularizer=none` just works.

    Raises ConfigError, naming the key and what would be right.
    """
    fields = {f.name for f in dataclasses.fields(Config)}
    for key in composed:
        if str(key) not in fields:
            raise ConfigError(f"unknown key {key!r}{closest(str(key), fields)}")
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
    return Config(
        **{key: getattr(checked, key) for key in plain},
        **{key: values[key] for key in COMPONENTS},
        trainer=trainer,
        reference=references,
        ensemble=_typed(Ensemble, values["ensemble"], "ensemble") if values.get("ensemble") else None,
    )


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


def _component(key: str, node: DictConfig | None, overridden: Collection[str]) -> dict[str, Any] | None:
    if node is None:
        if key == "critic_optimizer":
            return None
        raise ConfigError(f"no {key} chosen", f"add {key}=NAME; known: {', '.join(registry.known(key))}")
    group = group_of(key)
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
            f"unknown key '{dotted}{word}'{closest(word, known)}",
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
