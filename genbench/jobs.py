"""A job of the command line, one run or an ensemble: every way it can end is an Outcome."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from genbench import compose, ensemble, run
from genbench.errors import GenbenchError, explained
from genbench.run import Outcome

__all__ = ["do"]


def do(composed: DictConfig, words: Sequence[str] = ()) -> Outcome:
    """Train and measure what was composed with the overrides `words`."""
    directory = Path(composed.output_root)
    try:
        config = compose.validate(composed, words)
        if config.ensemble is not None:
            return ensemble.run(config, words)
        directory = run.run_directory(config)
        return run.run(config, words)
    except Exception as error:  # the next job of a sweep must not suffer from it
        known = explained(error)
        if isinstance(known, GenbenchError):
            print(f"genbench: {known}", file=sys.stderr)
            return Outcome(directory, "failed", known.exit_code, str(known).splitlines()[0])
        traceback.print_exc()  # a bug
        return Outcome(directory, "failed", run.EXIT_CODES["failed"], f"{type(error).__name__}: {error}")
    finally:
        gc.collect()  # a task and its gradients refer to each other; Python would let many networks pile up first
