"""How variational auto-encoders are judged: by the bound, by importance sampling and by annealing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from genbench.engine.batches import Batch
from genbench.engine.device import isolated_rng
from genbench.engine.measurement import Family, Measurement, Quantity, mean_over
from genbench.metrics.annealed import annealed_log_likelihood
from genbench.metrics.importance import Bound, LogLikelihood, importance_sampled_log_likelihood, sampled_elbos
from genbench.metrics.latents import latent_use
from genbench.tasks.classes import CLASS_ACCURACY
from genbench.tasks.vae.learn import VaeLearning

__all__ = ["VaeJudging"]

COLLAPSED = 1.0  # nats of the KL term, below which the latents say next to nothing of an image

PAIRS = {"valid": 2_000, "test": 20_000}
"""Antithetic pairs of posterior samples from which the bound is estimated, of all images of a split together; at
least two for each image. Of a trained VAE the pairs of an image have a standard deviation of about 2 nats, so the
bound has an error by sampling of 0.04 nats during training and 0.01 at the end; tables distinguish 0.1. On 5000
digits an evaluation takes 15 % of the time of an epoch."""


class VaeJudging(VaeLearning):
    """What is measured on a split."""

    evaluation_options = frozenset(
        {"importance_samples", "importance_images", "memory_mib", "classes"}
        | {"annealed_images", "annealing_steps", "annealing_chains"}
    )
    family = Family("Variational auto-encoders", likelihood="bound: ELBO")
    quantities = (
        Quantity("valid/elbo", "validation ELBO", "nats", "higher", 2),
        Quantity("test/elbo", "test ELBO", "nats", "higher", 2),
        Quantity("test/log_likelihood", "test log p(x), importance-sampled", "nats", "higher", 2),
        Quantity("test/annealed_log_likelihood", "test log p(x), annealed importance sampling", "nats", "higher", 2),
        Quantity("test/annealing_gain", "annealing above importance sampling", "nats", decimals=2),
        Quantity("test/annealing_acceptance", "acceptance rate of annealing", decimals=3),
        Quantity("valid/kl", "validation KL term", "nats", decimals=2),
        Quantity("test/active_units", "active latents", decimals=1),
        CLASS_ACCURACY,
    )

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, Measurement]:
        """`elbo`, its parts `reconstruction` and `kl`, `active_units`; nats per image.

        On the test split, `log_likelihood`, and of binary images in bits per dimension, too; of `annealed_images`
        images also by annealed importance sampling, and how far importance sampling is below that. A seed's noise is
        the same in every evaluation, so that a best value is not the one with the luckiest noise.
        """
        images, *labels = self.rows(split)
        with isolated_rng(self.seed, self.device):
            bounds = self._bounds_of(images, max(2, math.ceil(PAIRS[split] / len(images))), *labels)
            found = self._measured(bounds)
            values = {f"{split}/{name}": measurement for name, measurement in found.items()}
            if split == "test":
                values |= self._log_likelihood(*self.rows(split, self.importance_images))
            use = latent_use(self.model, images, self.dataset.to_float, self._judged_batch, *labels)
            values[f"{split}/active_units"] = Measurement(use.active_units)
        return values

    def rows(self, split: str, count: int | None = None) -> Batch:
        """Images of a split, or the first of them, and the labels of a class-conditional model."""
        return tuple(each[:count] for each in (self.dataset.split(split), *self.classes.of(split)))

    def _bounds_of(self, images: Tensor, pairs: int, *labels: Tensor) -> list[Bound]:
        """So many independent estimates; whatever is drawn next does not depend on how many."""
        estimates = sampled_elbos(self.model, images, self.dataset.to_float, self._judged_batch, *labels)
        first = next(estimates)
        with isolated_rng(~self.seed % 2**32, self.device):  # no other run's, as long as seeds are small
            return [first, *islice(estimates, pairs - 1)]

    def _measured(self, bounds: Sequence[Bound]) -> dict[str, Measurement]:
        """Means over images, and over two or more estimates for each of them. A KL term in closed form has no error
        by sampling."""
        protocol = {"posterior_samples": f"{len(bounds)} antithetic pairs"}
        elbo, kl = (torch.stack(rows) for rows in zip(*bounds, strict=True))

        def over(estimates: Tensor) -> Measurement:
            return mean_over(estimates.mean(0), protocol, estimates.var(0) / len(estimates))

        return {
            "elbo": replace(over(elbo), greatest=self._greatest),
            "kl": replace(mean_over(kl[0], protocol) if self.model.posterior.closed_form else over(kl), least=0.0),
            "reconstruction": replace(over(elbo + kl), greatest=self._greatest),
        }

    @property
    def _greatest(self) -> float | None:
        """Of log p(x): a probability is at most 1, while a density of grey values may be anything."""
        return 0.0 if self.dataset.binary else None

    def _importance_sampled(self, images: Tensor, samples: int, *labels: Tensor) -> LogLikelihood:
        return importance_sampled_log_likelihood(
            self.model, images, self.dataset.to_float, samples, self.memory_mib, *labels
        )

    def _log_likelihood(self, images: Tensor, *labels: Tensor) -> dict[str, Measurement]:
        protocol = {"importance_samples": str(self.importance_samples)}
        if self.importance_images is not None:
            protocol["importance_images"] = str(len(images))
        likelihood = self._importance_sampled(images, self.importance_samples, *labels)
        found = replace(mean_over(likelihood.value, protocol, likelihood.variance), greatest=self._greatest)
        values = {"test/log_likelihood": found}
        if self.dataset.binary:  # bits of a density of grey values would be compared with those of a probability
            values["test/bits_per_dim"] = found.scaled(-1 / math.log(2) / math.prod(self.dataset.shape))
        if self.annealed_images is not None:
            few = slice(self.annealed_images)
            sampled = LogLikelihood(*(rows[few] for rows in likelihood))
            values |= self._annealed(sampled, images[few], *(each[few] for each in labels))
        return values

    def _annealed(self, sampled: LogLikelihood, images: Tensor, *labels: Tensor) -> dict[str, Measurement]:
        """By annealing, and how far it lies above the importance-sampled values of the same images."""
        protocol = {
            "annealed_images": str(len(images)),
            "annealing_steps": str(self.annealing_steps),
            "annealing_chains": str(self.annealing_chains),
        }
        with isolated_rng(self.seed, self.device):  # whatever is drawn next does not depend on it
            found = annealed_log_likelihood(
                self.model,
                images,
                self.dataset.to_float,
                self.annealing_steps,
                self.annealing_chains,
                self.memory_mib,
                "encoder",
                *labels,
            )
        gain = mean_over(
            found.value - sampled.value,
            protocol | {"importance_samples": str(self.importance_samples)},
            found.variance + sampled.variance,
        )
        return {
            "test/annealed_log_likelihood": replace(
                mean_over(found.value, protocol, found.variance), greatest=self._greatest
            ),
            "test/annealing_gain": gain,
            "test/annealing_acceptance": replace(mean_over(found.acceptance, protocol), least=0.0, greatest=1.0),
        }

    def notes(self, final: Mapping[str, float]) -> list[str]:
        kl, active = final.get("test/kl", math.inf), final.get("test/active_units", 0)
        if kl >= COLLAPSED:
            return []
        units = f"{active:.0f} of {self.model.latent_dim} latents"
        return [f"posterior collapse: a KL term of {kl:.2g} nats; {units} are active"]
