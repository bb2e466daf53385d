"""Flows on images: bits per dimension by another way, pictures, and what does not fit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from genbench.build import build_task
from genbench.compose import configuration
from genbench.tasks import image_flow

SMALL = ("model.width=8", "model.couplings=2", "trainer.max_steps=4", "trainer.log_every=2")


def test_bits_per_dimension_of_a_flow_that_is_known(tmp_path: Path) -> None:
    """Untrained couplings are the identity: the density is a logistic one of the logit, and can be written down."""
    words = ["experiment=realnvp-mnist5k", "model.width=4", f"data_root={tmp_path}", "device=cpu"]
    task = build_task(configuration(*words), torch.device("cpu"))
    found = task.evaluate("valid")["valid/bits_per_dim"].value
    # By quadrature over u: E_u log N(logit(α + (1 − 2α)(x + u)/256); 0, 1) + the logit's log-derivative − log 256.
    alpha, n = 1e-5, 2000
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    x = torch.arange(256, dtype=torch.float64)
    p = alpha + (1 - 2 * alpha) * (x[:, None] + u) / 256
    z = torch.log(p) - torch.log1p(-p)
    log_density = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) + math.log(1 - 2 * alpha) - (p * (1 - p)).log()
    nats = -(log_density.mean(1) - math.log(256))
    counts = torch.bincount(task.dataset.valid.flatten().long(), minlength=256).double()
    expected = (counts * nats).sum() / counts.sum() / math.log(2)
    assert found == pytest.approx(expected.item(), rel=2e-3)


def test_what_is_decoded_and_drawn_of_a_flow_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpolations are lines between logits, temperatures are factors of base points, decoded images are k/255."""
    words = ["experiment=realnvp-mnist5k", "model.width=4", f"data_root={tmp_path}", "device=cpu"]
    task, drawn = build_task(configuration(*words), torch.device("cpu")), {}
    for name in ("interpolations", "labelled_rows"):
        monkeypatch.setattr(image_flow, name, lambda *arguments, name=name: drawn.update({name: arguments}))
    grey = task.dataset.valid[:6] / 255
    assert torch.equal(task.decode(task.encode(grey)), grey)
    record: Any = SimpleNamespace(title="")
    task.samples("start"), task.samples("end")
    task.figures("end", record)
    images, mixed, alphas, _ = drawn["interpolations"]
    x = task.dataset.valid[: 2 * len(images)].double().unflatten(0, (-1, 2))
    logits = torch.logit(1e-5 + (1 - 2e-5) * (x + 0.5) / 256)
    for column, alpha in enumerate(alphas):
        between = torch.lerp(logits[:, 0], logits[:, 1], alpha).sigmoid()
        level = ((between - 1e-5) / (1 - 2e-5) * 256).floor().clamp(0, 255) / 255
        assert (images[:, column] - level).abs().max() <= 1.01 / 255  # float32 at the edge of a cell
        mix = torch.lerp(x[:, 0], x[:, 1], alpha) / 255
        torch.testing.assert_close(mixed[:, column].double(), mix, rtol=0, atol=1e-6)
    assert len(images) > 2
    torch.testing.assert_close(images[:, [0, -1]].double(), x / 255, rtol=0, atol=1e-6)

    rows, names, _ = drawn["labelled_rows"]
    z = task.latents(rows.shape[1], task.seed)
    for row, name in zip(rows, names, strict=True):
        assert torch.equal(row, task.decode(float(name.removeprefix("T = ")) * z))
    assert len(dict.fromkeys(names)) == len(names) > 2


@pytest.mark.usefixtures("tiny_images")
@pytest.mark.parametrize("experiment", ["realnvp-mnist5k", "realnvp-mnist"])
def test_a_run_and_its_pictures(genbench: Callable[..., int], tmp_path: Path, experiment: str) -> None:
    assert genbench(f"experiment={experiment}", *SMALL) == 0
    (run,) = (tmp_path / "outputs" / experiment).iterdir()
    summary = json.loads((run / "summary.json").read_text())
    valid, test = (summary["metrics"][f"{split}/bits_per_dim"] for split in ("valid", "test"))
    assert test["standard_error"] > test["monte_carlo_error"] > 0
    assert valid["standard_error"] > 0 and "monte_carlo_error" not in valid  # one draw does not tell
    assert valid["least"] == test["least"] == 0.0
    assert valid["protocol"]["dequantization"] == test["protocol"]["dequantization"] == "uniform"
    draws = ("1", "64" if "5k" in experiment else "8")
    assert (valid["protocol"]["importance_samples"], test["protocol"]["importance_samples"]) == draws
    drawn = {path.stem for path in (run / "figures").glob("*.png")}
    assert drawn >= {f"{name}-end" for name in ("samples", "stages", "temperatures", "interpolations", "curves")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dataset.binarized=true",), "256 levels"),
        (("model.alpha=0.5",), "model.alpha must be ≥ 0 and < 0.5"),
        (("model.couplings=0",), "model.couplings must be ≥ 1"),
        (("dataset=plane",), "realnvp is for images"),
        (("task.importance_samples=0",), "task.importance_samples must be ≥ 1"),
    ],
)
def test_bad_input(
    genbench: Callable[..., int], capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert genbench("experiment=realnvp-mnist5k", "trainer.max_steps=1", *words) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
