"""Flows in the plane: alone, and side by side in the batched model that must do what they do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

import genbench as package
from genbench.bijections.base import Compose
from genbench.bijections.planar import Planar
from genbench.build import build_task, make_batches
from genbench.commands import figures
from genbench.compose import configuration
from genbench.engine.lockstep import VALUES
from genbench.metrics.importance import log_normalizer
from genbench.tasks import plane
from genbench.tasks.flow_ensemble import FlowEnsemble, check

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
        rows.append(task.training_step(*batches.next()))
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


EXPERIMENTS = [f"flow-{target}-{mode}-k2" for target in ("arcs", "sine") for mode in ("samples", "density")]


def ensemble(
    tmp_path: Path, *words: str, depths: Sequence[int] = (2, 5)
) -> tuple[FlowEnsemble, list[Any], list[Any]]:
    """Flows of all kinds and of these depths, as one model; their tasks; their batches."""
    runs = [
        built(tmp_path, f"experiment={name}", f"model.layers={depth}", f"seed={seed}", *words)
        for seed in (3, 4)
        for depth in depths
        for name in EXPERIMENTS
    ]
    tasks, batches = (list(part) for part in zip(*runs, strict=True))
    return FlowEnsemble(check(tasks), batches), tasks, batches


def steps(together: FlowEnsemble, count: int) -> torch.Tensor:
    """What every flow logs, [count, E]."""
    rows = []
    for _ in range(count):
        together.prepare_step()
        rows.append(together.training_step(*together.next())[VALUES])
    return torch.stack(rows)


def assert_close(found: Any, expected: Any, where: str) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_close(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12, msg=lambda text: f"{where}: {text}")
    else:
        assert found == expected, where


OPTIMIZERS = {
    "rmsprop": (),
    "rmsprop with momentum": ("optimizer.momentum=0.5",),
    "adam": ("optimizer=adam", "optimizer.weight_decay=0.1"),
    "sgd": ("optimizer=sgd", "optimizer.lr=0.01", "optimizer.momentum=0.9"),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_flow_of_an_ensemble_does_what_it_does_alone(tmp_path: Path, optimizer: str) -> None:
    """The same losses for 30 steps, past an epoch's end and a falling learning rate; then the same state, from which
    it goes on alone, or in other company."""
    words = (*OPTIMIZERS[optimizer], "optimizer.milestones=[12]")
    together, tasks, batches = ensemble(tmp_path, *words)
    found = steps(together, 20)
    together.write_back()
    for row, (task, stream) in enumerate(zip(tasks, batches, strict=True)):
        name = EXPERIMENTS[row % 4]
        depth, seed = (2, 5)[row // 4 % 2], (3, 4)[row // 8]
        alone, own = built(tmp_path, f"experiment={name}", f"model.layers={depth}", f"seed={seed}", *words)
        (metric,) = (expected := losses(alone, own, 20))
        assert metric == together.metrics[row]
        torch.testing.assert_close(found[:, row], expected[metric], rtol=0, atol=1e-9)
        assert_close(task.state_dict(), alone.state_dict(), name)
        assert_close(stream.state_dict(), own.state_dict(), name)
        if row % 4 == 0:
            torch.testing.assert_close(losses(task, stream, 10), losses(alone, own, 10), rtol=0, atol=1e-9)
            continue
        ahead = losses(alone, own, 10)[metric]
        again = steps(FlowEnsemble([task], [stream]), 10)
        torch.testing.assert_close(again[:, 0], ahead, rtol=0, atol=1e-9)


def test_streams_in_the_same_state_are_drawn_once(tmp_path: Path, tiny_planes: None) -> None:
    together, tasks, batches = ensemble(tmp_path)
    assert (len(together._streams), len(together._noise)) == (2, 2)  # as many as seeds
    losses(tasks[-1], batches[-1], 1)
    with_one_ahead = FlowEnsemble(tasks, batches)
    assert (len(with_one_ahead._streams), len(with_one_ahead._noise)) == (3, 3)


@pytest.mark.usefixtures("float64")
def test_padding_stays_the_identity(tmp_path: Path) -> None:
    together, _, _ = ensemble(tmp_path)
    steps(together, 20)
    model = together.model
    padded = torch.tensor([[k >= depth for k in range(5)] for depth in model.depths])
    assert padded.any()
    for parameter in (model.w, model.u, model.b):
        assert not parameter[padded].any() and not parameter.grad[padded].any()
        assert parameter[~padded].any() and parameter.grad[~padded].any()


@pytest.mark.usefixtures("float64")
def test_an_ensemble_against_flows_layer_by_layer(tmp_path: Path) -> None:
    """Single planar maps, which know of no ensemble."""
    together, _, _ = ensemble(tmp_path, depths=[3])
    x = torch.randn(len(together.model.depths), 50, 2)
    y, log_det = together.model(x)
    for row in range(len(x)):
        layers = [Planar(2) for _ in range(3)]
        with torch.no_grad():
            for k, layer in enumerate(layers):
                for name, parameter in layer.named_parameters():
                    parameter.copy_(getattr(together.model, name)[row, k])
        own, own_det = Compose(layers)(x[row])
        torch.testing.assert_close(y[row], own, rtol=0, atol=1e-12)
        torch.testing.assert_close(log_det[row], own_det, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("float64", "fresh_compiler")
def test_a_compiled_ensemble(tmp_path: Path) -> None:
    _, tasks, batches = ensemble(tmp_path)
    tasks, batches = tasks[:4], batches[:4]
    eager, compiled = (steps(FlowEnsemble(tasks, batches, compile=way), 3) for way in (False, True))
    torch.testing.assert_close(compiled, eager, rtol=0, atol=1e-9)


# ------------------------------------------------------------------------------------------------- whole runs


def short(steps: int, name: str) -> list[str]:
    words = [f"experiment={name}", f"trainer.max_steps={steps}", f"trainer.evaluate_every={steps}"]
    return [*words, "trainer.log_every=5"]


def summary(tmp_path: Path, name: str) -> dict[str, Any]:
    (path,) = (tmp_path / "outputs" / name).glob("*/summary.json")
    return json.loads(path.read_text())


@pytest.mark.usefixtures("tiny_planes")
def test_a_stopped_run_goes_on_exactly(genbench: Callable[..., int], tmp_path: Path) -> None:
    name = "flow-arcs-density-k2"
    words = [*short(8, name), "trainer.checkpoint_every=4"]
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


def test_a_flow_whose_samples_hardly_overlap_its_target_is_noted(tmp_path: Path) -> None:
    task, _ = built(tmp_path, "experiment=flow-arcs-density-k2")
    (note,) = task.notes({"test/effective_sample_size": 0.012, "test/log_z": 1.5})
    assert "its effective sample size is 1.20%" in note and "log Z is 1.500" in note
    assert task.notes({"test/effective_sample_size": 0.2, "test/log_z": 1.5}) == []


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("direction", ["data to base", "base to data"])
def test_what_a_task_decodes_is_data_and_a_path_begins_in_the_base(tmp_path: Path, direction: str) -> None:
    task, _ = built(tmp_path, "experiment=flow-arcs-samples-k8", "task=density", f"model.direction='{direction}'")
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    z = torch.randn(50, 2)
    points = task.decode(z)
    torch.testing.assert_close(points, task.model.to_data(z)[0])
    torch.testing.assert_close(task.encode(points), z, rtol=0, atol=1e-6)
    assert (points - z).abs().max() > 0.1
    path = task.model.path(10_000)
    torch.testing.assert_close(task.encode(path[-1]), path[0], rtol=0, atol=1e-6)
    assert path[0].mean(0).abs().max() < 4 / math.sqrt(10_000)
    assert (path[0].var(0) - 1).abs().max() < 4 * math.sqrt(2 / 10_000)


def test_densities_of_a_sweep_are_told_apart(
    genbench: Callable[..., int],
    tiny_planes: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By what differs between runs of one name; a target of which a run is missing is named; the best are shown."""
    drawn: list[tuple[Any, ...]] = []

    def panel(*arguments: Any) -> Figure:
        drawn.append(arguments)
        return Figure()

    monkeypatch.setattr(plane, "density_panel", panel)
    words = ("experiment=flow-arcs-samples-k2", "trainer.max_steps=2", "trainer.evaluate_every=2")
    assert genbench("-m", *words, "model.layers=1,2,3") == 0
    names = [title.partition(": ")[0] for title in drawn[-1][1]]
    assert names == [*(f"arcs-samples-k2 model.layers={depth}" for depth in (1, 2, 3)), "arcs, target"]
    monkeypatch.setattr(plane, "PANELS", 2)
    figures.main(["sweep", "outputs/flow-arcs-samples-k2"])
    _, titles, columns, _, title = drawn[-1]
    values = [float(told.partition(": ")[2]) for told in titles[:-1]]
    everything = [run.metrics["test/nll"] for run in package.runs("outputs")]
    assert sorted(values) == pytest.approx(sorted(everything)[:2], abs=6e-4)
    assert columns == 3
    assert title.endswith("2 of 3 for each target")
    capsys.readouterr()
    assert genbench("-m", *words, "dataset.target=eight-gaussians", "model.layers=2,3") == 0
    with pytest.raises(SystemExit, match="2"):
        figures.main(["sweep", "outputs/flow-arcs-samples-k2"])
    assert "3 of arcs, 2 of eight-gaussians" in capsys.readouterr().err


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
        (("experiment=flow-arcs-samples-k2", "task=energy"), "task=energy cannot use this loss"),
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
def test_a_collapse_is_told(genbench: Callable[..., int], tmp_path: Path) -> None:
    """With steps far too large."""
    wild = ("trainer.max_steps=3", "optimizer.lr=1.0", "loss.anneal=false")
    assert genbench("experiment=flow-arcs-density-k2", "dataset.target=two-moons", *wild) == 0
    found = summary(tmp_path, "flow-arcs-density-k2")
    assert found["metrics"]["test/collapsed"]["final"]["value"] == 1
    assert "has lost part of its target" in found["note"]


@pytest.mark.usefixtures("tiny_planes")
@pytest.mark.parametrize("target", ["arcs", "checkerboard"])
def test_published_values_are_of_their_target_only(genbench: Callable[..., int], tmp_path: Path, target: str) -> None:
    assert genbench(*short(2, "flow-arcs-samples-k2"), f"dataset.target={target}") == 0
    (row,) = summary(tmp_path, "flow-arcs-samples-k2")["reference"]
    assert row["value"] == 3.46
    assert (row["verdict"] == "other protocol") == (target != "arcs")


@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_the_mass_is_that_of_the_density(
    factor: float, tmp_path: Path, tiny_planes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 of a normal density; of one that forgets a part of a log-determinant, more or less."""
    task, _ = built(tmp_path, "experiment=flow-arcs-samples-k2")
    normal = torch.distributions.MultivariateNormal(torch.tensor([0.5, -1.0]).double(), 0.7 * torch.eye(2).double())
    monkeypatch.setattr(type(task.model), "log_prob", lambda _, z: normal.log_prob(z) + math.log(factor))
    monkeypatch.setattr(type(task.model), "sample", lambda _, count: normal.sample((count,)))
    assert task.mass()["test/mass"].value == pytest.approx(factor, rel=1e-6)
