"""Errors that the user can fix, with their exit codes."""

from __future__ import annotations

import errno
import importlib
from types import ModuleType

__all__ = [
    "ConfigError",
    "DataError",
    "GenbenchError",
    "RunLocked",
    "StorageError",
    "Unsupported",
    "explained",
    "first_line",
    "in_one_line",
    "optional_package",
]


class GenbenchError(Exception):
    """An error reported as one message with its remedy, without a traceback."""

    exit_code = 1


class ConfigError(GenbenchError, ValueError):
    """The configuration asks for something that does not exist or makes no sense."""

    exit_code = 2

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}\n  {remedy}" if remedy else problem)


class DataError(GenbenchError):
    """A data file is missing or damaged and cannot be downloaded."""

    exit_code = 2


class Unsupported(GenbenchError, NotImplementedError):
    """A family of models cannot do what was asked for; the message says what it can."""

    exit_code = 2


class RunLocked(GenbenchError):
    """Another process is writing to the run directory."""

    exit_code = 4


class StorageError(GenbenchError):
    """A file cannot be read or written, for a reason that the user can remove."""

    REMEDIES = {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "free some space of your quota",
        errno.EROFS: "make the file system writable",
        errno.EACCES: "give yourself the right to read and write there",
        errno.EIO: "check the disk",
    }

    def __init__(self, error: OSError) -> None:
        where = f"{error.filename}: " if error.filename else ""
        remedy = self.REMEDIES.get(error.errno or 0, "")
        super().__init__(
            f"{where}{error.strerror}\n  {remedy} and repeat the command; a run goes on from its last checkpoint"
        )


def explained(error: Exception) -> Exception:
    """The error, or the GenbenchError that says the same in a message."""
    if isinstance(error, OSError) and error.errno in StorageError.REMEDIES:
        return StorageError(error)
    return error


def first_line(error: BaseException) -> str:
    """What an error says, in a line; its class where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def in_one_line(error: BaseException) -> str:
    """All that an error says, cut at 200 characters: the first line of one of PyTorch's says only that it is one."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def optional_package(name: str, extra: str) -> ModuleType:
    """A package that one of our extras installs. Raises ConfigError that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{name} is not installed", f"pip install 'genbench[{extra}]'") from error
