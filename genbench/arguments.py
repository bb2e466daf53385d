"""The words of a command line: options, and overrides KEY=VALUE."""

from __future__ import annotations

import argparse
import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from genbench.errors import ConfigError

__all__ = ["Arguments", "Parser", "parse", "whole_number"]

REMEDY = "see genbench --help"
# Options with which Hydra prints something instead of running a job.
SHOWING = ("cfg", "info", "shell_completion", "hydra_help")
RUNS = ("extend", "init_from")
"""Keys whose value is a run directory."""

SEARCH_PATH = "hydra.searchpath="
FILE = "file://"

FOR_HYDRA = ("run", "multirun", "package", "resolve", *SHOWING)


@dataclass(frozen=True)
class Arguments:
    """What a command line asks for.

    Attributes:
        overrides: KEY=VALUE words, in the given order.
        multirun: one job for each combination of the listed values.
        shows: Hydra prints something, and no job runs.
        search_path: where the user's own configuration lies, as Hydra writes places: file://DIRECTORY, pkg://PACKAGE.
        for_hydra: the options that Hydra has to know, then the overrides: Hydra takes none before an option.
    """

    overrides: tuple[str, ...]
    multirun: bool
    shows: bool
    search_path: tuple[str, ...]
    for_hydra: tuple[str, ...]

    @property
    def own(self) -> list[Path]:
        """The directories of `search_path`."""
        return [Path(place.removeprefix(FILE)) for place in self.search_path if place.startswith(FILE)]


class Parser(argparse.ArgumentParser):
    """Options without abbreviations; a wrong one raises ConfigError with the remedy."""

    def __init__(self, remedy: str) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self._remedy = remedy

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, self._remedy)


def _parser() -> Parser:
    """Hydra's options, those that make no sense here left out."""
    parser = Parser(REMEDY)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-r", "--run", action="store_true")
    parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all"))
    parser.add_argument("-p", "--package")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument(
        "-i",
        "--info",
        nargs="?",
        const="all",
        choices=("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    )
    parser.add_argument("-sc", "--shell-completion", action="store_true")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("-cd", "--config-dir")
    for names in (("-cp", "--config-path"), ("-cn", "--config-name")):
        parser.add_argument(*names)
    return parser


def parse(words: Sequence[str]) -> Arguments:
    """Options and overrides, which may stand in any order. Raises ConfigError for options that do not go together."""
    known, unknown = _parser().parse_known_intermixed_args(words)
    if unknown:
        raise ConfigError(f"unknown option {unknown[0]}", REMEDY)
    if known.config_path is not None or known.config_name is not None:
        raise ConfigError(
            "there is one configuration, and --config-path and --config-name would replace it",
            "add experiments of your own by --config-dir DIRECTORY, which holds experiment/NAME.yaml",
        )
    if sum(map(bool, (known.run, known.multirun, known.cfg, known.info, known.shell_completion))) > 1:
        raise ConfigError("--run, --multirun, --cfg, --info and --shell-completion exclude one another", REMEDY)
    for option in ("resolve", "package"):
        if getattr(known, option) and not known.cfg:
            raise ConfigError(f"--{option} is for --cfg", "add --cfg job to print the composed configuration")
    places = [word for word in known.overrides if word.startswith(SEARCH_PATH)]
    known.overrides = [_run_named(word) for word in known.overrides if word not in places]
    directories = [place for word in places for place in word.removeprefix(SEARCH_PATH).strip("[]").split(",")]
    if known.config_dir is not None:
        directories.append(str(known.config_dir))
    return Arguments(
        overrides=tuple(known.overrides),
        multirun=known.multirun,
        shows=any(getattr(known, option) for option in SHOWING),
        search_path=tuple(_place(directory.strip("'\" ")) for directory in directories),
        for_hydra=(*_options(known), *known.overrides),
    )


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of an option of any argument parser, which tells the range where a word is no number in it."""
    told = f"a whole number, at least {least}" if most is None else f"a whole number, {least} to {most}"

    def read(word: str) -> int:
        try:
            value = int(word)
        except ValueError:
            raise argparse.ArgumentTypeError(told) from None
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(told)
        return value

    return read


def _run_named(word: str) -> str:
    """An override whose value is a run directory, quoted: its name holds signs that mean something to Hydra.

    A pattern stands for the one directory that matches it.
    """
    key, equals, value = word.partition("=")
    if key.lstrip("+") not in RUNS or not value or value[0] in "'\"" or value == "null":
        return word
    if any(sign in value for sign in "*?["):
        found = sorted(glob.glob(value))
        if len(found) != 1:
            told = f"{len(found)} directories match" if found else "nothing matches"
            raise ConfigError(f"{key}={value}: {told}", "name one run directory")
        value = found[0]
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}{equals}'{escaped}'"


def _place(written: str) -> str:
    """A place of configuration, absolute."""
    if "://" in written and not written.startswith(FILE):
        return written
    directory = Path(written.removeprefix(FILE))
    if not directory.is_dir():
        raise ConfigError(f"{directory}: there is no such directory")
    return FILE + str(directory.absolute())


def _options(known: argparse.Namespace) -> Iterator[str]:
    """Those that Hydra has to know."""
    for name in FOR_HYDRA:
        value, option = getattr(known, name), f"--{name.replace('_', '-')}"
        if value:
            yield option if value is True else f"{option}={value}"
