"""A critic between two segments, its task, its data and what is known of them."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from genbench import registry
from genbench.data.dataset import Dataset, as_stored
from genbench.data.lines import ParallelLines, lines
from genbench.engine.measurement import Measurement, values_of
from genbench.errors import ConfigError
from genbench.figures.style import divergence_name
from genbench.losses.f_divergence import FDivergence
from genbench.metrics.lines import truth
from genbench.models.vae import MlpVae
from genbench.tasks import divergence
from genbench.tasks.base import Parts
from genbench.tasks.divergence import Divergence

LR = 0.01


class Critics(nn.Module):
    """A model of nothing but a critic."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.critic = nn.Sequential(*layers, nn.Flatten(0)).double()


def linear(w: tuple[float, float], b: float = 0.0) -> Critics:
    """C(x, y) = w₀ x + w₁ y + b."""
    model = Critics(nn.Linear(2, 1))
    with torch.no_grad():
        model.critic[0].weight.copy_(torch.tensor([w]))
        model.critic[0].bias.fill_(b)
    return model


def smooth() -> Critics:
    torch.manual_seed(0)
    return Critics(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))


def segments(theta: float = 1.5, rows: int = 12) -> ParallelLines:
    generator = torch.Generator().manual_seed(3)

    def pairs(count: int) -> Tensor:
        x = torch.tensor([0.0, theta], dtype=torch.float64).expand(count, 2)
        return torch.stack([x, torch.rand(count, 2, generator=generator, dtype=torch.float64)], dim=2)

    return ParallelLines("lines", pairs(rows), pairs(7), pairs(9), as_stored, False, {}, theta=theta)


def make_task(
    model: nn.Module,
    loss: str = "w1",
    regularizer: dict[str, Any] | None = None,
    dataset: Dataset | None = None,
    precision: str = "fp32",
    **settings: Any,
) -> Divergence:
    parts = Parts(
        model=model,
        loss=registry.build("loss", {"name": loss}),
        regularizer=registry.build("regularizer", regularizer or {"name": "none"}),
        dataset=dataset or segments(),
        make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e9),
        make_critic_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=LR),
        device=torch.device("cpu"),
        seed=1,
        batch_size=12,
        precision=precision,
        data_root=Path(),
    )
    return Divergence(parts, **settings)


# --- training ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [(0.3, -0.4), (-1.2, 0.9)])
def test_a_linear_critic_climbs_as_its_closed_form_says(w: tuple[float, float]) -> None:
    """∇w of −w·(p̄ − q̄) + 50 max(0, ‖w‖ − 1)²; the bias sees nothing."""
    task = make_task(linear(w, 0.7), "w1", {"name": "lp", "coefficient": 50.0})
    values = task.training_step(task.dataset.train)
    weight = torch.tensor(w, dtype=torch.float64)
    means = task.dataset.train.mean(0)
    excess = max(0.0, weight.norm().item() - 1)
    gradient = -(means[0] - means[1]) + 100 * excess * weight / weight.norm()
    layer = task.critic[0]
    torch.testing.assert_close(layer.weight.grad[0], gradient, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(layer.weight[0], weight - LR * gradient, rtol=1e-6, atol=1e-8)
    assert layer.bias.item() == pytest.approx(0.7)
    assert values["train/w1"].item() == pytest.approx((weight @ (means[0] - means[1])).item(), rel=1e-6)
    assert values["train/penalty"].item() == pytest.approx(excess**2, rel=1e-5)
    assert not any(value.requires_grad for value in values.values())


def test_a_linear_critic_ends_where_the_penalty_holds_it() -> None:
    """max_w ‖w‖ θ − 50 (‖w‖ − 1)² at ‖w‖ = 1 + θ/100: the penalized estimate is θ + θ²/100."""
    theta = 1.5
    dataset = segments(theta)
    dataset.train[:, 1, 1] = dataset.train[:, 0, 1]  # the same heights: no slope along y is worth anything
    task = make_task(linear((-0.2, 0.1)), "w1", {"name": "lp", "coefficient": 50.0}, dataset)
    for _ in range(400):
        values = task.training_step(dataset.train)
    assert task.critic[0].weight[0, 0].item() == pytest.approx(-(1 + theta / 100), rel=1e-3)
    assert values["train/w1"].item() == pytest.approx(theta + theta**2 / 100, rel=1e-3)


def slopes(critic: nn.Module, samples: Tensor) -> Tensor:
    """‖∇C‖² of each sample, one by one."""
    squares = []
    for sample in samples:
        point = sample[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(point)[0], point, create_graph=True)
        squares.append((gradient**2).sum())
    return torch.stack(squares)


OBJECTIVES = {
    "w1": lambda p, q: q.mean() - p.mean(),
    "jsd": lambda p, q: (cross_entropy(p, torch.ones_like(p)) + cross_entropy(q, torch.zeros_like(q))) / 2,
    "hinge": lambda p, q: (1 - p).clamp(min=0).mean() + (1 + q).clamp(min=0).mean(),
    "squared_hellinger": lambda p, q: (-p).exp().mean() + q.exp().mean(),
    "relativistic": lambda p, q: (1 + (q - p).exp()).log().mean(),
}


@pytest.mark.parametrize("loss", OBJECTIVES)
@pytest.mark.parametrize("name", ["none", "r1", "r1r2", "gp"])
def test_gradients_are_those_of_the_objective_by_hand(loss: str, name: str) -> None:
    model = smooth()
    coefficient = 0.0 if name == "none" else 3.0
    regularizer = {"name": name} if name == "none" else {"name": name, "coefficient": coefficient}
    task = make_task(copy.deepcopy(model), loss, regularizer)
    p, q = task.dataset.train[:, 0], task.dataset.train[:, 1]
    torch.manual_seed(5)
    values = task.training_step(task.dataset.train)
    torch.manual_seed(5)
    penalty = torch.zeros(())
    if name in ("r1", "r1r2"):
        penalty = slopes(model.critic, p).mean()
    if name == "r1r2":
        penalty = penalty + slopes(model.critic, q).mean()
    if name == "gp":
        epsilon = torch.rand(len(p), 1, dtype=p.dtype)
        penalty = ((slopes(model.critic, epsilon * p + (1 - epsilon) * q).sqrt() - 1) ** 2).mean()
    (OBJECTIVES[loss](model.critic(p), model.critic(q)) + coefficient * penalty).backward()
    for ours, theirs in zip(task.critic.parameters(), model.critic.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(ours, theirs - LR * theirs.grad, rtol=1e-9, atol=1e-11)  # type: ignore[operator]
    symbol = task.loss.symbol
    metric = task.loss.metric(model.critic(p), model.critic(q)).item()
    assert values[f"train/{symbol}"].item() == pytest.approx(metric, rel=1e-9)
    assert ("train/penalty" in values) == (name != "none")
    if name != "none":
        assert values["train/penalty"].item() == pytest.approx(penalty.item(), rel=1e-9)


def test_traced_and_eager_training_agree(fresh_tracer: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyTorch traces objective, penalty and gradients into one graph; no code is generated."""
    monkeypatch.setattr("torch.compile", functools.partial(torch.compile, backend="aot_eager"))
    tasks = []
    for compiled in (False, True):
        task = make_task(smooth(), "w1", {"name": "gp", "coefficient": 50.0}, compile=compiled)
        for seed in range(5):
            torch.manual_seed(seed)
            values = task.training_step(task.dataset.train[: 12 if seed < 4 else 5])
            assert values["train/penalty"] > 0
        tasks.append(task)
    for eager, traced in zip(*(task.critic.parameters() for task in tasks), strict=True):
        torch.testing.assert_close(traced, eager, rtol=1e-9, atol=1e-11)


def test_state_dict_round_trip() -> None:
    make = lambda: make_task(smooth(), "jsd", {"name": "r1"})  # noqa: E731
    whole, resumed = make(), make()
    for _ in range(3):
        whole.training_step(whole.dataset.train)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for task in (whole, resumed):
        task.training_step(task.dataset.train)
    assert all(torch.equal(a, b) for a, b in zip(whole.critic.parameters(), resumed.critic.parameters(), strict=True))


# --- judging -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "prefix"), [("valid", "eval"), ("test", "test")])
def test_the_estimate_of_a_linear_critic(split: str, prefix: str) -> None:
    task = make_task(linear((-0.8, 0.5), 2.0))
    rows = task.dataset.split(split)
    difference = rows[:, 0].mean(0) - rows[:, 1].mean(0)
    expected = -0.8 * difference[0].item() + 0.5 * difference[1].item()
    measured = task.evaluate(split)
    assert values_of(measured) == {
        f"{prefix}/w1": pytest.approx(expected, rel=1e-6),
        "theory/w1": 1.5,
        f"{prefix}/error": pytest.approx(1.5 - expected, rel=1e-6),
    }
    assert measured[f"{prefix}/w1"].truth == 1.5
    assert measured[f"{prefix}/error"].protocol == {"divergence": "w1"}  # errors of two divergences are not compared


@pytest.mark.parametrize(
    ("loss", "theta", "critic", "known"),
    [
        ("w1", 1.5, (-1.0, 0.0), 1.5),  # slope −1 along x
        ("w1", 0.0, (-1.0, 0.0), 0.0),
        ("jsd", 0.5, (-400.0, 100.0), math.log(2)),  # +100 on p, −100 on q
        ("nonsaturating", 0.5, (-400.0, 100.0), math.log(2)),
        ("total_variation", 0.5, (-400.0, 100.0), 1.0),
        ("squared_hellinger", 0.5, (-400.0, 100.0), 2.0),
        ("hinge", 0.5, (-4.0, 1.0), 1.0),  # ±1
        ("jsd", 0.0, (0.0, 0.0), 0.0),
        ("hinge", 0.0, (0.0, 0.0), 0.0),
        ("squared_hellinger", 0.0, (0.0, 0.0), 0.0),
        ("total_variation", 0.0, (0.0, 0.0), 0.0),
    ],
)
def test_the_best_critic_finds_the_truth(loss: str, theta: float, critic: tuple[float, float], known: float) -> None:
    """Critics that are known to be optimal: the error beside the theory vanishes."""
    task = make_task(linear((critic[0], 0.0), critic[1]), loss, dataset=segments(theta))
    measured = task.evaluate("test")
    values, symbol = values_of(measured), task.loss.symbol
    assert measured[f"test/{symbol}"].truth == values[f"theory/{symbol}"]
    assert values[f"theory/{symbol}"] == pytest.approx(known)
    assert values[f"test/{symbol}"] == pytest.approx(known, abs=1e-6)
    assert values["test/error"] < 1e-6


@pytest.mark.parametrize("loss", ["kl", "reverse_kl", "pearson_chi2", "relativistic"])
def test_no_theory_where_the_divergence_is_infinite_or_unknown(loss: str) -> None:
    task = make_task(smooth(), loss)
    measured = task.evaluate("valid")
    assert measured.keys() == {f"eval/{loss}"}
    assert measured[f"eval/{loss}"].truth is None


def test_judging_leaves_everything_alone() -> None:
    torch.manual_seed(0)
    model = Critics(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    task = make_task(model, "w1", {"name": "sn"})
    state, noise = copy.deepcopy(task.critic.state_dict()), torch.get_rng_state()
    assert task.evaluate("valid") == task.evaluate("valid")  # no dropout
    assert all(torch.equal(value, state[key]) for key, value in task.critic.state_dict().items())
    assert torch.equal(torch.get_rng_state(), noise)
    assert all(module.training for module in task.critic.modules())


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not compute in bf16"):
        make_task(smooth(), precision="bf16")
    with pytest.raises(ConfigError, match="computes the penalty at every update"):
        make_task(smooth(), regularizer={"name": "r1", "coefficient": 1.0, "every": 3})
    with pytest.raises(ConfigError, match="Dataset has no theta"):
        rows = torch.zeros(4, 2, 2)
        make_task(smooth(), dataset=Dataset("points", rows, rows, rows, as_stored, False, {}))
    with pytest.raises(ConfigError, match="MlpVae has no critic"):
        make_task(MlpVae((1, 1, 4), latent_dim=2, width=4, depth=1))
    with pytest.raises(ConfigError, match="ELBO has no metric, critic_loss"):
        make_task(smooth(), "elbo")


# --- the picture of a sweep ----------------------------------------------------------------------------------


@dataclass
class Run:
    """A finished run (engine.task.FinishedRun) that logged nothing but what a sweep needs."""

    config: dict[str, Any]
    metrics: dict[str, dict[str, Any]]

    def value(self, metric: str) -> float:
        return self.metrics[metric]["final"]["value"] if metric in self.metrics else math.nan

    def task(self) -> Any:
        raise AssertionError("the picture needs no networks")


def run(theta: float, values: dict[str, float]) -> Run:
    config = {"dataset": {"name": "lines", "theta": theta}}
    return Run(config, {name: {"final": {"value": value, "step": 1}} for name, value in values.items()})


def finished(theta: float, **metrics: float) -> Run:
    known = {f"theory/{symbol}": truth(symbol, theta) for symbol in metrics}
    values = {f"test/{symbol}": value for symbol, value in metrics.items()}
    return run(theta, values | {name: value for name, value in known.items() if value is not None})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the figure is given."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(divergence, "divergence_curve", lambda *arguments: calls.append(arguments) or arguments)  # type: ignore[func-returns-value]
    return calls


def test_a_sweep_is_one_row_a_seed_and_one_column_a_theta(drawn: list[tuple[Any, ...]]) -> None:
    """In whatever order the runs come: columns ascend, and equal ranks of different θ share a row."""
    runs = [
        finished(2.0, w1=2.1),
        finished(0.0, w1=0.01),
        finished(2.0, w1=2.2),
        finished(0.5, w1=0.51),
        finished(0.0, w1=0.02),
        finished(0.5, w1=0.52),
    ]
    figures = Divergence.sweep_figures(runs)
    assert figures.keys() == {"w1"}
    ((thetas, rows, truths, limit, name, title),) = drawn
    assert list(thetas) == [0.0, 0.5, 2.0]
    assert [list(row) for row in rows] == [[0.01, 0.51, 2.1], [0.02, 0.52, 2.2]]
    assert (truths, limit, name) == ([0.0, 0.5, 2.0], 0.0, "W1")
    assert title == "W1 between two segments at distance θ"


@pytest.mark.parametrize(("key", "refused"), [("log_every", False), ("threads", False), ("batch_size", True)])
def test_runs_of_one_curve_learn_alike(drawn: list[tuple[Any, ...]], key: str, refused: bool) -> None:
    """How often a run logs does not matter; what its critic learns from does."""
    runs = [finished(theta, w1=theta) for theta in (0.0, 1.0)]
    runs[1].config["trainer"] = {key: 512}
    if refused:
        with pytest.raises(ConfigError, match="differ in more than"):
            Divergence.sweep_figures(runs)
    else:
        assert Divergence.sweep_figures(runs).keys() == {"w1"}


@pytest.mark.parametrize(
    ("key", "one", "other", "refused"),
    [
        ("loss", {"name": "hinge"}, {"name": "total_variation"}, True),  # lower bounds of the same divergence
        ("critic_optimizer", None, {"name": "sgd", "lr": 0.1}, True),
        ("critic_optimizer", None, {"name": "adam", "lr": 0.1}, False),  # as the other critic's, by another name
    ],
)
def test_runs_of_one_curve_have_one_loss_and_one_optimizer_of_the_critic(
    drawn: list[tuple[Any, ...]], key: str, one: Any, other: Any, refused: bool
) -> None:
    """Else two estimates would be drawn as two seeds of one."""
    runs = [finished(theta, total_variation=0.5) for theta in (0.0, 0.0, 1.0, 1.0)]
    for number, run in enumerate(runs):
        run.config |= {"optimizer": {"name": "adam", "lr": 0.1}, key: other if number % 2 else one}
    if refused:
        with pytest.raises(ConfigError, match="differ in more than"):
            Divergence.sweep_figures(runs)
    else:
        assert Divergence.sweep_figures(runs).keys() == {"total_variation"}


def test_a_truth_that_jumps_is_drawn_with_its_jump(drawn: list[tuple[Any, ...]]) -> None:
    Divergence.sweep_figures([finished(theta, squared_hellinger=theta) for theta in (0.0, 1.0, 3.0)])
    ((_, _, truths, limit, name, _),) = drawn
    assert (truths, limit, name) == ([0.0, 2.0, 2.0], 2.0, divergence_name("squared_hellinger"))


def test_every_divergence_has_a_picture_of_its_own(drawn: list[tuple[Any, ...]]) -> None:
    runs = [finished(theta, **{symbol: 0.1}) for theta in (0.5, 1.0) for symbol in ("w1", "jsd", "kl")]
    assert Divergence.sweep_figures(runs).keys() == {"w1", "jsd"}  # no truth is known of KL
    assert all(list(call[0]) == [0.5, 1.0] for call in drawn)


def test_no_estimate_is_left_out_where_seeds_are_unequally_many() -> None:
    runs = [finished(0.5, w1=1.0), finished(0.5, w1=2.0), finished(0.5, w1=math.inf), finished(1.0, w1=3.0)]
    (axes,) = Divergence.sweep_figures(runs)["w1"].axes
    (bars,) = axes.containers
    assert bars.get_label() == "estimate: mean and range of 1 to 3 seeds"
    assert bars.lines[0].get_xydata().tolist() == [[0.5, 1.5], [1.0, 3.0]]
    notes = {text.get_text() for text in axes.texts}
    assert notes == {f"mean absolute error {(0.5 + 1.5 + 2.0) / 3:.3g}", "1 of 4 estimates not finite"}


def test_runs_without_a_final_estimate_do_not_spoil_the_picture() -> None:
    """A run that diverged has a summary, its theory in it, and no test."""
    diverged = run(1.5, {"theory/w1": 1.5, "eval/w1": 1e9})
    runs = [finished(0.5, w1=0.5), diverged, finished(1.0, w1=1.0), finished(2.0, w1=2.0)]
    assert Divergence.sweep_figures(runs).keys() == {"w1"}


def test_one_theta_is_no_sweep() -> None:
    assert Divergence.sweep_figures([finished(1.0, w1=1.0), finished(1.0, w1=1.1)]) == {}
    assert Divergence.sweep_figures([]) == {}


def test_the_picture_itself() -> None:
    (figure,) = Divergence.sweep_figures([finished(theta, jsd=0.6) for theta in (0.0, 1.0)]).values()
    (axes,) = figure.axes
    assert figure.get_suptitle() == "JSD between two segments at distance θ"
    assert axes.get_ylabel() == "JSD"


# --- the data and what is known of them ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored() -> ParallelLines:
    return lines(Path("nowhere"), theta=0.75)


def test_shapes(stored: ParallelLines) -> None:
    assert stored.train.shape == (262_144, 2, 2)
    assert stored.valid.shape == stored.test.shape == (10_000, 2, 2)
    assert stored.shape == (2,)
    assert stored.theta == 0.75
    assert stored.train.dtype == torch.float32
    assert stored.to_float(stored.test) is stored.test
    assert stored.protocol["theta"] == "0.75"
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_marginals(stored: ParallelLines, split: str) -> None:
    """x is 0 and θ exactly; y is uniform on [0, 1] (Kolmogorov–Smirnov) and independent between p and q."""
    rows = stored.split(split).double()
    p, q = rows.unbind(1)
    assert (p[:, 0] == 0).all()
    assert (q[:, 0] == 0.75).all()
    count = len(rows)
    quantiles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    for y in (p[:, 1], q[:, 1]):
        assert 0 <= y.min() < 0.001 and 0.999 < y.max() < 1
        assert (y.sort().values - quantiles).abs().max() < 1.63 / math.sqrt(count)  # the 1 % point
    assert abs(torch.corrcoef(torch.stack([p[:, 1], q[:, 1]]))[0, 1]) < 3 / math.sqrt(count)


def test_splits_differ_and_are_the_same_each_time(stored: ParallelLines) -> None:
    heights = [stored.split(split)[:10_000, :, 1] for split in ("train", "valid", "test")]
    for k, one in enumerate(heights):
        for other in heights[:k]:
            assert (one == other).double().mean() < 1e-3
    torch.manual_seed(77)
    noise = torch.get_rng_state()
    again = lines(Path("nowhere"), theta=0.75)
    assert torch.equal(torch.get_rng_state(), noise)
    assert torch.equal(again.train, stored.train) and torch.equal(again.test, stored.test)
    other = lines(Path("nowhere"), theta=2.0)
    assert torch.equal(other.test[:, :, 1], stored.test[:, :, 1])  # the same heights at another distance
    assert (other.test[:, 1, 0] == 2).all()


def test_moving_keeps_the_distance(stored: ParallelLines) -> None:
    moved = stored.to(torch.device("cpu"))
    assert isinstance(moved, ParallelLines)
    assert (moved.theta, moved.shape) == (0.75, (2,))


def grid_divergences(theta: float) -> dict[str, float]:
    """Of the segments cut into cells, from the definitions: sums over the two supports."""
    supports = {(0.0, k) for k in range(10)} | {(theta, k) for k in range(10)}
    p = {cell: 0.1 * (cell[0] == 0.0) for cell in supports}
    q = {cell: 0.1 * (cell[0] == theta) for cell in supports}

    def to_mixture(a: dict[tuple[float, int], float]) -> float:
        return sum(a[c] * math.log(a[c] / ((p[c] + q[c]) / 2)) for c in supports if a[c])

    variation = sum(abs(p[c] - q[c]) for c in supports) / 2
    return {
        "squared_hellinger": sum((math.sqrt(p[c]) - math.sqrt(q[c])) ** 2 for c in supports),
        "jsd": (to_mixture(p) + to_mixture(q)) / 2,
        "total_variation": variation,
        "w1": theta,  # every cell moves by θ, and none can move by less: C = −x has slope 1
    }


@pytest.mark.parametrize("theta", [0.0, 1e-6, 0.5, 3.0])
def test_truth_is_that_of_segments_cut_into_cells(theta: float) -> None:
    for symbol, value in grid_divergences(theta).items():
        assert truth(symbol, theta) == pytest.approx(value, abs=1e-12)


def test_no_truth_is_made_up() -> None:
    for symbol in ("kl", "reverse_kl", "pearson_chi2", "relativistic", "fid"):
        assert truth(symbol, 0.5) is None
    symbols = {loss.symbol for loss in FDivergence.__subclasses__()}
    known = {symbol for symbol in symbols if truth(symbol, 0.5) is not None}
    assert known == {"squared_hellinger", "total_variation"}


def test_a_sweep_over_more_than_theta_ends_well_without_a_picture(
    genbench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("experiment=divergence-w1", "trainer.max_steps=2")
    assert genbench("-m", *words, "regularizer.coefficient=10,50") == 0
    assert "no picture   these runs differ in more than θ and seed" in capsys.readouterr().out
    assert genbench("-m", *words, "dataset.theta=0,1") == 0
    assert (tmp_path / "outputs" / "divergence-w1" / "sweep-w1.png").is_file()


def test_a_sweep_of_two_divergences_draws_both(drawn: list[tuple[Any, ...]]) -> None:
    """Each with settings of its own, as in a sweep over experiments."""
    runs = [finished(theta, w1=theta) for theta in (0.0, 1.0)]
    others = [finished(theta, squared_hellinger=theta) for theta in (0.0, 1.0)]
    for run in others:
        run.config["trainer"] = {"batch_size": 512}
    assert Divergence.sweep_figures([*runs, *others]).keys() == {"w1", "squared_hellinger"}


@pytest.mark.parametrize("loss", ["w1", "jsd", "squared_hellinger", "total_variation"])
def test_the_error_of_an_estimate_is_its_spread_over_other_pairs(loss: str) -> None:
    model, found = smooth(), []
    for seed in range(300):
        generator = torch.Generator().manual_seed(seed)
        y = torch.rand(50, 2, generator=generator, dtype=torch.float64)
        rows = torch.stack([torch.tensor([0.0, 1.5], dtype=torch.float64).expand(50, 2), y], dim=2)
        data = ParallelLines("lines", rows, rows, rows, as_stored, False, {}, theta=1.5)
        found.append(make_task(model, loss, dataset=data).evaluate("test")[f"test/{loss}"])
    spread = torch.tensor([one.value for one in found]).std()
    told = torch.tensor([one.standard_error or math.nan for one in found]).mean()
    assert told == pytest.approx(spread.item(), rel=0.15)


@pytest.mark.parametrize("loss", ["jsd", "squared_hellinger", "total_variation"])
def test_a_bound_above_the_divergence_is_impossible(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every critic's estimate is a lower bound, but not that of W1: a critic that is too steep exceeds it."""

    def judged(loss: str) -> Measurement:
        return make_task(linear((-20.0, 0.1), 15.0), loss).evaluate("test")[f"test/{loss}"]

    assert not judged(loss).impossible and not judged("w1").impossible
    assert judged("w1").value > 10 * 1.5
    cls = type(make_task(linear((0.0, 0.0)), loss).loss)
    metric = cls.metric
    monkeypatch.setattr(cls, "metric", lambda self, real, fake: metric(self, real, fake) + 0.5)  # a wrong constant
    assert judged(loss).impossible
