"""Two players: a critic that estimates a divergence and a generator that minimizes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from genbench.engine.device import isolated_rng
from genbench.engine.ema import ExponentialMovingAverage
from genbench.engine.task import Record, Stage
from genbench.errors import ConfigError
from genbench.registry import OneOf, OpenUnitFloat, PositiveInt, register
from genbench.tasks.base import Parts, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Adversarial", "Updates"]

Updates = Annotated[str, OneOf("alternating", "simultaneous")]


@register("task", "adversarial")
class Adversarial:
    """`critic_steps` critic updates, each on a fresh batch, then one generator update.

    `updates=simultaneous` takes both players' gradients at the same point before either moves. `ema` is the
    weight α of the generator's moving average θ̃ ← α θ̃ + (1 − α) θ; null for none.
    """

    directions: dict[str, str] = {}

    def __init__(
        self,
        parts: Parts,
        *,
        critic_steps: PositiveInt = 1,
        updates: Updates = "alternating",
        ema: OpenUnitFloat | None = None,
    ) -> None:
        if updates == "simultaneous" and critic_steps != 1:
            raise ConfigError("simultaneous updates take one critic step", "set task.critic_steps=1")
        require(parts.model, "model", "adversarial", "generator", "critic", "sample_latent")
        require(parts.loss, "loss", "adversarial", "metric", "critic_loss", "generator_loss")
        self.parts = parts
        self.generator, self.critic = parts.model.generator, parts.model.critic
        self.loss, self.regularizer, self.dataset = parts.loss, parts.regularizer, parts.dataset
        self.generator_optimizer = parts.make_optimizer(self.generator.parameters())
        self.critic_optimizer = parts.make_critic_optimizer(self.critic.parameters())
        self.average = ExponentialMovingAverage(self.generator, ema) if ema else None
        self.batches_per_step = critic_steps
        self.updates, self.ema = updates, ema
        self.protocol: dict[str, Any] = {"updates": updates, "critic_steps": critic_steps, "ema": ema}
        self.charts = {"divergence and regularizer": [f"train/{self.loss.symbol}", "train/penalty"]}
        self._begin()

    def _begin(self) -> None:
        """For special games: called when the players stand ready."""

    def training_step(self, batch: Tensor) -> dict[str, Tensor]:
        batches = self.dataset.to_float(batch).tensor_split(self.batches_per_step)
        if self.updates == "simultaneous":
            values = self._critic_gradient(batches[0])
            self._generator_gradient(batches[0])
            self.critic_optimizer.step()
        else:
            for real in batches:
                values = self._critic_gradient(real)
                self.critic_optimizer.step()
            self._generator_gradient(batches[-1])
        self.generator_optimizer.step()
        if self.average:
            self.average.update()
        return values

    def _critic_gradient(self, real: Tensor) -> dict[str, Tensor]:
        """∇(−metric + coefficient · penalty) into the critic's gradients."""
        self.critic.requires_grad_(True)
        with torch.no_grad():
            fake = self.generator(self.parts.model.sample_latent(len(real)))
        real_scores, fake_scores = self.critic(real), self.critic(fake)
        loss = self.loss.critic_loss(real_scores, fake_scores)
        penalty = self.regularizer.penalty(self.critic, real, fake)
        self.critic_optimizer.zero_grad()
        (loss + self.regularizer.coefficient * penalty).backward()
        with torch.no_grad():
            metric = self.loss.metric(real_scores, fake_scores)
        return {f"train/{self.loss.symbol}": metric, "train/penalty": penalty.detach()}

    def _generator_gradient(self, real: Tensor) -> None:
        self.critic.requires_grad_(False)
        with torch.no_grad():
            real_scores = self.critic(real)
        fake_scores = self.critic(self.generator(self.parts.model.sample_latent(len(real))))
        self.generator_optimizer.zero_grad()
        self.loss.generator_loss(real_scores, fake_scores).backward()

    def evaluate(self, split: str) -> dict[str, float]:
        """The approximated divergence between `split` and the (averaged) generator."""
        generator = self.average.network if self.average else self.generator
        with torch.no_grad(), isolated_rng(self.parts.seed, self.parts.device):
            real = self.dataset.to_float(self.dataset.split(split))
            fake = generator(self.parts.model.sample_latent(len(real)))
            metric = self.loss.metric(self.critic(real), self.critic(fake))
        return {f"eval/{self.loss.symbol}": metric.item()}

    def figures(self, stage: Stage, record: Record) -> dict[str, Figure]:
        return {}

    def images(self, stage: Stage) -> dict[str, Tensor]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "average": self.average.network.state_dict() if self.average else None,
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.load_state_dict(state["generator"])
        self.critic.load_state_dict(state["critic"])
        if self.average:
            self.average.network.load_state_dict(state["average"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
