"""What TensorBoard finds in a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2


@pytest.mark.usefixtures("few_digits")
def test_scalars_pictures_settings_and_charts(genbench: Callable[..., int], tmp_path: Path) -> None:
    assert genbench("experiment=vae-mnist5k", "trainer.epochs=2", "trainer.log_every=2") == 0
    (run,) = (tmp_path / "outputs" / "vae-mnist5k").iterdir()
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    assert {"train/elbo", "valid/elbo", "test/log_likelihood"} <= set(tags["scalars"])
    assert {"figures/samples", "figures/latents", "samples/generated"} <= set(tags["images"])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for metric in ("train/elbo", "valid/elbo"):
        logged = [(event.step, event.value) for event in events.Scalars(metric)]
        written = [(row["step"], row["value"]) for row in rows if row["metric"] == metric]
        assert [step for step, _ in logged] == [step for step, _ in written]
        assert all(abs(a - b) < 1e-4 * abs(b) for (_, a), (_, b) in zip(logged, written, strict=True))

    layout = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    assert charts["evidence lower bound (nats)"] == ["train/elbo", "valid/elbo", "test/elbo"]

    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["model.latent_dim"].number_value == 20
    assert settings["dataset.name"].string_value == "mnist5k"
    assert "data_root" not in settings  # where the data lie explains no result
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    metrics = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.metric_infos
    measured = {"valid/elbo", "test/elbo", "test/log_likelihood", "valid/kl", "test/active_units"}
    assert {info.name.tag for info in metrics} == measured  # the task's quantities


@pytest.mark.usefixtures("few_digits")
def test_a_diverged_run_is_in_the_table_of_its_sweep(genbench: Callable[..., int], tmp_path: Path) -> None:
    assert genbench("experiment=vae-mnist5k", "trainer.max_steps=60", "optimizer.lr=1e30") == 3
    (run,) = (tmp_path / "outputs" / "vae-mnist5k").iterdir()
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["optimizer.lr"].number_value == 1e30
