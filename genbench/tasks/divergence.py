"""Divergence estimation: a critic alone, between two given distributions whose divergence is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from genbench.data.lines import ParallelLines
from genbench.engine.device import double
from genbench.engine.measurement import Family, Measurement, Quantity, mean_over
from genbench.engine.task import FinishedRun, Task
from genbench.errors import ConfigError
from genbench.figures.divergences import divergence_curve
from genbench.figures.style import divergence_name
from genbench.metrics.lines import DISJOINT, truth
from genbench.registry import register
from genbench.tasks.base import Parts, require, require_float32

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Divergence"]


@register("task", "divergence")
class Divergence(Task):
    """The critic's half of the adversarial game on rows [2, D], a sample of p and one of q.

    `compile` runs objective, penalty and gradients as one compiled graph.
    """

    family = Family("Divergence estimation")

    def __init__(self, parts: Parts, *, compile: bool = False) -> None:
        require(parts.model, "model", "divergence", "critic")
        require(parts.loss, "loss", "divergence", "metric", "critic_loss")
        require(parts.dataset, "dataset", "divergence", "theta")
        require_float32(parts, "divergence")
        if parts.regularizer.every > 1:
            raise ConfigError("task=divergence computes the penalty at every update", "set regularizer.every=1")
        self.parts = parts
        self.critic, self.loss, self.regularizer = parts.model.critic, parts.loss, parts.regularizer
        self.dataset = cast(ParallelLines, parts.dataset)
        self.regularizer.prepare(self.critic)
        self.optimizer = parts.make_critic_optimizer(self.critic.parameters())
        self.truth = truth(self.loss.symbol, self.dataset.theta)
        symbol, name = self.loss.symbol, divergence_name(self.loss.symbol)
        self.quantities = (
            Quantity("test/error", f"absolute error of the {name}", better="lower", decimals=4),
            Quantity(f"test/{symbol}", f"estimate of the {name}", decimals=4),
        )
        self.curves = {f"{name} vs. its truth": [f"eval/{symbol}", f"theory/{symbol}"]}
        self._gradients = parts.gradients(self._objective, self.critic, compile)

    def _objective(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        p, q = rows.unbind(1)
        p_scores, q_scores = self.critic(rows.flatten(0, 1)).view(-1, 2).unbind(1)
        loss = self.loss.critic_loss(p_scores, q_scores)
        values = {f"train/{self.loss.symbol}": self.loss.metric(p_scores, q_scores)}
        if self.regularizer.has_penalty:
            values["train/penalty"] = self.regularizer.penalty(self.critic, p, q)
            loss = loss + self.regularizer.coefficient * values["train/penalty"]
        return loss, values

    def training_step(self, batch: Tensor) -> dict[str, Tensor]:
        values = self._gradients(self.dataset.to_float(batch))
        self.optimizer.step()
        return values

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, Measurement]:
        """The estimate on all of `split`, without the penalty, beside the truth where there is one."""
        p, q = self.dataset.to_float(self.dataset.split(split)).unbind(1)
        self.critic.eval()
        p_scores, q_scores = self.critic(p), self.critic(q)
        self.critic.train()
        # The estimate is linear in both samples, so it is the mean over its values for one pair each.
        spread = mean_over(double(torch.vmap(self.loss.metric)(p_scores[:, None], q_scores[:, None]))).standard_error
        found = Measurement(self.loss.metric(p_scores, q_scores).item(), spread, self.truth)
        if self.loss.symbol in DISJOINT:  # from below, by every critic; a critic that is too steep exceeds W1
            found = replace(found, greatest=self.truth)
        prefix = "eval" if split == "valid" else "test"
        values = {f"{prefix}/{self.loss.symbol}": found}
        if self.truth is not None:
            error = Measurement(abs(found.value - self.truth), spread, protocol={"divergence": self.loss.symbol})
            values |= {f"theory/{self.loss.symbol}": Measurement(self.truth), f"{prefix}/error": error}
        return values

    @staticmethod
    def sweep_figures(runs: Sequence[FinishedRun]) -> dict[str, Figure]:
        """The estimates of many runs over θ, by divergence.

        Raises ConfigError for runs of one divergence that differ in more than θ and the seed.
        """
        found: dict[str, dict[float, list[float]]] = {}
        settings: dict[str, str] = {}
        for run in runs:
            for symbol in (name.removeprefix("theory/") for name in run.metrics if name.startswith("theory/")):
                if settings.setdefault(symbol, _settings(run.config)) != _settings(run.config):
                    raise ConfigError(
                        "these runs differ in more than θ and seed", "draw runs of one setting together"
                    )
                estimates = found.setdefault(symbol, {}).setdefault(run.config["dataset"]["theta"], [])
                estimates.append(run.value(f"test/{symbol}"))
        return {symbol: _curve(symbol, estimates) for symbol, estimates in found.items() if len(estimates) > 1}

    def state_dict(self) -> dict[str, Any]:
        return {"critic": self.critic.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])


def _settings(config: dict[str, Any]) -> str:
    """All of a configuration that runs on one curve have in common: what decides what the critic learns."""
    common = {key: config.get(key) for key in ("task", "model", "loss", "regularizer")}
    common["optimizer"] = config.get("critic_optimizer") or config.get("optimizer")  # of the critic
    length = {key: config.get("trainer", {}).get(key) for key in ("batch_size", "epochs", "max_steps", "drop_last")}
    return json.dumps([common, length], sort_keys=True)


def _curve(symbol: str, estimates: dict[float, list[float]]) -> Figure:
    thetas = sorted(estimates)
    rows = np.ma.masked_array(np.zeros((max(map(len, estimates.values())), len(thetas))), mask=True)
    for column, theta in enumerate(thetas):
        rows[: len(estimates[theta]), column] = estimates[theta]
    truths = [value for theta in thetas if (value := truth(symbol, theta)) is not None]
    name, limit = divergence_name(symbol), DISJOINT.get(symbol, 0.0)
    return divergence_curve(thetas, rows, truths, limit, name, f"{name} between two segments at distance θ")
