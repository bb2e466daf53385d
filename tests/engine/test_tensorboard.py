"""What TensorBoard finds in a run, and in a folder of several."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from genbench.engine.board import Board
from genbench.engine.measurement import Quantity

Run = Callable[..., int]
STATUSES = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING]
ALL = api_pb2.ListSessionGroupsRequest(allowed_statuses=STATUSES, slice_size=100)


def read(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    return events


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def tags(run: Path) -> list[str]:
    found: list[str] = read(run).Tags()["scalars"]
    return found


def text(events: EventAccumulator, tag: str) -> str:
    (value,) = events.Tensors(f"{tag}/text_summary")
    found: bytes = value.tensor_proto.string_val[0]
    return found.decode()


def hyperparameters(events: EventAccumulator) -> Any:
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    return HParamsPluginData.FromString(content).session_start_info.hparams


class Shown:
    """What TensorBoard itself makes of a folder: `runs`, the layout of its charts, columns and rows of HParams."""

    def __init__(self, folder: Path) -> None:
        multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
        multiplexer.Reload()
        provider = MultiplexerDataProvider(multiplexer, str(folder))
        context = TBContext(data_provider=provider, logdir=str(folder), plugin_name_to_instance={})
        request, hparams = RequestContext(), backend_context.Context(context)
        self.runs = set(multiplexer.Runs())
        layout = CustomScalarsPlugin(context).layout_impl(request, "")
        self.layout = json.loads(layout) if isinstance(layout, str) else layout
        self.experiment = get_experiment.Handler(request, hparams, "", api_pb2.GetExperimentRequest()).run()
        self.rows = list_session_groups.Handler(request, hparams, "", ALL).run().session_groups

    @property
    def columns(self) -> list[str]:
        return [info.name for info in self.experiment.hparam_infos]

    @property
    def differing(self) -> list[str]:
        return [info.name for info in self.experiment.hparam_infos if info.differs]


@pytest.mark.usefixtures("few_digits")
def test_curves_pictures_texts_and_charts(genbench: Run, tmp_path: Path) -> None:
    assert genbench("experiment=vae-mnist5k", "trainer.epochs=2", "trainer.log_every=2") == 0
    (run,) = (tmp_path / "outputs" / "vae-mnist5k").iterdir()
    events, rows = read(run), rows_of(run)
    assert {"figures/samples", "figures/latents", "samples/generated"} <= set(events.Tags()["images"])
    for metric in ("train/elbo", "valid/elbo"):
        logged = [(event.step, event.value) for event in events.Scalars(f"variational/{metric}")]
        written = [(row["step"], row["value"]) for row in rows if row["metric"] == metric]
        assert [step for step, _ in logged] == [step for step, _ in written]
        assert all(abs(a - b) < 1e-4 * abs(b) for (_, a), (_, b) in zip(logged, written, strict=True))

    assert "vae-mnist5k epochs=2, seed=1" in text(events, "settings")
    assert "| model.latent_dim | 20 |" in text(events, "settings")
    finals = json.loads((run / "summary.json").read_text(encoding="utf-8"))["metrics"]
    results = text(events, "results")
    for metric in ("test/log_likelihood", "valid/elbo", "test/reconstruction"):  # the last is no quantity
        assert f"| {metric} |" in results
        assert f"{finals[metric]['final']['value']:.6g}" in results

    (elbo, kl) = Shown(tmp_path / "outputs").layout["category"]
    assert elbo["title"] == "Variational auto-encoders: evidence lower bound (nats)"
    assert elbo["chart"][0]["multiline"]["tag"] == ["variational/train/elbo$", "variational/valid/elbo$"]
    assert kl["title"] == "Variational auto-encoders: KL divergence (nats)"

    settings = hyperparameters(events)
    assert settings["model.latent_dim"].number_value == 20
    assert settings["dataset.name"].string_value == "mnist5k"
    assert settings["dataset.binarized"].string_value == "true"
    assert "data_root" not in settings  # where the data lie explains no result


@pytest.mark.parametrize(("better", "best"), [("higher", [3, 5, 5, 6]), ("lower", [3, 3, 3, 3])])
def test_the_best_value_so_far_is_a_curve(tmp_path: Path, better: Any, best: list[float]) -> None:
    board = Board(tmp_path, "kind", "a family", {}, Quantity("valid/score", "score", better=better))
    board.open({}, 0.0, [])
    for step, value in enumerate([3.0, 5.0, 4.0, 6.0]):
        board.scalar(("valid/score", value, step))
        board.scalar(("valid/other", value, step))
    board.close()
    events = read(tmp_path)
    assert set(events.Tags()["scalars"]) == {
        "kind/valid/score",
        "kind/valid/other",
        "best/kind/valid/score",
    }
    assert [(event.step, event.value) for event in events.Scalars("best/kind/valid/score")] == list(enumerate(best))


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_a_board_goes_on_as_if_it_had_never_stopped(tmp_path: Path, cut: int) -> None:
    points = [("valid/score", 0.5 * step, step) for step in range(4)]
    charts = {"score": ["valid/score"]}
    judged = Quantity("valid/score", "score", better="higher")
    board = Board(tmp_path, "kind", "a family", charts, judged)
    board.open({}, 0.0, [])
    for point in points[:cut]:
        board.scalar(point)
    state = board.state_dict()
    board.scalar(("valid/score", 7.0, 7))  # is lost
    board.close()
    again = Board(tmp_path, "kind", "a family", charts, judged)
    assert again.open(state["events"], state["clock"], points[:cut])
    for point in points[cut:]:
        again.scalar(point)
    again.close()
    events = read(tmp_path)
    for tag in ("kind/valid/score", "best/kind/valid/score"):
        assert [("valid/score", event.value, event.step) for event in events.Scalars(tag)] == points
    assert len(events.Tensors("custom_scalars__config__")) == 1


@pytest.mark.usefixtures("few_digits")
def test_a_diverged_run_is_in_the_table_of_its_sweep(genbench: Run, tmp_path: Path) -> None:
    assert genbench("experiment=vae-mnist5k", "trainer.max_steps=60", "optimizer.lr=1e30") == 3
    (run,) = (tmp_path / "outputs" / "vae-mnist5k").iterdir()
    assert hyperparameters(read(run))["optimizer.lr"].number_value == 1e30


@pytest.mark.usefixtures("few_digits")
def test_a_folder_of_several_experiments(genbench: Run, tmp_path: Path) -> None:
    """Runs of four experiments, of three families."""
    short = ("trainer.max_steps=40", "trainer.log_every=10", "trainer.evaluate_every=20")
    assert genbench("-m", "experiment=dirac-jsd-3,dirac-w1-3", *short) == 0
    assert genbench("-m", "experiment=divergence-w1", "seed=1,2", *short) == 0
    once = ("trainer.epochs=null", "trainer.max_steps=4", "trainer.log_every=2")  # evaluated once
    assert genbench("-m", "experiment=vae-mnist5k", "model.latent_dim=2,20", *once) == 0
    mixed = tmp_path / "outputs"
    shown = Shown(mixed)
    assert shown.runs == {path.relative_to(mixed).as_posix() for path in mixed.glob("*/*") if path.is_dir()}
    assert any(re.fullmatch(r"vae-mnist5k/latent_dim=2,.*seed=1-\w{8}", run) for run in shown.runs)

    # Every value of every run has its curve, or is the only one of its metric and run.
    for path in (mixed / run for run in shown.runs):
        events = read(path)
        curves = {tag: len(events.Scalars(tag)) for tag in events.Tags()["scalars"]}
        logged = Counter(row["metric"] for row in rows_of(path))
        own = {tag.partition("/")[2]: count for tag, count in curves.items() if not tag.startswith("best/")}
        assert own == {metric: count for metric, count in logged.items() if count > 1}

    titles = [category["title"] for category in shown.layout["category"]]
    assert len(titles) == len(set(titles))
    assert set(titles) == {
        "Dirac-GANs: critic slope ψ0 vs. generator θ",
        "Dirac-GANs: JSD vs. distance to the equilibrium",
        "Dirac-GANs: W1 vs. distance to the equilibrium",
        "Divergence estimation: W1 vs. its truth",
        "Variational auto-encoders: evidence lower bound (nats)",
        "Variational auto-encoders: KL divergence (nats)",
    }

    # HParams: a row for each run, columns for the settings of all, first those that differ.
    assert {row.name for row in shown.rows} == shown.runs
    final = {"Final variational/test/elbo", "Final divergence/test/error", "Last dirac/eval/distance"}
    assert {"model.latent_dim", "loss.free_bits", *final} <= set(shown.columns)
    assert shown.columns[: len(shown.differing)] == shown.differing
    assert shown.columns[0] == "Changes"
    assert all(column.startswith(("Final ", "Last ")) for column in shown.columns[1:5])
    latents = Shown(mixed / "vae-mnist5k")
    assert latents.differing == [
        "Changes",
        "Final variational/test/elbo",
        "Last variational/valid/elbo",
        "model.latent_dim",
    ]

    # No axis is shared by runs of two families.
    families = {tag.split("/")[tag.startswith("best/")] for run in shown.runs for tag in tags(mixed / run)}
    assert families == {"variational", "dirac", "divergence"}

    # A metric whose name begins as another one does is on its own chart only.
    for category in shown.layout["category"]:
        for pattern in category["chart"][0]["multiline"]["tag"]:
            assert re.match(pattern, pattern.removesuffix("$"))
            assert not re.match(pattern, pattern.removesuffix("$") + "_ratio")
