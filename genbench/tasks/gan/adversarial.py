"""Two players: a critic that estimates a divergence and a generator that minimizes it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from genbench.engine.batches import Batch, in_chunks
from genbench.engine.device import autocast, isolated_rng, tf32
from genbench.engine.ema import ExponentialMovingAverage
from genbench.engine.gradients import Gradients
from genbench.engine.measurement import Family, Measurement, Quantity
from genbench.engine.task import Task
from genbench.errors import ConfigError
from genbench.figures.style import divergence_name
from genbench.registry import OneOf, OpenUnitFloat, Range, register
from genbench.regularizers.base import Critic
from genbench.tasks.base import Parts, require
from genbench.tasks.classes import Classes
from genbench.tasks.gan.batch_norm import recompute_statistics

__all__ = ["Adversarial", "Updates"]

Updates = Annotated[str, OneOf("alternating", "simultaneous")]

EVALUATION_BATCH = 500
EVALUATION_SAMPLES = 2000  # of a split, and as many generated ones, for the divergence that the critic sees


@register("task", "adversarial")
class Adversarial(Task):
    """`critic_steps` critic updates, each on a fresh batch, then one generator update.

    `updates=simultaneous` takes both players' gradients at the same point before either moves. `ema` is the
    weight α of the generator's moving average θ̃ ← α θ̃ + (1 − α) θ; null for none. `batch_norm_batches` batches of
    latents give the judged generator its batch-norm statistics. `compile` runs each player's objective and gradients,
    penalty included, as one compiled graph.

    Fake samples of class-conditional players have the labels of the real ones in the batch: p(y) is the data's, and
    whatever lies between a real and a fake sample is of one class.
    """

    family = Family("Image GANs", likelihood="none")

    def __init__(
        self,
        parts: Parts,
        *,
        critic_steps: Annotated[int, Range(minimum=1, maximum=1000)] = 1,
        updates: Updates = "alternating",
        ema: OpenUnitFloat | None = None,
        batch_norm_batches: Annotated[int, Range(minimum=1, maximum=100_000)] = 1000,
        compile: bool = False,
    ) -> None:
        if updates == "simultaneous" and critic_steps != 1:
            raise ConfigError("simultaneous updates take one critic step", "set task.critic_steps=1")
        require(parts.model, "model", "adversarial", "generator", "critic", "sample_latent")
        needed = ("metric", "critic_loss", "generator_loss", "relative", "minimax", "symbol")
        require(parts.loss, "loss", "adversarial", *needed)
        _check_batches(parts, critic_steps)
        self.parts = parts
        self.generator, self.critic = parts.model.generator, parts.model.critic
        self.loss, self.regularizer, self.dataset = parts.loss, parts.regularizer, parts.dataset
        self.regularizer.prepare(self.critic)
        self.generator_optimizer = parts.make_optimizer(self.generator.parameters())
        self._critic_parameters = list(self.critic.parameters())
        self.critic_optimizer = parts.make_critic_optimizer(self._critic_parameters)
        self.average = ExponentialMovingAverage(self.generator, ema) if ema else None
        self.classes = Classes(parts)
        self.protocol = self.classes.protocol
        self.batches_per_step = critic_steps
        self.updates, self.ema, self.batch_norm_batches = updates, ema, batch_norm_batches
        name = divergence_name(self.loss.symbol)
        self.divergence = Quantity(f"eval/{self.loss.symbol}", f"{name}, as the critic sees it")
        self.quantities = (*self.quantities, self.divergence)
        has_penalty = self.regularizer.has_penalty
        seen = f"train/{self.loss.symbol}"
        self.curves = {f"{name} and regularizer": [seen, "train/penalty"]} if has_penalty else {name: [seen]}
        compile_for = parts.batch_size if compile else None
        self._critic_gradients = {
            penalized: Gradients(partial(self._critic_objective, penalized), self.critic.parameters(), compile_for)
            for penalized in (True, False)
        }
        self._generator_gradients = Gradients(self._generator_objective, self.generator.parameters(), compile_for)
        # Gradients of gradients need float32: a pass of their own where the players compute in less.
        self._penalty_apart = has_penalty and parts.precision != "fp32"
        self._penalty_gradients = Gradients(self._penalty_objective, self.critic.parameters(), compile_for, add=True)
        self._critic_updates = 0
        self._penalized = (has_penalty,) * critic_steps
        self._judged: nn.Module | None = None

    @property
    def training_data(self) -> Batch:
        return self.classes.training_data

    def prepare_step(self) -> tuple[bool, ...]:
        """Which of the step's critic updates are penalized."""
        first, self._critic_updates = self._critic_updates, self._critic_updates + self.batches_per_step
        updates, regularizer = range(first, self._critic_updates), self.regularizer
        self._penalized = tuple(regularizer.has_penalty and update % regularizer.every == 0 for update in updates)
        self._judged = None  # its generator moves on
        return self._penalized

    def real_samples(self, stored: Tensor) -> Tensor:
        """Stored values as the critic sees them."""
        return self.dataset.to_float(stored)

    def training_step(self, batch: Tensor, *labels: Tensor) -> dict[str, Tensor]:
        parts = (tensor.tensor_split(self.batches_per_step) for tensor in (self.real_samples(batch), *labels))
        batches = list(zip(*parts, strict=True))
        if self.updates == "simultaneous":
            values, scores = self._critic_gradient(self._penalized[0], *batches[0])
            self._generator_gradient(scores, *batches[0])
            self.critic_optimizer.step()
        else:
            values = {}
            for real, penalized in zip(batches, self._penalized, strict=True):
                update, scores = self._critic_gradient(penalized, *real)
                values |= update
                self.critic_optimizer.step()
            self._generator_gradient(scores, *batches[-1])
        self.generator_optimizer.step()
        if self.average:
            self.average.update()
        return values

    def _critic_gradient(self, penalized: bool, real: Tensor, *labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """∇(critic loss + every · coefficient · penalty) into the critic's gradients; what to log, and the real
        scores."""
        self._train_critic(True)
        values = self._critic_gradients[penalized and not self._penalty_apart](real, *labels)
        scores, fake = values.pop("real_scores"), values.pop("fake")
        if penalized and self._penalty_apart:
            with tf32(False):
                values |= self._penalty_gradients(real, fake, *labels)
        return values, scores

    def _critic_objective(self, penalized: bool, real: Tensor, *labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        regularizer = self.regularizer
        with torch.no_grad(), self._autocast():
            fake = self.generator(self.parts.model.sample_latent(len(real)), *labels).to(real.dtype)
        critic = _Remembering(lambda samples: self._scores(samples, *labels))
        if penalized:
            real = real.detach().requires_grad_(regularizer.at_real)
            fake = fake.detach().requires_grad_(regularizer.at_fake)
        real_scores, fake_scores = critic(real), critic(fake)
        if self.loss.minimax:
            metric = self.loss.metric(real_scores, fake_scores)
            loss = -metric
        else:
            metric = self.loss.metric(real_scores.detach(), fake_scores.detach())
            loss = self.loss.critic_loss(real_scores, fake_scores)
        values = {f"train/{self.loss.symbol}": metric, "real_scores": real_scores, "fake": fake}
        if penalized:
            weighted, penalty = self._penalty(critic, real, fake)
            loss, values = loss + weighted, values | penalty
        return loss, values

    def _penalty_objective(self, real: Tensor, fake: Tensor, *labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self._penalty(lambda samples: self.critic(samples, *labels), real, fake)

    def _penalty(self, critic: Critic, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What the penalty adds to the critic's loss, and what to log of it."""
        penalty = self.regularizer.penalty(critic, real, fake)
        return self.regularizer.every * self.regularizer.coefficient * penalty, {"train/penalty": penalty}

    def _generator_gradient(self, scores: Tensor, real: Tensor, *labels: Tensor) -> None:
        self._train_critic(False)
        self._generator_gradients(scores, real, *labels)

    def _train_critic(self, learns: bool) -> None:
        """Whether the critic's parameters are to have gradients: the generator's step keeps nothing for them."""
        for parameter in self._critic_parameters:
            parameter.requires_grad_(learns)

    def _generator_objective(self, scores: Tensor, real: Tensor, *labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.loss.relative:
            with torch.no_grad():
                scores = self._scores(real, *labels)
        with self._autocast():
            fake = self.generator(self.parts.model.sample_latent(len(real)), *labels)
        return self.loss.generator_loss(scores, self._scores(fake, *labels)), {}

    def _scores(self, samples: Tensor, *labels: Tensor) -> Tensor:
        with self._autocast():
            scores: Tensor = self.critic(samples, *labels)
        return scores if scores.dtype == torch.float64 else scores.float()

    def _autocast(self) -> Any:
        return autocast(self.parts.device, self.parts.precision)

    @torch.no_grad()
    def judged_generator(self) -> nn.Module:
        """A copy of the (averaged) generator for evaluation, batch-norm statistics recomputed on fresh latents."""
        if self._judged is None:
            network = copy.deepcopy(self.average.network if self.average else self.generator).requires_grad_(False)
            with isolated_rng(self.parts.seed, self.parts.device):
                recompute_statistics(network, self._generator_inputs(self.batch_norm_batches))
            self._judged = network.eval()
        return self._judged

    def _generator_inputs(self, batches: int) -> Iterator[Batch]:
        """Latents, and labels with the data's frequencies."""
        size = self.parts.batch_size
        labels = self.classes.drawn(batches * size, self.parts.seed)
        for start in range(0, batches * size, size):
            yield self.parts.model.sample_latent(size), *(each[start : start + size] for each in labels)

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, Measurement]:
        """The divergence between samples of `split` and of the judged generator, as the critic sees it."""
        generator = self.judged_generator()
        rows = [each[:EVALUATION_SAMPLES] for each in (self.dataset.split(split), *self.classes.of(split))]
        chunks = list(in_chunks(EVALUATION_BATCH, *rows))
        latents = self.parts.model.sample_latent
        self.critic.eval()
        with isolated_rng(self.parts.seed, self.parts.device):
            real_scores = torch.cat([self.critic(self.real_samples(real), *labels) for real, *labels in chunks])
            fakes = ((generator(latents(len(real)), *labels), *labels) for real, *labels in chunks)
            fake_scores = torch.cat([self.critic(*fake) for fake in fakes])
        self.critic.train()
        protocol = {"samples": f"{len(rows[0])} of each"}
        value = self.loss.metric(real_scores, fake_scores).item()
        name = self.divergence.name if split == "valid" else f"test/{self.loss.symbol}"
        return {name: Measurement(value, protocol=protocol)}

    @property
    def network(self) -> nn.Module:
        return self.judged_generator()

    def weights(self) -> dict[str, dict[str, Tensor]]:
        averaged = {"averaged": self.average.network.state_dict()} if self.average else {}
        return super().weights() | averaged

    def load_weights(self, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
        super().load_weights(weights)
        if self.average:
            self.average.network.load_state_dict(weights.get("averaged") or self.generator.state_dict())
        self._judged = None

    def state_dict(self) -> dict[str, Any]:
        return {
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "average": self.average.network.state_dict() if self.average else None,
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "critic_updates": self._critic_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.load_state_dict(state["generator"])
        self.critic.load_state_dict(state["critic"])
        if self.average:
            self.average.network.load_state_dict(state["average"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self._critic_updates = state["critic_updates"]
        self._judged = None


def _check_batches(parts: Parts, critic_steps: int) -> None:
    """Raise ConfigError for data or batches that the players cannot take."""
    dataset = parts.dataset
    if tuple(dataset.train.shape[1:]) != dataset.shape:
        raise ConfigError(
            f"rows of {dataset.name} are several samples each, and a generator makes one",
            "set task=divergence, or choose another data set",
        )
    flat = any(isinstance(module, nn.BatchNorm1d) for module in parts.model.modules())
    if flat and parts.smallest_batch(critic_steps) == 1:
        raise ConfigError(
            "this model's batch normalization needs two samples, and an epoch has a batch of one",
            "set another trainer.batch_size, trainer.drop_last=true, or model.normalization=virtual",
        )


class _Remembering:
    """A critic that scores the same tensor once: loss and penalty share the pass."""

    def __init__(self, critic: Callable[[Tensor], Tensor]) -> None:
        self._critic = critic
        self._seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, samples: Tensor) -> Tensor:
        for seen, scores in self._seen:
            if seen is samples:
                return scores
        scores = self._critic(samples)
        self._seen.append((samples, scores))
        return scores
