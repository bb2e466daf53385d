"""Errors that the user can fix, with their exit codes."""

from __future__ import annotations

__all__ = ["ConfigError", "DataError", "GenbenchError", "RunLocked"]


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


class RunLocked(GenbenchError):
    """Another process is writing to the run directory."""

    exit_code = 4
