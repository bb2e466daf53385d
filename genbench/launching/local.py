"""Several jobs at a time, each in a process of its own on this machine.

A fresh process for each job, forked from one that has imported PyTorch: it starts at once and shares nothing with the
others, and whatever ends it ends no other one. (A pool of workers gives up all jobs when one of them is killed.)
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

import torch

from genbench.compose import Request
from genbench.engine.device import visible_gpus
from genbench.engine.interrupts import Interrupts
from genbench.errors import ConfigError
from genbench.launching import remains
from genbench.launching.launcher import Launcher
from genbench.launching.remains import SweepJob
from genbench.launching.work import Home, perform
from genbench.outcome import Outcome

__all__ = ["Local"]

LOOK = 0.2  # seconds until a signal is noticed


class Local(Launcher):
    """`processes` at a time, with `threads` each; null: one for each GPU, or for each core if there is none.

    Jobs of `device=auto` and `device=cuda` see one GPU each; others use the device that they name.
    Raises ConfigError for numbers below 1.
    """

    def __init__(self, processes: int | None = None, threads: int | None = None) -> None:
        for name, value in (("processes", processes), ("threads", threads)):
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"hydra.launcher.{name} must be null or a whole number, at least 1, not {value!r}")
        self._processes, self._threads = processes, threads

    def run(self, jobs: Sequence[SweepJob]) -> list[Outcome | None]:
        devices, cores = {job.request.config.device for job in jobs}, _cores()
        gpus = visible_gpus() if devices <= {"auto", "cuda"} else []
        named = [device for device in devices if device.startswith("cuda:")]
        count = min(self._processes or len(gpus or named) or cores, len(jobs))
        threads = self._threads or max(1, cores // count)
        free = [gpus[index % len(gpus)] if gpus else None for index in range(count)]
        print(f"{len(jobs)} jobs, {count} at a time, threads of each: {threads}")
        context = _context()
        waiting, running = list(jobs), list[_Worker]()
        ended: dict[str, Outcome] = {}
        with Interrupts() as interrupts:
            while running or (waiting and interrupts.pending is None):
                while waiting and free and interrupts.pending is None:
                    job = waiting.pop(0)
                    print(job.label)
                    running.append(_Worker(context, job, self.command.home, threads, free.pop(0)))
                connection.wait([handle for worker in running for handle in worker.handles], LOOK)
                for worker in list(running):
                    worker.listen()
                    if interrupts.pending is not None:
                        worker.ask_to_stop()
                    if worker.over:
                        ended[worker.job.number] = worker.end()
                        free.append(worker.gpu)
                        running.remove(worker)
            self.command.signal = interrupts.pending
        return [ended.get(job.number) for job in jobs]


def _context() -> Any:
    """How processes start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """A process that does one job, and what it has said."""

    def __init__(self, context: Any, job: SweepJob, home: Home, threads: int, gpu: str | None) -> None:
        self.job, self.gpu = job, gpu
        self._outcome: Outcome | None = None
        self._asked = False
        self._line = ""
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(job.request, home, threads, gpu, sender))
        self._process.start()
        sender.close()  # the process has its own; the pipe ends with it

    @property
    def handles(self) -> list[Any]:
        """What is ready when there is something to do."""
        return [self._process.sentinel, *([self._receiver] if not self._receiver.closed else [])]

    @property
    def over(self) -> bool:
        return self._receiver.closed and not self._process.is_alive()

    def listen(self) -> None:
        """Print what it has said since the last time, whole lines, each with its job's number."""
        try:
            while not self._receiver.closed and self._receiver.poll():
                said = self._receiver.recv()
                if isinstance(said, Outcome):
                    self._outcome = said
                else:
                    *lines, self._line = (self._line + said).split("\n")
                    for line in lines:
                        print(f"{self.job.number} {line}")
        except (EOFError, OSError):
            self._receiver.close()

    def ask_to_stop(self) -> None:
        if not self._asked and self._process.is_alive():
            self._asked = True
            self._process.terminate()

    def end(self) -> Outcome:
        self._process.join()
        code = self._process.exitcode
        self._process.close()
        if self._outcome is not None:
            return self._outcome
        told = f"its process ended with {code}" if code is None or code >= 0 else f"by {signal.Signals(-code).name}"
        return remains.outcome_of(self.job, told)


class _Said(io.TextIOBase):
    """A text stream to the parent; no terminal. Nobody listens any more when the parent is gone."""

    def __init__(self, sender: Connection) -> None:
        self._sender = sender

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._sender.send(text)
        return len(text)


def _work(request: Request, home: Home, threads: int, gpu: str | None, sender: Connection) -> None:
    """In the process of a job."""
    sys.stdout = sys.stderr = _Said(sender)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sender.send(perform(request, home, checked=True))


def _end_with_parent() -> None:
    """Save and stop when the parent is gone: nobody would know of this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
