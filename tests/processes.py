"""Processes that begin as copies of the tests' own, where PyTorch is imported already: a new Python takes seconds."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import runpy
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch

from genbench import registry
from genbench.compose import Request
from genbench.data import loading
from genbench.launching import local
from genbench.launching.work import Home

__all__ = ["Forked", "killed_at_first", "python"]

STREAMS = {1: "stdout", 2: "stderr"}


class Forked:
    """`call()` in a process of its own, in a directory, where its output goes to hidden files.

    As with a new Python, signals do there what they do by default, and SystemExit or a traceback ends it.
    """

    def __init__(
        self, call: Callable[[], object], directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        mark = os.urandom(4).hex()
        self._files = {stream: directory / f".{name}-{mark}" for stream, name in STREAMS.items()}
        self._process = multiprocessing.get_context("fork").Process(
            target=self._run, args=(call, directory, environment or {})
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.returncode: int | None = None

    def _run(self, call: Callable[[], object], directory: Path, environment: Mapping[str, str]) -> None:
        for stream, path in self._files.items():
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
            setattr(sys, STREAMS[stream], os.fdopen(stream, "w", buffering=1, closefd=False))
        for signum, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            signal.signal(signum, handler)
        os.chdir(directory)
        os.environ.update(environment)
        warnings.simplefilter("ignore")  # which are errors in the tests themselves
        torch.set_num_threads(1)
        loading.forget()
        # The parent's server of processes is no child of this one, which starts its own.
        forkserver._forkserver._forkserver_pid = None  # type: ignore[attr-defined]
        call()

    def send(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def wait(self, timeout: float = 120) -> int:
        """Its exit code; by a signal, minus its number."""
        self._process.join(timeout)
        self.returncode = self._process.exitcode
        assert self.returncode is not None, f"still running: {self.said}"
        return self.returncode

    @property
    def stdout(self) -> str:
        return self._files[1].read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return self._files[2].read_text(encoding="utf-8")

    @property
    def said(self) -> str:
        return self.stdout + self.stderr


def killed_at_first(request: Request, home: Home, *others: Any) -> None:
    """The work of a process of `launching.local`, unless it is the first one of its directory."""
    mark = home.directory / "killed"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    local._work(request, home, *others)


def python(*words: str, path: Sequence[Path] = ()) -> Callable[[], None]:
    """What `python -m MODULE WORD …` or `python -c CODE` does, looking for modules and plug-ins in `path` first."""

    def call() -> None:
        sys.path[:0] = map(str, path)
        importlib.invalidate_caches()
        registry.plugin_modules.cache_clear()
        registry.load_components.cache_clear()
        option, what, *sys.argv[1:] = words
        if option == "-c":
            exec(what, {"__name__": "__main__"})
        else:
            sys.modules.pop(what, None)  # imported by another test; it is to run as a program
            runpy.run_module(what, run_name="__main__", alter_sys=True)

    return call
