"""`genbench-push`: what a tracker gets is what was measured, once."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genbench.commands import push
from genbench.report import reading
from genbench.trackers import record

Run = Callable[..., int]
WORDS = ("experiment=dirac-w1-3", "trainer.max_steps=120", "trainer.log_every=10")


@pytest.fixture
def trained(genbench: Run) -> Path:
    assert genbench(*WORDS) == 0
    (run,) = Path("outputs").glob("*/*/")
    return run


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = 0
    try:
        push.main([str(word) for word in words])
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def logged(run: Path, metric: str) -> list[tuple[int, float]]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [(row["step"], row["value"]) for row in rows if row["metric"] == metric]


def test_a_record_holds_what_was_logged(trained: Path) -> None:
    found = record(reading.read(trained))
    assert found.run_id == trained.name[-8:]
    assert found.experiment == "dirac-w1-3"
    for metric in ("eval/distance", "train/w1"):
        assert [(step, row[metric]) for step, row in found.points.items() if metric in row] == logged(trained, metric)
    assert found.finals["eval/distance"] == logged(trained, "eval/distance")[-1][1]
    assert found.settings["regularizer.name"] == "r1"
    assert found.pictures
    assert all(path.is_file() for path in (*found.pictures, *found.files))


def test_what_cannot_be_sent_is_told(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = importlib.import_module

    def without_mlflow(name: str) -> Any:
        if name == "mlflow":
            raise ImportError(name)
        return load(name)

    monkeypatch.setattr(importlib, "import_module", without_mlflow)
    assert call(capsys, "nothing", trained)[0::2] == (
        2,
        "genbench-push: unknown tracker 'nothing'\n  known: mlflow, trackio, wandb\n",
    )
    code, _, told = call(capsys, "mlflow", trained)
    assert (code, "pip install 'genbench[mlflow]'" in told) == (2, True)


@pytest.mark.launchers
class TestRealTrackers:
    def test_mlflow(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mlflow = pytest.importorskip("mlflow")
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
        assert "1 of 1 runs sent" in call(capsys, "mlflow", "outputs")[1]
        assert "0 of 1 runs sent" in call(capsys, "mlflow", "outputs")[1]
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name("genbench/dirac-w1-3")
        (run,) = client.search_runs([experiment.experiment_id])
        history = client.get_metric_history(run.info.run_id, "eval/distance")
        assert sorted((point.step, point.value) for point in history) == logged(trained, "eval/distance")
        assert run.data.params["regularizer.name"] == "r1"
        assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"summary.json", "figures"}

    def test_trackio(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
        trackio = pytest.importorskip("trackio")
        assert "1 of 1 runs sent" in call(capsys, "trackio", "outputs", "--project", tmp_path.name)[1]
        assert "0 of 1 runs sent" in call(capsys, "trackio", "outputs", "--project", tmp_path.name)[1]
        (run,) = trackio.Api().runs(tmp_path.name)
        rows = trackio.SQLiteStorage.get_logs(tmp_path.name, run.name)
        found = [(row["step"], row["eval/distance"]) for row in rows if "eval/distance" in row]
        assert found == logged(trained, "eval/distance")
        assert run.config["regularizer.name"] == "r1"

    def test_wandb_offline(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("wandb")
        monkeypatch.setenv("WANDB_MODE", "offline")
        assert "1 of 1 runs sent" in call(capsys, "wandb", "outputs")[1]
        assert "0 of 1 runs sent" in call(capsys, "wandb", "outputs")[1]
        (folder,) = (tmp_path / "wandb").glob("offline-run-*")
        assert folder.name.endswith(trained.name[-8:])
        assert next(folder.glob("*.wandb")).stat().st_size > 1000
