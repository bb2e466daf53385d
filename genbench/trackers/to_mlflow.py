"""MLflow: experiments are experiments, and a run's hash is a tag. The store is what MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlflow
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from genbench.errors import GenbenchError
from genbench.trackers.record import Heading, Point, Record

__all__ = ["make"]

ID = "genbench.run_id"
METRICS, PARAMETERS = 1000, 100  # in one request
LONGEST = 6000  # characters of a parameter


class _Mlflow:
    def __init__(self, project: str) -> None:
        self._project, self._client = project, mlflow.MlflowClient()

    def holds(self, heading: Heading) -> bool:
        with _told():
            return bool(self._runs(heading, "FINISHED"))

    def begin(self, heading: Heading, again: bool) -> _Stream:
        with _told():
            if again and (left := self._runs(heading, "RUNNING")):
                return _Stream(self._client, left[0].info.run_id, goes_on=True)
            tags = {ID: heading.run_id, **{f"genbench.{key}": value for key, value in heading.tags.items()}}
            experiment = self._experiment(heading) or self._client.create_experiment(self._name(heading))
            run = self._client.create_run(experiment, run_name=heading.title, tags=tags).info.run_id
            parameters = [Param(key, str(value)[:LONGEST]) for key, value in heading.settings.items()]
            for batch in _batches(parameters, PARAMETERS):
                self._client.log_batch(run, params=batch)
            return _Stream(self._client, run, goes_on=False)

    def _experiment(self, heading: Heading) -> str | None:
        found = self._client.get_experiment_by_name(self._name(heading))
        return str(found.experiment_id) if found else None

    def _name(self, heading: Heading) -> str:
        return f"{self._project}/{heading.experiment}"

    def _runs(self, heading: Heading, status: str) -> list[Any]:
        """The newest one with this status, if there is one."""
        experiment = self._experiment(heading)
        if experiment is None:
            return []
        wanted = f"tags.`{ID}` = '{heading.run_id}' and attributes.status = '{status}'"
        return list(self._client.search_runs([experiment], wanted, max_results=1))


class _Stream:
    def __init__(self, client: mlflow.MlflowClient, run: str, goes_on: bool) -> None:
        self._client, self._run, self.goes_on = client, run, goes_on

    def log(self, points: Sequence[Point]) -> None:
        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for step, values in points for name, value in values.items()]
        with _told():
            for batch in _batches(metrics, METRICS):
                self._client.log_batch(self._run, metrics=batch)

    def leave(self) -> None:
        """It stays RUNNING."""

    def finish(self, record: Record) -> None:
        last = max(record.points, default=0)
        self.log([(last, {f"final/{name}": value for name, value in record.finals.items()})])
        with _told():
            self._client.set_tag(self._run, "genbench.status", record.status)
            for path in record.files:
                self._client.log_artifact(self._run, str(path))
            for path in record.pictures:
                self._client.log_artifact(self._run, str(path), "figures")
            self._client.set_terminated(self._run, "FINISHED")  # a run that broke off does not count


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        raise GenbenchError(f"MLflow: {error.message}") from error


def _batches(rows: list[Any], size: int) -> list[list[Any]]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def make(project: str) -> _Mlflow:
    """Runs of a project, each experiment as `project/experiment`."""
    return _Mlflow(project)
