"""The one entry point: compose → validate → build from the registry → Trainer.fit → final evaluation.

    genbench experiment=vae-mnist5k
    genbench -m 'experiment=glob(dirac-*)'

Exit codes: 0 done (or done before), 1 failed, 2 bad input, 3 diverged, 4 the run is locked by another process, 130
interrupted by SIGINT, 143 by SIGTERM, and 128 + its number by another signal that interrupted a run or killed it. A
sweep runs all its jobs, wherever a launcher sends them, and exits with the largest code.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

from genbench.output import command

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

HELP = {"-h", "--help"}


def main(words: list[str] | None = None) -> None:
    """Command line of `genbench`; always leaves through SystemExit."""
    with command("genbench"):
        raise SystemExit(_run(sys.argv[1:] if words is None else words))


def _run(words: Sequence[str]) -> int:
    """Do what the command line asks for: print something, or run jobs. Returns the exit code."""
    if not words:
        from genbench.commands.help import introduction

        print(introduction())
        return 2
    if words[0] == "explain":
        from genbench.commands import explain

        explain.main(words[1:])
        return 0
    from genbench import arguments

    if HELP.intersection(words):
        from genbench.commands.help import help_text

        print(help_text(arguments.parse([word for word in words if word not in HELP]).own))
        return 0
    if "--version" in words:
        print(f"genbench {version('genbench')}")
        return 0

    from genbench import compose

    asked = arguments.parse(words)
    compose.add_search_path(asked.search_path)
    if asked.shows:
        compose.launch(asked, float)  # it is not called
        return 0
    from genbench.launching import Command

    command = Command(asked)
    compose.launch(asked, command)
    return command.end()


if __name__ == "__main__":
    main()
