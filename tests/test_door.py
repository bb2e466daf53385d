"""The Python door: every family through it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from shared import smaller

import genbench as package
from genbench.data import loading
from genbench.door import Run as Door
from genbench.engine.task import LogProb
from genbench.errors import ConfigError, Unsupported

Run = Callable[..., int]

# Experiment → what its family can do, and the metric that is its mean log p(x), in nats by this factor.
FAMILIES = {
    "vae-mnist5k": ("sample decode interpolate encode reconstruct log_prob", "test/log_likelihood", 1),
    "vae-mnist5k-gaussian-mc": ("sample decode interpolate encode reconstruct log_prob", "test/log_likelihood", 1),
    "pixelvae-iaf-mnist5k": ("sample decode interpolate encode reconstruct log_prob", "test/log_likelihood", 1),
    "pixelcnn-mnist5k": ("sample log_prob", "test/log_likelihood", 1),
    "realnvp-mnist5k": (
        "sample decode interpolate encode reconstruct log_prob",
        "test/bits_per_dim",
        -math.log(2) * 784,
    ),
    "mnist5k-gan": ("sample decode interpolate", None, 1),
    "flow-arcs-samples-k8": ("sample decode interpolate encode reconstruct log_prob", "test/nll", -1),
    "flow-arcs-density-k8": ("sample decode interpolate encode reconstruct log_prob", None, 1),
    "dirac-jsd-8": ("", None, 1),
    "divergence-w1": ("", None, 1),
}
FEWER = {"realnvp-mnist5k": ("model.couplings=2",)}
pytestmark = pytest.mark.usefixtures("few_digits")


def only(root: str = "outputs") -> Path:
    (run,) = Path(root).glob("*/*seed=*")
    return run


@pytest.mark.usefixtures("tiny_planes", "tiny_instruments")
@pytest.mark.parametrize("experiment", FAMILIES)
def test_every_family_comes_through_it(genbench: Run, experiment: str) -> None:
    small = (*smaller(experiment), *FEWER.get(experiment, ()))
    assert genbench(f"experiment={experiment}", "trainer.max_steps=3", "trainer.log_every=1", *small) == 0
    can, metric, factor = FAMILIES[experiment]
    before = torch.get_rng_state()
    run = package.load(only())
    assert run.abilities == can.split()
    shape = run.task.parts.dataset.shape
    if run.abilities:
        samples = run.sample(5, seed=3)
        assert samples.shape == (5, *shape)
        assert torch.equal(run.sample(5, seed=3), samples)
        assert not torch.equal(run.sample(5, seed=4), samples)
    else:
        with pytest.raises(Unsupported, match=r"has no sample"):
            run.sample(5)
    if "interpolate" in run.abilities:
        ends = real(run)[:2] if "encode" in run.abilities else run.latents(2)
        between = run.interpolate(*ends, steps=4)
        assert between.shape == (4, *shape)
        whole = run.reconstruct(ends) if "encode" in run.abilities else run.decode(ends)
        torch.testing.assert_close(between[[0, -1]], whole, rtol=1e-3, atol=1e-3)
        first, last = run.encode(ends) if "encode" in run.abilities else ends
        line = torch.stack([first, (2 * first + last) / 3, (first + 2 * last) / 3, last])
        torch.testing.assert_close(between, run.decode(line))
    if metric is not None:
        judged = run.log_prob(real(run), run.config["task"].get("importance_samples", 1))
        assert isinstance(judged, LogProb)
        told = factor * run.metrics[metric]
        error = abs(factor) * run.summary["metrics"][metric]["standard_error"]
        assert judged.value.mean().item() == pytest.approx(told, abs=error / 4)
    assert torch.equal(torch.get_rng_state(), before)


def real(run: Door) -> torch.Tensor:
    """Its test split, or what was measured of it."""
    return run.data("test")[: run.config["task"].get("importance_images")]


def test_what_a_run_tells(genbench: Run) -> None:
    assert genbench("experiment=vae-mnist5k", "trainer.max_steps=3", "trainer.log_every=1") == 0
    run = package.load(str(only()), device="cpu")
    steps, values = run.curve("train/elbo")
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert steps.tolist() == [1, 2, 3]
    assert values.tolist() == [row["value"] for row in rows if row["metric"] == "train/elbo"]
    assert run.metrics["test/elbo"] == run.summary["metrics"]["test/elbo"]["final"]["value"]
    assert isinstance(run.model, torch.nn.Module)
    assert "vae-mnist5k" in repr(run)
    with pytest.raises(KeyError, match=r"there are .*test/elbo"):
        run.curve("nonsense")
    binary = np.zeros((2, 1, 28, 28))
    for wrong, said in (
        (binary[:, :, 1:], r"samples here are \[N, 1, 28, 28\]"),
        (binary + 0.5, "pixels of 0 and 1"),
        (binary + 255, "divide bytes by 255"),
        (binary * np.nan, "divide bytes by 255"),
    ):
        with pytest.raises(ConfigError, match=said):
            run.encode(wrong)
    with pytest.raises(ConfigError, match="at least 2"):
        run.interpolate(binary[0], binary[1], steps=1)


@pytest.mark.usefixtures("tiny_images")
def test_data_lie_where_it_was_told(genbench: Run, data_root: Path, tmp_path: Path) -> None:
    words = ("dataset=binmnist-dynamic", "trainer.max_steps=2", *smaller("vae-mnist5k"))
    assert genbench("experiment=vae-mnist5k", *words) == 0
    expected = package.load(only()).data()
    loading.forget()
    data_root.rename(tmp_path / "moved")
    assert torch.equal(package.load(only(), data_root=tmp_path / "moved").data(), expected)


def test_a_table_of_runs(genbench: Run, tmp_path: Path) -> None:
    assert genbench("-m", "experiment=divergence-w1", "seed=1,2", "trainer.max_steps=2") == 0
    (tmp_path / "outputs" / "odd" / "run").mkdir(parents=True)
    (tmp_path / "outputs" / "odd" / "run" / "status.json").write_text("no JSON")
    table = package.runs("outputs")
    assert [row.seed for row in table] == [1, 2]
    assert [row.status for row in table[:1]] == ["done"]
    assert table[0].changes == {"trainer.max_steps": "2"}
    assert table[0].metrics["test/w1"] == package.load(table[0].path).metrics["test/w1"]
    assert len(table.problems) == 1
    assert "divergence-w1" in repr(table)
    frame = pytest.importorskip("pandas") and table.to_pandas()
    assert frame["test/w1"].tolist() == [row.metrics["test/w1"] for row in table]
    with pytest.raises(ConfigError, match="nowhere is not a directory"):
        package.runs("nowhere")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda run: (run / "config.yaml").unlink(), "is not a run directory"),
        (lambda run: (run / "config.yaml").write_text("- 5"), "is damaged"),
        (lambda run: [path.write_bytes(b"") for path in (run / "checkpoints").iterdir()], "no good checkpoint"),
        (lambda run: [path.unlink() for path in (run / "checkpoints").iterdir()], "has no checkpoint"),
    ],
)
def test_what_cannot_be_loaded_is_told(genbench: Run, harm: Callable[[Path], object], said: str) -> None:
    assert genbench("experiment=divergence-w1", "trainer.max_steps=2") == 0
    harm(only())
    with pytest.raises(ConfigError, match=said):
        package.load(only())


def test_neither_hydra_nor_data_are_needed(genbench: Run, tmp_path: Path) -> None:
    """In a fresh process, and nothing heavy comes with the package itself."""
    assert genbench("experiment=vae-mnist5k", "trainer.max_steps=2", *smaller("vae-mnist5k")) == 0
    code = f"""
import sys
import genbench
assert "torch" not in sys.modules
from genbench.data import mnist5k
mnist5k._source = lambda: 1 / 0
run = genbench.load({str(only())!r})
assert run.sample(3).shape == (3, 1, 28, 28)
assert "hydra" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
