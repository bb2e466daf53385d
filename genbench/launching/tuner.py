"""A sweeper that chooses values by what earlier ones achieved.

A study of Optuna (Akiba et al. 2019, arXiv 1907.10902), on a metric of validation data.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from genbench import compose, preflight
from genbench.atomic import replacing, write_text
from genbench.compose import Job, Request
from genbench.engine.measurement import objective_among
from genbench.engine.rundir import to_json, writable
from genbench.errors import ConfigError, RunLocked, optional_package
from genbench.figures.study import study_history
from genbench.launching.sweeper import Sweeper
from genbench.outcome import Outcome, objective

__all__ = ["Tuner"]

SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "qmc": "QMCSampler"}
AGAIN = "goes on in another trial"  # or had values that were all refused: the next start tries others
UNFINISHED = ("interrupted", "not started", "running")  # after a signal; without one, they are failures


class Tuner(Sweeper):
    """`trials` jobs, `parallel` of them at a time, of values that `sampler` draws with `seed`.

    The objective is a quantity of the task that is measured on validation data, unless `objective=NAME` names another
    one. The study lies in a file below the runs' root: the same command goes on with it, and with trials that a
    signal interrupted or kept from starting. Trials that diverge or fail, if only to start, have no value; nor have
    those whose values are refused.
    """

    def __init__(self, trials: int = 20, parallel: int = 1, sampler: str = "tpe", seed: int = 1) -> None:
        for name, value in (("trials", trials), ("parallel", parallel)):
            if type(value) is not int or value < 1:
                raise ConfigError(f"hydra.sweeper.{name} must be a whole number, at least 1, not {value!r}")
        if sampler not in SAMPLERS:
            raise ConfigError(f"unknown hydra.sweeper.sampler {sampler!r}", f"known: {', '.join(SAMPLERS)}")
        self._trials, self._parallel, self._sampler, self._seed = trials, parallel, sampler, seed

    def sweep(self, arguments: list[str]) -> float | None:
        """Returns the best value."""
        optuna: Any = optional_package("optuna", "optuna")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        overrides = compose.parse(arguments)
        swept = [override for override in overrides if override.is_sweep_override()]
        if not swept:
            raise ConfigError("there is nothing to tune", "give ranges: optimizer.lr='tag(log,interval(1e-4,1e-2))'")
        self._fixed = [override for override in overrides if not override.is_sweep_override()]
        space = {override.get_key_element(): _distribution(optuna, override) for override in swept}
        first = self._request_at_the_ends(space)
        task = preflight.rehearse(first.config)
        self._objective = objective_among(task.quantities if task else (), first.config.objective)
        self._family = task.family.title if task else ""
        folder = Path(first.config.output_root) / ".studies"
        writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
        digits = hashlib.sha256(repr(sorted(arguments)).encode()).hexdigest()[:8]
        self._name = f"{first.config.name}-{digits}"
        try:
            with FileLock(folder / f"{self._name}.lock", timeout=0):
                return self._tune(optuna, folder, space, first)
        except Timeout:
            raise RunLocked(f"another process goes on with study {self._name}\n  wait for it, or stop it") from None

    def _tune(self, optuna: Any, folder: Path, space: Mapping[str, Any], first: Request) -> float | None:
        study = self._study(optuna, folder)
        refused: list[ConfigError] = []
        while (missing := self._trials - len(_ended(optuna, study))) > 0:
            asked: dict[Any, Request] = {}
            for trial in [study.ask(space) for _ in range(min(self._parallel, missing))]:
                request = self._request(trial.params)
                try:
                    self.check([request])
                    asked[trial] = request
                except ConfigError as error:
                    refused.append(error)
                    self._refuse(optuna, study, trial, request, error)
            if not asked:
                continue
            outcomes = self.launch(list(asked.values()), self._trials - missing, self._trials, checked=True)
            stopped = self.command.signal is not None or any(outcome.interrupted for outcome in outcomes)
            for trial, outcome in zip(asked, outcomes, strict=True):
                if not (stopped and outcome.status in UNFINISHED):  # the same command goes on with it
                    self._tell(optuna, study, trial, outcome)
            if stopped:
                break
        if refused and len(refused) == len(_ended(optuna, study)):
            self._forget(study, _ended(optuna, study))
            raise refused[0]
        return self._close(optuna, study, first)

    def _request(self, values: Mapping[str, Any]) -> Request:
        words = [f"{key}={value}" for key, value in values.items()]
        return compose.request(Job([*self._fixed, *compose.parse(words)], words))

    def _request_at_the_ends(self, space: Mapping[str, Any]) -> Request:
        """A job of the study. Raises ConfigError if the ends of a range are no values for it."""
        ends = {key: _ends(distribution) for key, distribution in space.items()}
        middle = {key: values[0] for key, values in ends.items()}
        requests = [self._request({**middle, key: value}) for key, values in ends.items() for value in values]
        return requests[0]

    def _study(self, optuna: Any, folder: Path) -> Any:
        """The one of this command, with what it knows already."""
        backend = optuna.storages.journal.JournalFileBackend(str(folder / f"{self._name}.log"))
        study = optuna.create_study(
            study_name=self._name,
            storage=optuna.storages.JournalStorage(backend),
            direction="maximize" if self._objective.better == "higher" else "minimize",
            load_if_exists=True,
        )
        # Other random numbers than those of the trials that there are.
        study.sampler = getattr(optuna.samplers, SAMPLERS[self._sampler])(seed=self._seed + len(study.trials))
        unfinished = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        for trial in unfinished:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)
        self._forget(study, unfinished)
        print(f"study {self._name}: {self._objective.name}, {self._objective.better} is better")
        if known := len(_ended(optuna, study)):
            print(f"  {known} of {self._trials} trials are over already")
        return study

    def _refuse(self, optuna: Any, study: Any, trial: Any, request: Request, error: ConfigError) -> None:
        """Of one trial's values; others may do."""
        outcome = Outcome.failed(Path(request.config.output_root), error)
        print(f"{' '.join(request.swept)}: {outcome.headline}")
        self.command.add([request], [outcome])
        study.tell(trial, state=optuna.trial.TrialState.FAIL)

    @staticmethod
    def _forget(study: Any, trials: Sequence[Any]) -> None:
        """They count no more: the next start tries other values."""
        for trial in trials:
            study.set_user_attr(f"trial {trial.number}", AGAIN)

    def _tell(self, optuna: Any, study: Any, trial: Any, outcome: Outcome) -> None:
        trial.set_user_attr("run", outcome.directory.name)
        trial.set_user_attr("status", outcome.status)
        value = objective(outcome, self._objective.name)
        if outcome.status == "done" and math.isnan(value):
            print(f"{outcome.directory} did not measure {self._objective.name}")
        if math.isfinite(value):
            study.tell(trial, value)
        else:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def _close(self, optuna: Any, study: Any, first: Request) -> float | None:
        """Draw the study, write it down for reports, and tell its best trial."""
        root = Path(first.config.output_root)
        self._write(optuna, study, root / f"sweep-study-{self._name}.json")
        done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        if not done:
            print(f"study {self._name}: no trial has a value")
            return None
        best = study.best_trial
        words = " ".join(f"{key}={value}" for key, value in best.params.items())
        print(f"study {self._name}: best of {len(done)} trials is {best.value:.6g}, with {words}")
        higher = self._objective.better == "higher"
        columns = {key: [trial.params[key] for trial in done] for key in best.params}
        logarithmic = {key for key, distribution in best.distributions.items() if getattr(distribution, "log", False)}
        numbers, values = np.array([trial.number for trial in done]), np.array([trial.value for trial in done])
        figure = study_history(numbers, values, higher, self._objective.title, columns, logarithmic)
        path = root / f"sweep-study-{self._name}.png"
        with replacing(path) as file:
            figure.savefig(file, metadata={"Family": self._family})
        print(f"  picture      {path}")
        return float(best.value)

    def _write(self, optuna: Any, study: Any, path: Path) -> None:
        trials = [
            {
                "trial": trial.number,
                "value": trial.value,
                "status": trial.user_attrs.get("status", "failed"),
                "values": trial.params,
                "run": trial.user_attrs.get("run", ""),
            }
            for trial in _ended(optuna, study)
        ]
        found = {"family": self._family, "objective": dataclasses.asdict(self._objective), "trials": trials}
        write_text(path, to_json(found))


def _distribution(optuna: Any, override: Override) -> Any:
    """Values of a key as Optuna draws them. Raises ConfigError for empty ranges."""
    sweep, kinds = override.value(), optuna.distributions
    try:
        if isinstance(sweep, IntervalSweep):
            whole = isinstance(sweep.start, int) and isinstance(sweep.end, int)
            return (kinds.IntDistribution if whole else kinds.FloatDistribution)(
                sweep.start, sweep.end, log="log" in sweep.tags
            )
        if isinstance(sweep, RangeSweep) and all(
            isinstance(end, int) for end in (sweep.start, sweep.stop, sweep.step)
        ):
            values = list(sweep.range())
            return kinds.IntDistribution(values[0], values[-1], step=int(sweep.step))
        return kinds.CategoricalDistribution(list(override.sweep_string_iterator()))
    except (ValueError, IndexError, TypeError) as error:
        raise ConfigError(f"{override.input_line}: {error}") from error


def _ends(distribution: Any) -> list[Any]:
    return list(distribution.choices) if hasattr(distribution, "choices") else [distribution.low, distribution.high]


def _ended(optuna: Any, study: Any) -> list[Any]:
    """Trials that count: those that ended, not those that go on in another one."""
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL)
    trials = study.get_trials(deepcopy=False, states=states)
    return [trial for trial in trials if study.user_attrs.get(f"trial {trial.number}") != AGAIN]
