"""A job of the command line, one run or an ensemble: every way it can end is an Outcome."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from genbench import compose, ensemble, run
from genbench.errors import GenbenchError
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
    except GenbenchError as error:
        print(f"genbench: {error}", file=sys.stderr)
        return Outcome(directory, "failed", error.exit_code, str(error).splitlines()[0])
    except Exception as error:  # a bug, or the machine's fault: the next job of a sweep must not suffer from it
        traceback.print_exc()
        return Outcome(directory, "failed", run.EXIT_CODES["failed"], f"{type(error).__name__}: {error}")
