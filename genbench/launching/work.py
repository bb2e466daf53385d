"""One job, as another process of this machine, or of another one, gets it."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from genbench import compose, jobs, registry
from genbench.compose import CONFIG_DIRECTORY, Request
from genbench.outcome import Outcome

__all__ = ["Home", "perform"]

ALWAYS_TAKEN = "GENBENCH_"  # variables of this program
FROM_ENVIRONMENT = re.compile(r"oc\.env:\s*(\w+)")


@dataclass(frozen=True)
class Home:
    """Where a command was typed: what its words mean depends on it.

    Attributes:
        directory: relative paths start here.
        search_path: where the user's own configuration lies, see Arguments.
        environment: variables that the configuration reads, and all that begin with GENBENCH_.
    """

    directory: Path
    search_path: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def here(search_path: tuple[str, ...] = ()) -> Home:
        """That of this process."""
        own = [Path(place.removeprefix("file://")) for place in search_path]
        places = [CONFIG_DIRECTORY, *own, *registry.plugin_config_directories()]
        files = [file for place in places for file in place.rglob("*.yaml")]
        read = {name for file in files for name in FROM_ENVIRONMENT.findall(file.read_text(encoding="utf-8"))}
        taken = {key: value for key, value in os.environ.items() if key in read or key.startswith(ALWAYS_TAKEN)}
        return Home(Path.cwd(), search_path, taken)

    def enter(self, environment: Mapping[str, str] | None = None) -> None:
        """Make this process understand the words of the command as the one in which it was typed."""
        os.environ.update({**self.environment, **(environment or {})})
        if Path.cwd() != self.directory:
            os.chdir(self.directory)
        compose.add_search_path(self.search_path)


def perform(request: Request, home: Home, checked: bool = False) -> Outcome:
    """Do a job in a process of its own; `checked`: genbench.preflight has passed it on this machine."""
    try:
        home.enter(request.environment)
    except OSError as error:
        told = f"{home.directory} is not there on {socket.gethostname()}: {error.strerror}"
        print(f"genbench: {told}\n  start jobs from a directory that all machines share", file=sys.stderr)
        return Outcome(Path(request.config.output_root), "failed", 2, told)
    return jobs.do(lambda: request.config, request.words, checked)
