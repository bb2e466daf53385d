"""The Dirac-GAN: the adversarial game of three parameters, recorded step by step and held against its theory."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genbench.engine.device import double, float64_device
from genbench.engine.measurement import Family, Measurement, Quantity
from genbench.engine.task import FinishedRun, Record, Stage, alike, differing
from genbench.figures.dirac import Pair, animate, pairs_page
from genbench.figures.dirac import trajectory as draw_trajectory
from genbench.figures.style import divergence_name
from genbench.losses.jsd import JensenShannon
from genbench.losses.w1 import Wasserstein1
from genbench.metrics import dirac as theory
from genbench.metrics.dirac_run import SETTLED, judge_average, judge_limit_cycle
from genbench.naming import natural
from genbench.registry import lookup, register
from genbench.regularizers.base import NoRegularizer, Regularizer
from genbench.regularizers.gp import GradientPenalty
from genbench.regularizers.r1 import R1
from genbench.tasks.base import Parts, require, require_float32
from genbench.tasks.gan.adversarial import Adversarial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DiracGame"]

# (ψ0, ψ1, θ), near enough to the equilibrium for the game to be linear; the bias ψ1 decouples and is probed alone.
PROBE_START = (1e-4, 0.0, 1.5e-4)
BIAS_PROBE_START = (0.0, 1e-4, 0.0)
PROBE_STEPS = 40

CLOSED_FORM = "closed form"
TITLED = ("name", "task.ema", "regularizer.name", "regularizer.coefficient")
"""Settings that a row's title tells in words of its own, or that are the same in a row."""

ROWS = 20  # pairs of games on a page: its pixels take 70 MB
BLOCK = 1024  # points of the trajectory that are recorded in one tensor


@register("task", "dirac")
class DiracGame(Adversarial):
    """Records (ψ0, ψ1, θ, θ̃) after every round; θ̃ is the averaged generator, or θ itself without averaging."""

    family = Family("Dirac-GANs")
    quantities: Sequence[Quantity] = (
        Quantity("eval/distance", "distance to the equilibrium", better="lower"),
        Quantity(
            "eval/multiplier_error", "largest error of the multipliers μ", better="lower", truth_label=CLOSED_FORM
        ),
        Quantity("eval/multiplier_modulus", "modulus of the multiplier |μ|", decimals=7, truth_label=CLOSED_FORM),
        Quantity("eval/conserved_drift", "drift of the conserved quantity", better="lower", truth_label=CLOSED_FORM),
        Quantity("eval/limit_cycle", "|θ| where the cycle crosses ψ0 = 0", decimals=4, truth_label=CLOSED_FORM),
        Quantity(
            "eval/ema_gain", "share of θ’s oscillation that the average keeps", decimals=5, truth_label=CLOSED_FORM
        ),
    )
    cover = "figures/trajectory-end.png"

    def __init__(self, parts: Parts, **settings: Any) -> None:
        require_float32(parts, "dirac")
        super().__init__(parts, **settings)
        require(self.critic, "model", "dirac", "psi")
        require(self.generator, "model", "dirac", "theta")
        self.quantities = type(self).quantities  # the players are judged, not their divergence
        symbol = self.loss.symbol
        self.curves = {
            "critic slope ψ0 vs. generator θ": ["state/psi0", "state/theta"],
            f"{divergence_name(symbol)} vs. distance to the equilibrium": [f"train/{symbol}", "eval/distance"],
        }
        self._start_recording(self._point().unsqueeze(0))

    def _point(self) -> Tensor:
        average: Any = self.average.network if self.average else self.generator
        return torch.cat([self.critic.psi, self.generator.theta, average.theta]).detach()

    def _start_recording(self, points: Tensor) -> None:
        """Record what comes after these points, [N, 4]."""
        self._full = [points]
        # A captured step writes to the same tensors at every call: a block of points, and where in it the next goes.
        self._block = points.new_empty(BLOCK, 4)
        self._next = torch.zeros(1, dtype=torch.long, device=self.parts.device)
        self._in_block = 0

    def prepare_step(self) -> tuple[bool, ...]:
        if self._in_block == BLOCK:
            self._full.append(self._block.clone())
            self._in_block = 0
        self._next.fill_(self._in_block)
        self._in_block += 1
        return super().prepare_step()

    def training_step(self, batch: Tensor, *labels: Tensor) -> dict[str, Tensor]:
        values = super().training_step(batch, *labels)
        self._block.index_copy_(0, self._next, self._point().unsqueeze(0))
        return values

    def _points(self) -> Tensor:
        return torch.cat([*self._full, self._block[: self._in_block]])

    @property
    def trajectory(self) -> NDArray[np.float64]:
        """[steps + 1, 4]: ψ0, ψ1, θ, θ̃ at the start and after every round."""
        return double(self._points()).cpu().numpy()

    @property
    def shown(self) -> NDArray[np.float64]:
        """[steps + 1, 3]: ψ0, ψ1 and the generator that is judged, θ̃ with averaging and θ without."""
        return self.trajectory[:, [0, 1, 3]]

    def distance(self, point: NDArray[np.float64]) -> float:
        """From the players (ψ0, ψ1, θ, θ̃), averaging aside, to the equilibrium set."""
        psi0, psi1, theta, *_ = point
        return float(np.linalg.norm([psi0, psi1 - np.clip(psi1, *self.loss.resting), theta]))

    def evaluate(self, split: str) -> dict[str, Measurement]:
        point = double(self._point()).cpu().numpy()
        psi0, psi1, _, theta = point.tolist()
        values = {
            "state/psi0": Measurement(psi0),
            "state/psi1": Measurement(psi1),
            "state/theta": Measurement(theta),
            "eval/distance": Measurement(self.distance(point)),
        }
        return values | (self._judge() if split == "test" else {})

    def _judge(self) -> dict[str, Measurement]:
        """What is measured on the run itself and on the linearized game, beside what the theory predicts."""
        trajectory = self.trajectory
        start, end = self.distance(trajectory[0]), self.distance(trajectory[-1])
        values = {"eval/distance_ratio": Measurement(end / start)} if start else {}
        if not self._takes_plain_gradient_steps() or type(self.loss) not in (JensenShannon, Wasserstein1):
            return values  # the theory knows plain gradient steps alone, and these losses
        long_run: dict[str, Measurement] = {}
        match self.regularizer:
            case Regularizer(every=every) if every > 1:
                pass  # nor lazy penalties
            case NoRegularizer():
                values |= self._multipliers(0.0)
                if self.ema:
                    long_run |= judge_average(trajectory, self.ema, self._rules(0.0))
                if self._conserves():
                    values["eval/conserved_drift"] = Measurement(self._conserved_drift(trajectory), truth=0.0)
            case R1(coefficient=coefficient):
                values |= self._multipliers(coefficient)
            case GradientPenalty(coefficient=coefficient):
                long_run |= judge_limit_cycle(trajectory[:, :3], self._rules(coefficient))
        return values | {f"eval/{name}": measurement for name, measurement in long_run.items()}

    def _takes_plain_gradient_steps(self) -> bool:
        optimizers = (self.critic_optimizer, self.generator_optimizer)
        return all(
            isinstance(optimizer, torch.optim.SGD)
            and not group["momentum"]
            and not group["weight_decay"]
            and not {"updates", "max_norm"} & set(group)  # its learning rate changes, its gradients are clipped
            for optimizer in optimizers
            for group in optimizer.param_groups
        )

    def _conserves(self) -> bool:
        """Only W1 with single alternating steps of one size keeps a quadratic form exactly."""
        critic_rate, generator_rate = self._learning_rates()
        single = self.updates == "alternating" and self.batches_per_step == 1
        return self.loss.symbol == "w1" and single and critic_rate == generator_rate

    def _conserved_drift(self, trajectory: NDArray[np.float64]) -> float:
        """Largest relative change of the quantity that alternating steps of one size conserve."""
        conserved = theory.conserved_quantity(trajectory[:, :3], self._learning_rates()[0])
        return float(np.abs(conserved / conserved[0] - 1).max())

    def _multipliers(self, coefficient: float) -> dict[str, Measurement]:
        predicted = theory.multipliers(self._rules(coefficient))
        measured = theory.fit_multipliers(self.probe(PROBE_START)[:, [0, 2]])
        bias = self.probe(BIAS_PROBE_START)[:, 1]
        bias_truth = theory.bias_multiplier(self.loss.symbol, self._learning_rates()[0], self.batches_per_step)
        true, found = predicted[-1], measured[-1]
        error = max(abs(p - m) for p, m in zip(predicted, measured, strict=True))
        return {
            "eval/bias_multiplier": Measurement(theory.fit_bias_multiplier(bias), truth=bias_truth),
            "eval/multiplier_real": Measurement(found.real, truth=true.real),
            "eval/multiplier_imag": Measurement(found.imag, truth=true.imag),
            "eval/multiplier_modulus": Measurement(abs(found), truth=abs(true)),
            "eval/multiplier_error": Measurement(error, truth=0.0),
        }

    def _rules(self, coefficient: float) -> theory.Rules:
        simultaneous = self.updates == "simultaneous"
        rates = self._learning_rates()
        return theory.Rules(self.loss.symbol, coefficient, *rates, self.batches_per_step, simultaneous)

    def notes(self, final: Mapping[str, float]) -> list[str]:
        """What must be said of a limit cycle that was read before it had settled."""
        unsettled = final.get("eval/limit_cycle_unsettled", 0.0)
        if unsettled < SETTLED:
            return []
        return [
            f"the limit cycle has not settled: |θ| where it crosses ψ0 = 0 may still move by {unsettled:.1%}; for the"
            " settled one, play on with a larger trainer.max_steps"
        ]

    def _learning_rates(self) -> tuple[float, float]:
        return tuple(o.param_groups[0]["initial_lr"] for o in (self.critic_optimizer, self.generator_optimizer))

    def probe(self, point: tuple[float, float, float]) -> NDArray[np.float64]:
        """The same game in float64 from a point near the equilibrium: its trajectory [PROBE_STEPS + 1, 3]."""
        where = float64_device(self.parts.device)
        model = copy.deepcopy(self.parts.model).to(where).double().requires_grad_(True)
        with torch.no_grad():
            start = torch.tensor(point, dtype=torch.float64, device=where)
            model.critic.psi.copy_(start[:2])
            model.generator.theta.copy_(start[2:])
        dataset = replace(self.dataset, train=double(self.dataset.train))
        game = DiracGame(
            replace(self.parts, model=model, dataset=dataset, device=where),
            critic_steps=self.batches_per_step,
            updates=self.updates,
        )
        for _ in range(PROBE_STEPS):
            game.prepare_step()
            game.training_step(dataset.train.repeat(self.batches_per_step, 1))
        return game.trajectory[:, :3]

    def figures(self, stage: Stage, record: Record) -> dict[str, Figure]:
        return {"trajectory": self.draw(record.title)} if stage == "end" else {}

    @staticmethod
    def sweep_figures(runs: Sequence[FinishedRun]) -> dict[str, Figure]:
        """Games that differ in nothing but the generator's average, side by side; a page for each loss."""
        games: dict[str, dict[float | None, FinishedRun]] = {}
        for run in sorted(runs, key=lambda run: natural(run.config["name"])):
            games.setdefault(alike(run, "name", "task.ema"), {}).setdefault(run.config["task"]["ema"], run)
        complete: dict[str, list[dict[bool, FinishedRun]]] = {}
        for by_decay in games.values():
            if (plain := by_decay.pop(None, None)) is not None and by_decay:
                loss: Any = lookup("loss", plain.config["loss"]["name"])
                averaged = sorted(by_decay.values(), key=lambda run: float(run.config["task"]["ema"]))
                complete.setdefault(loss.symbol, []).extend({False: plain, True: run} for run in averaged)
        figures = {}
        for symbol, found in complete.items():
            of_all = f", {ROWS} of {len(found):,} pairs" if len(found) > ROWS else ""
            title = f"Dirac-GAN, {divergence_name(symbol)}{of_all}"
            shown = found[:ROWS]
            others = differing([pair[False] for pair in shown], TITLED)
            rows = [_row(pair, other) for pair, other in zip(shown, others, strict=True)]
            figures[f"dirac-{symbol}"] = pairs_page(rows, title)
        return figures

    def draw(self, title: str) -> Figure:
        name = divergence_name(self.loss.symbol)
        return draw_trajectory(self.shown, name, title, self.loss.resting, self.average is not None)

    def animate(self, path: Path, title: str) -> None:
        """Write the trajectory's animation as a GIF."""
        name = divergence_name(self.loss.symbol)
        animate(self.shown, path, name, title, self.loss.resting, self.average is not None)

    def load_weights(self, weights: Mapping[str, Mapping[str, Any]]) -> None:
        super().load_weights(weights)
        self._start_recording(self._point().unsqueeze(0))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"trajectory": self._points()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._start_recording(state["trajectory"].to(self.parts.device))


def _row(pair: Mapping[bool, FinishedRun], other: Sequence[str]) -> Pair:
    """A game without and with the generator's average; `other`: further words for its title."""
    left, right, regularizer = pair[False].task(), pair[True].task(), pair[False].config["regularizer"]
    coefficient = f" {regularizer['coefficient']:g}" if "coefficient" in regularizer else ""
    kind = "no regularizer" if regularizer["name"] == "none" else f"{regularizer['name'].upper()}{coefficient}"
    name = divergence_name(left.loss.symbol)
    decay: float = pair[True].config["task"]["ema"]
    return Pair(", ".join([name, kind, *other]), left.shown, right.shown, name, left.loss.resting, decay)
