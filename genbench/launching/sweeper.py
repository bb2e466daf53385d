"""Sweepers: which jobs a sweep consists of. This one runs all combinations of the listed values."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from genbench import compose, preflight
from genbench.compose import Request
from genbench.launching.command import Command
from genbench.launching.launcher import elsewhere, run_all
from genbench.outcome import Outcome

__all__ = ["Grid", "Sweeper"]


class Sweeper(HydraSweeper):
    """Base class. A subclass defines `sweep`; its constructor takes the keys of `hydra.sweeper`."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        assert isinstance(task_function, Command)
        self.hydra_context, self.command, self.config = hydra_context, task_function, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def check(self, requests: Sequence[Request]) -> None:
        """Raise ConfigError or DataError unless every job can start."""
        preflight.check(requests, elsewhere(self._launcher))

    def launch(
        self, requests: Sequence[Request], first: int = 0, total: int | None = None, checked: bool = False
    ) -> list[Outcome]:
        """Run jobs, whether or not they are `checked` already, and say how each ended."""
        return run_all(self._launcher, requests, self.command, first, total, checked)


class Grid(Sweeper):
    """Of every key that has several values, each value with each of all others."""

    def sweep(self, arguments: list[str]) -> None:
        self.launch([compose.request(job) for job in compose.sweep(arguments)])
