"""`genbench-push`: what a tracker gets is what was measured, once."""

from __future__ import annotations

import importlib
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from genbench import trackers
from genbench.commands import push
from genbench.report import reading
from genbench.trackers import Heading, Point, Record, live, record

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


class FakeTracker:
    """Remembers what it is sent; fails at the call of that number."""

    def __init__(self, fails_at: int = 0) -> None:
        self.calls: list[str] = []
        self.points: list[tuple[int, dict[str, float]]] = []
        self.finals: list[Record] = []
        self.begun = False
        self._fails_at = fails_at

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if len(self.calls) == self._fails_at:
            raise RuntimeError("no connection\nand more")

    def holds(self, record: Record) -> bool:
        return self.begun

    def begin(self, heading: Heading, again: bool) -> FakeTracker:
        self._called("again" if again else "begin")
        self.goes_on = again and self.begun
        self.heading, self.begun = heading, True
        return self

    def log(self, points: Sequence[Point]) -> None:
        self._called("log")
        self.points += [(step, dict(values)) for step, values in points]

    def finish(self, record: Record) -> None:
        self._called("finish")
        self.finals.append(record)

    def leave(self) -> None:
        self._called("leave")


FOLLOWED = ("experiment=dirac-w1-3", "trainer.max_steps=40", "trainer.evaluate_every=10", "tracker=trackio")


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeTracker], None]:
    """Put a fake tracker in the place of all of them."""

    def replaced(fake: FakeTracker) -> None:
        for module in (live, trackers):
            monkeypatch.setattr(module, "tracker", lambda name, project: fake)

    monkeypatch.setattr(live, "check", lambda word: None)
    return replaced


def test_a_run_is_followed(genbench: Run, follow: Any) -> None:
    fake = FakeTracker()
    follow(fake)
    assert genbench(*FOLLOWED) == 0
    (run,) = Path("outputs").glob("*/*/")
    assert fake.calls == ["begin", *["log"] * 5, "finish"]  # four evaluations, and the test
    assert fake.heading.run_id == run.name[-8:]
    for metric in ("eval/distance", "train/w1", "eval/multiplier_error"):
        assert [(step, row[metric]) for step, row in fake.points if metric in row] == logged(run, metric)
    (found,) = fake.finals
    assert found == record(reading.read(run))
    # Where it is sent decides nothing.
    assert genbench(*(word for word in FOLLOWED if "tracker" not in word)) == 0
    assert len(list(Path("outputs").glob("*/*/"))) == 1


def test_an_interrupted_run_is_followed_on(genbench: Run, follow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTracker()
    follow(fake)
    update = live.Live.update

    def then_stopped(self: live.Live) -> None:
        update(self)
        if fake.calls.count("log") == 2:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(live.Live, "update", then_stopped)
        assert genbench(*FOLLOWED) == 128 + signal.SIGTERM
    assert fake.calls == ["begin", "log", "log", "leave"]
    assert genbench(*FOLLOWED) == 0
    assert fake.calls[4:] == ["again", "log", "log", "log", "finish"]
    (run,) = Path("outputs").glob("*/*/")
    assert [(step, row["eval/distance"]) for step, row in fake.points if "eval/distance" in row] == logged(
        run, "eval/distance"
    )


@pytest.mark.parametrize("call_number", [1, 2, 3, 7])
def test_a_tracker_that_fails_fails_no_run(
    genbench: Run, follow: Any, capsys: pytest.CaptureFixture[str], call_number: int
) -> None:
    fake = FakeTracker(fails_at=call_number)
    follow(fake)
    assert genbench(*FOLLOWED) == 0
    told = capsys.readouterr().err
    assert told.count("genbench: trackio/genbench: no connection\n") == 1
    assert "and more" not in told
    assert len(fake.calls) == call_number  # it is left alone
    # The rest is sent when it can be had again, each row once.
    assert "1 of 1 runs sent" in call(capsys, "trackio", "outputs")[1]
    assert fake.calls[call_number] == ("begin" if call_number == 1 else "again")
    (run,) = Path("outputs").glob("*/*/")
    found = [(step, row["eval/distance"]) for step, row in fake.points if "eval/distance" in row]
    assert found == logged(run, "eval/distance")
    assert len(fake.finals) == 1
    assert "0 of 1 runs sent" in call(capsys, "trackio", "outputs")[1]


def test_a_tracker_that_has_lost_a_run_gets_all_of_it(
    genbench: Run, follow: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or another one, at another address. And one that has it whole is left alone, whatever is written again here."""
    fake, other = FakeTracker(fails_at=4), FakeTracker()
    follow(fake)
    assert genbench(*FOLLOWED) == 0
    (run,) = Path("outputs").glob("*/*/")
    follow(other)
    assert "1 of 1 runs sent" in call(capsys, "trackio", "outputs")[1]
    assert other.calls == ["again", "log", "finish"]
    for metric in ("eval/distance", "train/w1"):
        assert [(step, row[metric]) for step, row in other.points if metric in row] == logged(run, metric)
    (run / "summary.json").unlink()
    assert genbench(*FOLLOWED) == 0
    assert len(other.calls) == 3
    assert "1 of 1 runs sent" in call(capsys, "trackio", "outputs", "--again")[1]
    assert other.calls[3:] == ["begin", "log", "finish"]


def test_what_one_tracker_has_is_not_what_another_has(
    genbench: Run, follow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do other intervals of logging after an interruption lose a row, or send one twice."""
    first, second = FakeTracker(), FakeTracker()
    update = live.Live.update

    def then_stopped(self: live.Live) -> None:
        update(self)
        signal.raise_signal(signal.SIGTERM)

    words = (*FOLLOWED, "trainer.log_every=5", "trainer.checkpoint_every=100")
    follow(first)
    with monkeypatch.context() as patch:
        patch.setattr(live.Live, "update", then_stopped)
        assert genbench(*words) == 128 + signal.SIGTERM
    (run,) = Path("outputs").glob("*/*/")
    for checkpoint in (run / "checkpoints").iterdir():
        checkpoint.unlink()  # so it begins anew, and logs otherwise
    follow(second)
    with monkeypatch.context() as patch:
        patch.setattr(live.Live, "update", then_stopped)
        assert genbench(*words[:-2], "trainer.log_every=3", "tracker=mlflow") == 128 + signal.SIGTERM
    follow(first)
    assert genbench(*words[:-2], "trainer.log_every=3") == 0
    assert first.calls == ["begin", "log", "leave", "again", *["log"] * 4, "finish"]
    assert second.calls == ["begin", "log", "leave"]
    told = [(step, row["train/w1"]) for step, row in first.points if "train/w1" in row]
    assert [step for step, _ in told] == [5, 10, *range(12, 40, 3), 40]
    assert set(told[2:]) <= set(logged(run, "train/w1"))


def test_a_diverged_run_can_be_sent(genbench: Run, follow: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert genbench("experiment=dirac-w1-3", "trainer.max_steps=600", "regularizer.coefficient=1e12") == 3
    fake = FakeTracker()
    follow(fake)
    assert "1 of 1 runs sent" in call(capsys, "trackio", "outputs")[1]
    assert fake.finals[0].status == "diverged"


def test_a_signal_while_the_end_is_sent_ends_the_sweep(
    genbench: Run, follow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is done, and its end is sent another time; what follows does not begin."""
    follow(FakeTracker())
    with monkeypatch.context() as patch:
        patch.setattr(live.Live, "end", lambda self: signal.raise_signal(signal.SIGINT))
        assert genbench("-m", *FOLLOWED, "seed=1,2") == 128 + signal.SIGINT
    (run,) = Path("outputs").glob("*/*/")
    assert json.loads((run / "status.json").read_text())["status"] == "done"


@pytest.mark.parametrize("word", ["tensorflow", "trackio/", "trackio/a b"])
def test_an_unknown_tracker_is_refused(genbench: Run, capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert genbench(*FOLLOWED[:-1], f"tracker='{word}'") == 2
    assert "tracker must be trackio, mlflow or wandb, or trackio/PROJECT" in capsys.readouterr().err
    assert not Path("outputs").exists()


def test_a_tracker_that_is_not_installed_is_told_before_the_run(
    genbench: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert genbench(*FOLLOWED) == 2
    assert "pip install 'genbench[trackio]'" in capsys.readouterr().err
    assert not Path("outputs").exists()


@pytest.mark.launchers
class TestRealTrackers:
    @pytest.mark.parametrize("name", ["trackio", "mlflow", "wandb"])
    def test_follow_a_run(
        self,
        genbench: Run,
        name: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
        monkeypatch.setenv("WANDB_MODE", "offline")
        tool = pytest.importorskip(name)
        if name == "mlflow":
            tool.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
        if name == "wandb":
            tool.teardown()  # it remembers the directory of the test before
        assert genbench(*FOLLOWED[:-1], f"tracker={name}/{tmp_path.name}") == 0
        assert "goes on without it" not in capsys.readouterr().err
        (run,) = Path("outputs").glob("*/*/")
        expected = logged(run, "eval/distance")
        if name == "trackio":
            (there,) = tool.Api().runs(tmp_path.name)
            rows = tool.SQLiteStorage.get_logs(tmp_path.name, there.name)
            assert [(row["step"], row["eval/distance"]) for row in rows if "eval/distance" in row] == expected
        elif name == "mlflow":
            client = tool.MlflowClient()
            experiment = client.get_experiment_by_name(f"{tmp_path.name}/dirac-w1-3").experiment_id
            (there,) = client.search_runs([experiment])
            history = client.get_metric_history(there.info.run_id, "eval/distance")
            assert sorted((point.step, point.value) for point in history) == expected
            assert (there.info.status, there.data.tags["genbench.status"]) == ("FINISHED", "done")
        else:
            (folder,) = (tmp_path / "wandb").glob("offline-run-*")
            assert folder.name.endswith(run.name[-8:])
        assert "0 of 1 runs sent" in call(capsys, name, "outputs", "--project", tmp_path.name)[1]

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
        pytest.importorskip("wandb").teardown()  # it remembers the directory of the test before
        monkeypatch.setenv("WANDB_MODE", "offline")
        assert "1 of 1 runs sent" in call(capsys, "wandb", "outputs")[1]
        assert "0 of 1 runs sent" in call(capsys, "wandb", "outputs")[1]
        (folder,) = (tmp_path / "wandb").glob("offline-run-*")
        assert folder.name.endswith(trained.name[-8:])
        assert next(folder.glob("*.wandb")).stat().st_size > 1000
