"""Hydra in, a checked configuration out: plug-ins' configuration, and mistakes told in one message.

The only module that imports Hydra, and nothing of Hydra that is private.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from genbench.errors import ConfigError, StorageError, explained
from genbench.naming import closest, natural

if TYPE_CHECKING:
    from genbench.arguments import Arguments
    from genbench.config import Config

__all__ = [
    "CONFIG_DIRECTORY",
    "GROUPS",
    "Job",
    "Request",
    "add_search_path",
    "check",
    "configuration",
    "experiment",
    "key_of",
    "launch",
    "validate",
]

_PACKAGE = Path(__file__).resolve().parent
# In a wheel the configuration lies inside the package, in a checkout beside it.
CONFIG_DIRECTORY = next(
    path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if (path / "train.yaml").is_file()
)

GROUPS = ("experiment", "task", "model", "loss", "regularizer", "dataset", "optimizer", "trainer")

HYDRA_ERRORS = (HydraException, OmegaConfBaseException, OSError, AssertionError, TypeError, ValueError)
"""What Hydra raises for bad input; the last ones for `hydra` keys of senseless values."""

Job = Callable[[DictConfig, Sequence[str], str], float]
"""A composed configuration, the overrides it was composed with and the launcher's name → what a sweeper optimizes."""


@dataclass(frozen=True)
class Request:
    """A job that a command line asks for.

    Attributes:
        words: the overrides that composed it.
        launcher: the name of what runs it; `basic` runs it here, one job after the other.
        directory: what Hydra makes for it.
    """

    config: Config
    words: tuple[str, ...]
    launcher: str
    directory: Path


_directories: list[Path] = []
"""Where configuration is looked for beside our own."""


class _OtherDirectories(SearchPathPlugin):
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for directory in _directories:
            search_path.append("genbench", f"file://{directory}")


def add_search_path(own: Path | None = None) -> None:
    """Let Hydra find the `conf/` directories of plug-in packages, and a directory of the user's own."""
    from importlib.metadata import entry_points

    _directories[:] = [own] if own else []
    if entry_points(group="genbench.plugins"):  # without plug-ins there is no reason to import PyTorch yet
        from genbench.registry import plugin_config_directories

        _directories.extend(plugin_config_directories())
    Plugins.instance().register(_OtherDirectories)
    experiment.cache_clear()


@cache
def experiment(name: str) -> Config | None:
    """What `experiment=name` composes, checked; None if there is no such experiment."""
    try:
        return configuration(f"experiment={name}")
    except ConfigError:
        return None


def check(arguments: Arguments) -> list[Request]:
    """Compose and validate every job that a command line asks for. Raises ConfigError; writes nothing.

    Empty where another sweeper than Hydra's own finds its values as it goes: each job is checked when it starts.
    """
    with _composer():
        overrides = _parse_overrides(arguments.overrides, GlobalHydra.instance().config_loader())
        return [_request(job, arguments.multirun) for job in _jobs(overrides, arguments.multirun)]


@contextmanager
def _composer() -> Iterator[None]:
    if GlobalHydra.instance().is_initialized():  # within a job
        yield
        return
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        yield


def _parse_overrides(words: Sequence[str], loader: ConfigLoader) -> list[Override]:
    parser = OverridesParser.create(config_loader=loader)
    overrides = []
    for word in words:
        try:
            overrides += parser.parse_overrides([word])
        except HydraException as error:
            raise ConfigError(f"{word!r} is not of the form KEY=VALUE: {_first_line(error)}") from error
    return overrides


def _jobs(overrides: list[Override], multirun: bool) -> list[list[Override]]:
    """The overrides of every single job."""
    swept = [override for override in overrides if override.is_sweep_override()]
    if not multirun:
        if swept:
            raise ConfigError(
                f"{swept[0].key_or_group} has several values: {swept[0].get_value_string()}",
                "add -m to run one job for each",
            )
        return [overrides]
    if any(override.key_or_group == "hydra/sweeper" and override.value() != "basic" for override in overrides):
        return []
    choices = [_choices(override) for override in overrides]
    if not all(choices):
        raise ConfigError("the sweep is empty: " + " ".join(override.input_line or "" for override in swept))
    loader = GlobalHydra.instance().config_loader()
    # A sweep's Hydra settings (launcher and so on) hold for all its jobs; Hydra's sweeper leaves them in each.
    return [_parse_overrides(list(words), loader) for words in itertools.product(*choices)]


def _choices(override: Override) -> list[str]:
    """What an override becomes in the jobs of a sweep: KEY=VALUE for each value."""
    if not override.is_sweep_override():
        return [override.input_line or ""]
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{override.key_or_group} has infinitely many values: {override.get_value_string()}",
            "list values, a=1,2,3 or a=range(1,4), or choose a sweeper that draws them, hydra/sweeper=optuna",
        )
    key = override.get_key_element()
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _request(job: list[Override], multirun: bool) -> Request:
    composed, words = _composed(job)
    try:
        hydra = composed.hydra
        launcher, several = hydra.runtime.choices["hydra/launcher"], multirun or hydra.mode == RunMode.MULTIRUN
        directory = Path(hydra.sweep.dir if several else hydra.run.dir)
    except HYDRA_ERRORS as error:
        raise ConfigError(f"hydra: {_first_line(error)}") from error
    with open_dict(composed):
        del composed["hydra"]
    return Request(validate(composed, words), tuple(words), str(launcher), directory)


def _composed(job: list[Override]) -> tuple[DictConfig, list[str]]:
    """The configuration with Hydra's own, and the words that it was composed with."""
    _check_groups(job, GlobalHydra.instance().config_loader())
    words = [override.input_line for override in job if override.input_line]
    try:
        return compose("train", overrides=words, return_hydra_config=True), words
    except HYDRA_ERRORS as error:
        raise _explained(job, error) from error


def configuration(*words: str) -> Config:
    """What `genbench` composes from these words, checked. Raises ConfigError."""
    with _composer():
        return _request(_parse_overrides(words, GlobalHydra.instance().config_loader()), multirun=False).config


def launch(words: Sequence[str], job: Job | None = None) -> None:
    """Let Hydra run one job, or all jobs of a sweep, or print something, as the words of a command line ask for.

    Raises ConfigError for what Hydra cannot do.
    """
    import hydra  # hydra.main reads the command line from sys.argv

    def call(composed: DictConfig) -> float:
        from hydra.core.hydra_config import HydraConfig

        assert job is not None
        settings = HydraConfig.get()
        return job(composed, settings.overrides.task, settings.runtime.choices["hydra/launcher"])

    sys.argv = [sys.argv[0], *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, instead of printing them and exiting with 1
    try:
        hydra.main(config_path=str(CONFIG_DIRECTORY), config_name="train", version_base="1.3")(call)()
    except HYDRA_ERRORS as error:  # a job tells its own
        if isinstance(explained(error), StorageError):
            raise  # a full disk is no bad input
        raise ConfigError(f"Hydra cannot do this: {_first_line(error)}", "see --cfg hydra for its keys") from error


def validate(composed: DictConfig, words: Sequence[str] = ()) -> Config:
    """The typed configuration of what was composed with the overrides `words`. Raises ConfigError."""
    from genbench import config

    return config.read(composed, {key_of(word) for word in words})


def key_of(word: str) -> str:
    """What an override sets."""
    return word.lstrip("+~").split("=")[0].split("@")[-1]


def _check_groups(job: list[Override], loader: ConfigLoader) -> None:
    for override in job:
        group = override.key_or_group
        if group not in GROUPS or override.is_delete():
            continue
        options = loader.get_group_options(group, ObjectType.CONFIG)
        choice = override.value()
        if choice not in options:
            shown = sorted(options, key=natural)
            raise ConfigError(
                f"unknown {group} {choice!r}{closest(str(choice), options)}", f"known: {', '.join(shown)}"
            )


def _explained(job: list[Override], error: Exception) -> ConfigError:
    """Hydra's complaint, with the closest key where a key is unknown."""
    groups = [override for override in job if override.key_or_group in GROUPS or "@" in (override.input_line or "")]
    try:
        base = compose("train", overrides=[override.input_line or "" for override in groups])
    except HYDRA_ERRORS:
        return ConfigError(_first_line(error))
    keys = _dotted(OmegaConf.to_container(base))
    for override in job:
        key = override.key_or_group
        if override in groups or override.is_add() or override.is_force_add() or key.startswith("hydra"):
            continue
        if key not in keys:
            return ConfigError(f"unknown key {key!r}{closest(key, [*keys, *GROUPS])}", "see --cfg job for all keys")
    return ConfigError(_first_line(error))


def _dotted(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    return [name for key, value in node.items() for name in (prefix + key, *_dotted(value, f"{prefix}{key}."))]


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
