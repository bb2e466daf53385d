"""Flows in the plane: single runs, and the ensemble that must do what they do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from genbench.bijections.base import Compose
from genbench.bijections.flow import Flow
from genbench.bijections.planar import Planar
from genbench.compose import configuration
from genbench.engine.batches import Batches, ParallelBatches
from genbench.metrics.importance import log_normalizer
from genbench.run import build_task, make_batches

CPU = torch.device("cpu")


@pytest.fixture
def float64(tiny_planes: None) -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def built(tmp_path: Path, *words: str) -> tuple[Any, Any]:
    """The task that these words name, and its stream of batches."""
    config = configuration(*words, f"data_root={tmp_path}", "device=cpu")
    task = build_task(config, CPU)
    return task, make_batches(config, task)


def losses(task: Any, batches: Any, steps: int) -> dict[str, torch.Tensor]:
    rows = []
    for _ in range(steps):
        task.prepare_step()
        rows.append(task.training_step(batches.next()))
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.usefixtures("float64")
def test_every_flow_of_the_suite_does_what_a_run_of_its_own_does(tmp_path: Path) -> None:
    """The same losses for 100 steps, float64, from the second of two seeds too; then the same judgement."""
    suites = {}
    for seed in (3, 4):  # with one replica a mean over seeds is that seed's loss
        words = ("experiment=flow-toy-suite", f"seed={seed}", "task.replicas=1", "model.layers=[2,5]")
        task, batches = built(tmp_path, *words)
        suites[seed] = (losses(task, batches, 100), task.evaluate("test"))
    both, batches = built(tmp_path, "experiment=flow-toy-suite", "seed=3", "task.replicas=2", "model.layers=[2,5]")
    means, judged = losses(both, batches, 100), both.evaluate("test")
    for target in ("arcs", "sine"):
        for mode, metric in (("samples", "nll"), ("density", "free_energy")):
            for depth in (2, 5):
                name = f"{target}-{mode}-k{depth}"
                for seed in (3, 4):
                    words = (f"experiment=flow-{target}-{mode}-k2", f"model.layers={depth}", f"seed={seed}")
                    task, batches = built(tmp_path, *words)
                    own = losses(task, batches, 100)[f"train/{metric}"]
                    trained, found = suites[seed]
                    torch.testing.assert_close(trained[f"train/{metric}/{name}"], own, rtol=0, atol=1e-9)
                    row = task.evaluate("test")
                    for table in (found, judged):
                        value = table[f"test/{metric}/{name}/seed{seed}"]
                        assert value == pytest.approx(row[f"test/{metric}"], abs=1e-8)
                own = sum(suites[seed][0][f"train/{metric}/{name}"] for seed in (3, 4)) / 2
                torch.testing.assert_close(means[f"train/{metric}/{name}"], own, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_padding_stays_the_identity(tmp_path: Path) -> None:
    task, batches = built(tmp_path, "experiment=flow-toy-suite", "task.replicas=1", "model.layers=[2,5]")
    losses(task, batches, 20)
    ensemble = task.ensemble
    padded = torch.tensor([[k >= depth for k in range(5)] for depth in ensemble.depths])
    assert padded.any()
    for parameter in (ensemble.w, ensemble.u, ensemble.b):
        assert not parameter[padded].any() and not parameter.grad[padded].any()
        assert parameter[~padded].any() and parameter.grad[~padded].any()


@pytest.mark.usefixtures("float64")
def test_the_suite_against_flows_layer_by_layer(tmp_path: Path) -> None:
    """One member's density, from single planar maps that know of no ensemble."""
    task, _ = built(tmp_path, "experiment=flow-toy-suite", "task.replicas=1", "model.layers=[3]")
    layers = [Planar(2) for _ in range(3)]
    with torch.no_grad():
        for k, layer in enumerate(layers):
            for name, parameter in layer.named_parameters():
                parameter.copy_(getattr(task.ensemble, name)[0, k])
    x = task.dataset.test[:, 0]
    expected = -Flow(Compose(layers), (2,), "data to base").log_prob(x).mean().item()
    assert task.evaluate("test")["test/nll/arcs-samples-k3"] == pytest.approx(expected, abs=1e-12)


def test_parallel_streams_are_what_each_would_be_alone() -> None:
    data = torch.arange(50)
    both, alone = ParallelBatches(data, 8, (5, 6)), [Batches(data, 8, 5), Batches(data, 8, 6)]
    for _ in range(9):  # over an epoch's end
        assert torch.equal(both.next(), torch.cat([stream.next() for stream in alone]))
    again = ParallelBatches(data, 8, (7, 8))
    again.load_state_dict(both.state_dict())
    assert torch.equal(again.next(), both.next())


# ------------------------------------------------------------------------------------------------- whole runs


def short(steps: int, name: str) -> list[str]:
    words = [f"experiment={name}", f"trainer.max_steps={steps}", f"trainer.evaluate_every={steps}"]
    return [*words, "trainer.log_every=5"]


def summary(tmp_path: Path, name: str) -> dict[str, Any]:
    (path,) = (tmp_path / "outputs" / name).glob("*/summary.json")
    return json.loads(path.read_text())


@pytest.mark.usefixtures("tiny_planes")
def test_a_suite_has_a_row_for_every_member(genbench: Callable[..., int], tmp_path: Path) -> None:
    assert genbench(*short(10, "flow-toy-suite"), "task.replicas=2", "model.layers=[2,3]", "seed=7") == 0
    row = summary(tmp_path, "flow-toy-suite")
    members = {(member["experiment"], member["seed"]) for member in row["members"]}
    assert len(members) == len(row["members"]) == 2 * 2 * 2 * 2
    assert ("flow-sine-density-k3", 8) in members
    for member in row["members"]:
        wanted = "test/nll" if "samples" in member["experiment"] else "test/log_z"
        assert wanted in member["metrics"]
    (figures,) = (tmp_path / "outputs" / "flow-toy-suite").glob("*/figures")
    assert {path.stem for path in figures.iterdir()} == {"densities-samples-end", "densities-density-end"}


@pytest.mark.usefixtures("tiny_planes")
@pytest.mark.parametrize("name", ["flow-arcs-density-k2", "flow-toy-suite"])
def test_a_stopped_run_goes_on_exactly(genbench: Callable[..., int], tmp_path: Path, name: str) -> None:
    more = ["task.replicas=1", "model.layers=[2]"] if "suite" in name else []
    words = [*short(8, name), "trainer.checkpoint_every=4", *more]
    assert genbench(*words, "output_root=whole") == 0
    assert genbench(*words, "output_root=parts") == 0
    (run,) = (tmp_path / "parts" / name).iterdir()
    first, last = sorted((run / "checkpoints").glob("*.pt"))
    assert (int(first.stem.split("-")[1]), int(last.stem.split("-")[1])) == (4, 8)
    last.unlink()
    (run / "status.json").write_text(json.dumps({"status": "interrupted", "step": 4}))
    assert genbench(*words, "output_root=parts") == 0
    rows = [
        [{k: v for k, v in json.loads(line).items() if k != "time"} for line in path.read_text().splitlines()]
        for path in (next((tmp_path / root / name).glob("*/metrics.jsonl")) for root in ("whole", "parts"))
    ]
    assert rows[0] == rows[1]


@pytest.mark.usefixtures("tiny_planes")
def test_the_animation_shows_samples_on_their_way(genbench: Callable[..., int], tmp_path: Path) -> None:
    from PIL import Image

    from genbench.commands.figures import main

    assert genbench(*short(5, "flow-sine-samples-k2")) == 0
    (run,) = (tmp_path / "outputs" / "flow-sine-samples-k2").iterdir()
    main(["animate", str(run)])
    with Image.open(next((run / "figures").glob("*.gif"))) as picture:
        assert picture.n_frames > 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("experiment=flow-arcs-samples-k2", "model.layers=0"), "model.layers must be ≥ 1"),
        (("experiment=flow-arcs-samples-k2", "dataset=mnist5k"), "maps vectors"),
        (("experiment=flow-arcs-density-k2", "dataset.target=checkerboard"), "no finite energy"),
        (("experiment=flow-arcs-samples-k2", "dataset.target=arc"), "one of arcs"),
        (("experiment=flow-arcs-samples-k2", "task=energy"), "loss"),
        (("experiment=flow-toy-suite", "model=planar-flow", "model.layers=4"), "assemble"),
        (("experiment=flow-toy-suite", "model.layers=[2,2]"), "each depth once"),
        (("experiment=flow-toy-suite", "task.modes=[]"), "task.modes"),
        (("experiment=flow-toy-suite", "dataset=plane"), "choose dataset=planes"),
        (("experiment=flow-toy-suite", "optimizer.max_norm=1"), "set optimizer.max_norm=null"),
        (("experiment=flow-arcs-samples-k2", "dataset=planes", "dataset.targets=[arcs]"), "choose dataset=plane"),
        (("experiment=flow-toy-suite", "dataset.targets=[checkerboard]"), "no finite energy"),
        (("experiment=vae-mnist5k", "task=density", "loss=nll"), "log_prob"),
    ],
)
def test_bad_input(
    genbench: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    assert genbench(*words, "trainer.max_steps=1") == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "outputs").exists() or not list((tmp_path / "outputs").rglob("summary.json"))


def test_log_z_and_effective_sample_size_of_two_gaussians() -> None:
    """w = p̃/q for p̃ = 3 N(x; 0, 1), q = N(x; 0, s²): Z = 3 and ESS = √(2s² − 1)/s²."""
    s = 1.5
    x = s * torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_w = torch.log(torch.tensor(3.0)) - 0.5 * x.square() + 0.5 * (x / s).square() + torch.log(torch.tensor(s))
    found = log_normalizer(log_w)
    assert abs(found.log_z - 1.0986123) < 4 * found.standard_error < 0.02
    assert found.effective_sample_size == pytest.approx((2 * s**2 - 1) ** 0.5 / s**2, rel=0.01)
    assert found.standard_error == pytest.approx(((1 / found.effective_sample_size - 1) / len(x)) ** 0.5, rel=1e-3)


@pytest.mark.usefixtures("tiny_planes")
def test_a_collapse_is_told_for_every_target(genbench: Callable[..., int], tmp_path: Path) -> None:
    """With steps far too large: of the suite, a target with a hyphen in its name; then a single run."""
    wild = ("trainer.max_steps=3", "optimizer.lr=1.0", "loss.anneal=false")
    suite = ("task.modes=[density]", "dataset.targets=[two-moons]", "task.replicas=1", "model.layers=[2]")
    assert genbench("experiment=flow-toy-suite", *wild, *suite) == 0
    found = summary(tmp_path, "flow-toy-suite")
    assert found["members"][0]["metrics"]["test/collapsed"] == 1
    assert "flow-two-moons-density-k2 seed 1: has lost part of its target" in found["note"]
    assert found["parameters"] == 2 * 5
    assert genbench("experiment=flow-arcs-density-k2", "dataset.target=two-moons", *wild) == 0
    assert "has lost part of its target" in summary(tmp_path, "flow-arcs-density-k2")["note"]


@pytest.mark.usefixtures("tiny_planes")
@pytest.mark.parametrize("target", ["arcs", "checkerboard"])
def test_published_values_are_of_their_target_only(genbench: Callable[..., int], tmp_path: Path, target: str) -> None:
    assert genbench(*short(2, "flow-arcs-samples-k2"), f"dataset.target={target}") == 0
    references = summary(tmp_path, "flow-arcs-samples-k2")["reference"]
    assert [row["value"] for row in references] == ([3.46] if target == "arcs" else [])
