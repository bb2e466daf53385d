"""A job of the command line, one run or an ensemble: every way it can end is an Outcome."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from genbench import ensemble, preflight, run
from genbench.config import Config
from genbench.engine.interrupts import Interrupts
from genbench.errors import GenbenchError, explained
from genbench.outcome import EXIT_CODES, Outcome

__all__ = ["do"]

REDUCE = "reduce trainer.batch_size, the model's sizes, or the number of samples (task.importance_samples, task.grid)"

# PyTorch has no class of errors for the host's memory, and one for each kind of device.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def do(configure: Callable[[], Config], words: Sequence[str] = (), checked: bool = False) -> Outcome:
    """Train and measure what the overrides `words` composed; `checked`: it passed genbench.preflight.

    `configure` returns the configuration, or raises ConfigError.
    """
    gc.freeze()  # collections skip what is there already, such as PyTorch: it saves half a second each time
    try:
        return _end(configure, words, checked)
    finally:
        with Interrupts(resend=True):  # Python ignores what is raised while it collects
            gc.collect()  # a task and its gradients refer to each other; many networks would pile up before that
            gc.unfreeze()


def _end(configure: Callable[[], Config], words: Sequence[str], checked: bool) -> Outcome:
    directory = Path()
    try:
        config = run.settled(configure())
        directory = Path(config.output_root)
        if not checked:
            preflight.check_run(config, words)
        if config.ensemble is not None:
            return ensemble.run(config, words)
        directory = run.run_directory(config)
        return run.run(config, words)
    except Exception as error:  # the next job of a sweep must not suffer from it
        known = explained(error)
        if isinstance(known, GenbenchError):
            print(f"genbench: {known}", file=sys.stderr)
            return Outcome.failed(directory, known)
        if _out_of_memory(error):
            print(f"genbench: {directory}: there is not enough memory\n  {REDUCE}", file=sys.stderr)
            return Outcome(directory, "failed", EXIT_CODES["failed"], "not enough memory")
        traceback.print_exc()  # a bug
        return Outcome(directory, "failed", EXIT_CODES["failed"], f"{type(error).__name__}: {error}")


def _out_of_memory(error: Exception) -> bool:
    """Whether Python, NumPy or PyTorch, on any device, asked for more memory than there is."""
    told = isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    return told or isinstance(error, MemoryError)
