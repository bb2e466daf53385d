"""MLflow: experiments are experiments, and a run's hash is a tag. The store is what MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from genbench.errors import GenbenchError
from genbench.trackers.record import Record

__all__ = ["make"]

ID = "genbench.run_id"
METRICS, PARAMETERS = 1000, 100  # in one request
LONGEST = 6000  # characters of a parameter


class _Mlflow:
    def __init__(self, project: str) -> None:
        self._project, self._client = project, mlflow.MlflowClient()

    def _experiment(self, record: Record) -> str:
        name = f"{self._project}/{record.experiment}"
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def holds(self, record: Record) -> bool:
        wanted = f"tags.`{ID}` = '{record.run_id}' and attributes.status = 'FINISHED'"
        return bool(self._client.search_runs([self._experiment(record)], wanted, max_results=1))

    def push(self, record: Record) -> None:
        try:
            self._push(record)
        except MlflowException as error:
            raise GenbenchError(f"MLflow: {error.message}") from error

    def _push(self, record: Record) -> None:
        tags = {ID: record.run_id, **{f"genbench.{key}": value for key, value in record.tags.items()}}
        run = self._client.create_run(self._experiment(record), run_name=record.title, tags=tags).info.run_id
        now = int(1000 * time.time())
        metrics = [
            Metric(name, value, now, step) for step, row in record.points.items() for name, value in row.items()
        ]
        last = max(record.points, default=0)
        metrics += [Metric(f"final/{name}", value, now, last) for name, value in record.finals.items()]
        parameters = [Param(key, str(value)[:LONGEST]) for key, value in record.settings.items()]
        for batch in _batches(metrics, METRICS):
            self._client.log_batch(run, metrics=batch)
        for batch in _batches(parameters, PARAMETERS):
            self._client.log_batch(run, params=batch, tags=[RunTag(ID, record.run_id)])
        for path in record.files:
            self._client.log_artifact(run, str(path))
        for path in record.pictures:
            self._client.log_artifact(run, str(path), "figures")
        self._client.set_terminated(run, "FINISHED")  # a push that broke off does not count


def _batches(rows: list[Any], size: int) -> list[list[Any]]:
    source = iter(rows)
    return list(iter(lambda: list(islice(source, size)), []))


def make(project: str) -> _Mlflow:
    """Runs of a project, each experiment as `project/experiment`."""
    return _Mlflow(project)
