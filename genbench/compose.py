"""Hydra in, a checked configuration out: plug-ins' configuration, and mistakes told in one message.

With `genbench.launching` it alone imports Hydra, and nothing of Hydra that is private.
"""

from __future__ import annotations

import copy
import fnmatch
import itertools
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from genbench import config as schema
from genbench import registry
from genbench.config import Config
from genbench.errors import ConfigError, GenbenchError, explained, first_line
from genbench.naming import closest, natural, nearest

if TYPE_CHECKING:
    from genbench.arguments import Arguments

__all__ = [
    "CONFIG_DIRECTORY",
    "GROUPS",
    "Job",
    "Request",
    "add_search_path",
    "composed",
    "composer",
    "configuration",
    "experiment",
    "key_of",
    "launch",
    "parse",
    "request",
    "requests",
    "sweep",
    "validate",
]

_PACKAGE = Path(__file__).resolve().parent
# In a wheel the configuration lies inside the package, in a checkout beside it.
CONFIG_DIRECTORY = next(
    path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if (path / "train.yaml").is_file()
)

GROUPS = ("experiment", "task", "model", "loss", "regularizer", "dataset", "optimizer", "trainer")
HYDRA_GROUPS = ("hydra/launcher", "hydra/sweeper")

HYDRA_ERRORS = (HydraException, OmegaConfBaseException, OSError, AssertionError, TypeError, ValueError)
"""What Hydra raises for bad input; the last ones for `hydra` keys of senseless values."""

REMEMBERED = 64  # compositions
LISTED = 20  # choices that a message can list


@dataclass(frozen=True)
class Job:
    """The overrides of one job, and the words of those among them that a sweep chose."""

    overrides: list[Override]
    swept: Sequence[str] = ()


@dataclass(frozen=True)
class Request:
    """A job that a command line asks for.

    Attributes:
        words: the overrides that composed it, those of Hydra aside.
        swept: those of them that a sweep chose.
        environment: variables that are set for it, `hydra.job.env_set`.
    """

    config: Config
    words: tuple[str, ...] = ()
    swept: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


_places: list[str] = []
"""Where configuration is looked for beside our own."""


class _OtherDirectories(SearchPathPlugin):
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for place in _places:
            search_path.append("genbench", place)


def add_search_path(own: Sequence[str] = ()) -> None:
    """Let Hydra find the `conf/` directories of plug-in packages, and the user's own places."""
    before = list(_places)
    _places[:] = [*own, *(f"file://{directory}" for directory in registry.plugin_config_directories())]
    Plugins.instance().register(_OtherDirectories)
    if _places != before:
        experiment.cache_clear()


@cache
def experiment(name: str) -> Config | None:
    """What `experiment=name` composes, checked; None if there is no such experiment."""
    try:
        return configuration(f"experiment={name}")
    except ConfigError:
        return None


def requests(words: Sequence[str], multirun: bool) -> list[Request]:
    """Compose and validate every job that overrides ask for. Raises ConfigError; writes nothing."""
    with composer():
        return [request(job) for job in (sweep(words) if multirun else [_single(parse(words))])]


@contextmanager
def composer() -> Iterator[None]:
    """A block that may compose: Hydra is initialized, by itself where it runs a job."""
    if GlobalHydra.instance().is_initialized():
        yield
        return
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        yield


def parse(words: Sequence[str]) -> list[Override]:
    """Overrides, read. Raises ConfigError."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = []
    for word in words:
        try:
            overrides += parser.parse_overrides([word])
        except HydraException as error:
            raise _not_an_override(word, error) from error
    return overrides


def _not_an_override(word: str, error: Exception) -> ConfigError:
    """What was meant by a word that is none: often a name without its group."""
    if "=" in word:
        return ConfigError(f"{word!r} is not of the form KEY=VALUE: {first_line(error)}")
    problem = f"{word!r} is not of the form KEY=VALUE"
    if word == "explain":
        return ConfigError(problem, "explain comes first: genbench explain NAME")
    loader = GlobalHydra.instance().config_loader()
    options = {group: loader.get_group_options(group, ObjectType.CONFIG) for group in GROUPS}
    if meant := [f"{group}={word}" for group in GROUPS if word in options[group]]:
        return ConfigError(problem, f"did you mean {' or '.join(meant)}?")
    if fnmatch.filter(options["experiment"], word):
        return ConfigError(problem, _swept("experiment", word))
    near = nearest(word, options["experiment"], 1)
    return ConfigError(problem, f"did you mean experiment={near[0]}?" if near else "see genbench --help")


def _swept(group: str, pattern: str) -> str:
    return f"for all that match: genbench -m '{group}=glob({pattern})'"


def _single(overrides: list[Override]) -> Job:
    for override in overrides:
        if override.is_sweep_override():
            raise ConfigError(
                f"{override.key_or_group} has several values: {override.get_value_string()}",
                "add -m to run one job for each",
            )
    return Job(overrides)


def sweep(words: Sequence[str]) -> list[Job]:
    """All combinations of the listed values, in order. Raises ConfigError."""
    overrides = parse(words)
    choices = [_choices(override) for override in overrides]
    if not all(choices):
        raise ConfigError("the sweep is empty: " + " ".join(_words(filter(Override.is_sweep_override, overrides))))
    chosen = [override.is_sweep_override() for override in overrides]
    return [Job(list(job), _words(itertools.compress(job, chosen))) for job in itertools.product(*choices)]


def _choices(override: Override) -> list[Override]:
    """What an override becomes in the jobs of a sweep: KEY=VALUE for each value."""
    if not override.is_sweep_override():
        return [override]
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{override.key_or_group} has infinitely many values: {override.get_value_string()}",
            "list values, a=1,2,3 or a=range(1,4), or choose a sweeper that draws them, hydra/sweeper=optuna",
        )
    key = override.get_key_element()
    return parse([f"{key}={value}" for value in override.sweep_string_iterator()])


def request(job: Job) -> Request:
    """A job, composed and validated. Raises ConfigError."""
    base, values, words = _parts(job)
    try:
        environment = {str(key): str(value) for key, value in base.hydra.job.env_set.items()}
    except HYDRA_ERRORS as error:
        raise ConfigError(f"hydra: {first_line(error)}") from error
    found = OmegaConf.masked_copy(base, [str(key) for key in base if key != "hydra"])
    OmegaConf.set_struct(found, True)
    return Request(validate(_with_values(found, values, job), words), words, tuple(job.swept), environment)


def composed(job: Job) -> DictConfig:
    """The configuration of a job, Hydra's own included, as Hydra composes it. Raises ConfigError."""
    base, values, words = _parts(job)
    found = _with_values(copy.deepcopy(base), values, job)
    with read_write(found.hydra), open_dict(found.hydra):
        found.hydra.overrides.task = list(words)
    return found


def _parts(job: Job) -> tuple[DictConfig, list[Override], tuple[str, ...]]:
    """What the files that a job names compose, the values that it then sets, and its words but for those of Hydra.

    Jobs that differ in values alone share what takes long: to find files, and to merge them.
    """
    groups = _groups(tuple(_places))
    values = [override for override in job.overrides if _sets_a_value(override, groups)]
    files = _words(override for override in job.overrides if override not in values)
    try:
        base = _composed(tuple(files), tuple(_places), os.getcwd())
    except ConfigError:
        raise
    except HYDRA_ERRORS as error:
        raise _explained(job.overrides, error) from error
    return base, values, tuple(_words(each for each in job.overrides if not each.is_hydra_override()))


def _with_values(config: DictConfig, values: Sequence[Override], job: Job) -> DictConfig:
    try:
        for override in values:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    except HYDRA_ERRORS as error:
        raise _explained(job.overrides, error) from error
    return config


@lru_cache(REMEMBERED)
def _composed(words: tuple[str, ...], places: tuple[str, ...], directory: str) -> DictConfig:
    """What these words compose in a working directory, where configuration is looked for in these places too."""
    _check_groups(parse(words), GlobalHydra.instance().config_loader())
    return compose("train", overrides=list(words), return_hydra_config=True)


@cache
def _groups(places: tuple[str, ...]) -> frozenset[str]:
    return frozenset(GlobalHydra.instance().config_loader().list_groups(""))


def _sets_a_value(override: Override, groups: Collection[str]) -> bool:
    """Whether an override changes a value that is there, and neither chooses a file nor adds or deletes a key."""
    key = override.key_or_group
    changes = override.type == OverrideType.CHANGE and override.package is None
    return changes and key not in groups and "/" not in key and not override.is_hydra_override()


def _words(overrides: Iterable[Override]) -> list[str]:
    return [override.input_line for override in overrides if override.input_line]


def configuration(*words: str) -> Config:
    """What `genbench` composes from these words, checked. Raises ConfigError."""
    return requests(words, multirun=False)[0].config


def launch(asked: Arguments, job: Callable[[DictConfig], float]) -> None:
    """Let Hydra run a job, or a sweep, or print something, as a command line asks for.

    What a job returns is for sweepers that optimize. Raises ConfigError for what Hydra cannot do.
    """
    import hydra  # hydra.main reads the command line from sys.argv

    sys.argv = [sys.argv[0], *asked.for_hydra]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, instead of printing them and exiting with 1
    try:
        hydra.main(config_path=str(CONFIG_DIRECTORY), config_name="train", version_base="1.3")(job)()
    except HYDRA_ERRORS as error:  # a job tells its own
        for cause in _causes(error):
            if isinstance(explained(cause), GenbenchError):
                raise cause from None  # ours, or a full disk, which is no bad input
        requests(asked.overrides, asked.multirun)  # raises what says it better
        raise ConfigError(f"Hydra cannot do this: {first_line(error)}", "see --cfg hydra for its keys") from error


def _causes(error: Exception) -> Iterator[Exception]:
    """An error, and those that it was raised from."""
    cause: BaseException | None = error
    while isinstance(cause, Exception):
        yield cause
        cause = cause.__cause__


def validate(composed: DictConfig, words: Sequence[str] = ()) -> Config:
    """The typed configuration of what was composed with the overrides `words`. Raises ConfigError."""
    return schema.read(composed, {key_of(word) for word in words})


def key_of(word: str) -> str:
    """What an override sets."""
    return word.lstrip("+~").split("=")[0].split("@")[-1]


def _check_groups(job: Sequence[Override], loader: ConfigLoader) -> None:
    for override in job:
        group = override.key_or_group
        if group not in (*GROUPS, *HYDRA_GROUPS) or override.is_delete():
            continue
        options = loader.get_group_options(group, ObjectType.CONFIG)
        choice = override.value()
        if choice not in options:
            raise _unknown(group, choice, options)


def _unknown(group: str, choice: object, options: Sequence[str]) -> ConfigError:
    if fnmatch.filter(options, str(choice)):
        return ConfigError(f"{group}={choice} is a pattern", _swept(group, str(choice)))
    problem = f"unknown {group} {choice!r}{closest(str(choice), options)}"
    if len(options) <= LISTED:
        return ConfigError(problem, f"known: {', '.join(sorted(options, key=natural))}")
    similar = nearest(str(choice), options, 4)[1:]
    return ConfigError(problem, f"known: {', '.join([*similar, f'{len(options)} in all, see genbench --help'])}")


def _explained(job: Sequence[Override], error: Exception) -> ConfigError:
    """Hydra's complaint, with the closest key where a key is unknown."""
    groups = [override for override in job if override.key_or_group in GROUPS or "@" in (override.input_line or "")]
    try:
        base = compose("train", overrides=[override.input_line or "" for override in groups])
    except HYDRA_ERRORS:
        return ConfigError(first_line(error))
    keys = _dotted(OmegaConf.to_container(base))
    for override in job:
        key = override.key_or_group
        if override in groups or override.is_add() or override.is_force_add() or key.startswith("hydra"):
            continue
        if key not in keys:
            return ConfigError(f"unknown key {key!r}{closest(key, [*keys, *GROUPS])}", "see --cfg job for all keys")
    return ConfigError(first_line(error))


def _dotted(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    return [name for key, value in node.items() for name in (prefix + key, *_dotted(value, f"{prefix}{key}."))]
