"""What can go wrong in a way that the user can mend, and the exit code that says so."""

from __future__ import annotations

__all__ = ["ConfigError", "DataError", "GenbenchError", "RunLocked"]


class GenbenchError(Exception):
    """A problem that is told in one message with its remedy, without a traceback."""

    exit_code = 1


class ConfigError(GenbenchError, ValueError):
    """The configuration asks for something that does not exist or makes no sense."""

    exit_code = 2

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}\n  {remedy}" if remedy else problem)


class DataError(GenbenchError):
    """A data file is missing, damaged or not to be had."""

    exit_code = 2


class RunLocked(GenbenchError):
    """Another process is writing to the run directory."""

    exit_code = 4
