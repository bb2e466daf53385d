"""How variational auto-encoders are judged: by the bound and by importance sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from genbench.engine.device import double, isolated_rng
from genbench.engine.measurement import Family, Measurement, Quantity, mean_over
from genbench.metrics.importance import importance_sampled_log_likelihood
from genbench.metrics.latents import latent_use
from genbench.tasks.vae.learn import VaeLearning

__all__ = ["VaeJudging"]

COLLAPSED = 1.0  # nats of the KL term, below which the latents say next to nothing of an image


class VaeJudging(VaeLearning):
    """What is measured on a split."""

    family = Family("Variational auto-encoders", likelihood="bound: ELBO")
    quantities = (
        Quantity("valid/elbo", "validation ELBO", "nats", "higher", 2),
        Quantity("test/elbo", "test ELBO", "nats", "higher", 2),
        Quantity("test/log_likelihood", "test log p(x), importance-sampled", "nats", "higher", 2),
        Quantity("valid/kl", "validation KL term", "nats", decimals=2),
        Quantity("test/active_units", "active latents", decimals=1),
    )

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, Measurement]:
        """`elbo`, its parts `reconstruction` and `kl`, `active_units`; nats per image.

        On the test split, `log_likelihood`, and of binary images in bits per dimension, too.
        """
        images = self.dataset.split(split)
        with isolated_rng(self.seed, self.device):
            elbo, kl = self._elbo_and_kl(images)
            values = {
                f"{split}/elbo": Measurement(elbo),
                f"{split}/kl": Measurement(kl),
                f"{split}/reconstruction": Measurement(elbo + kl),
            }
            if split == "test":
                values |= self._log_likelihood(images[: self.importance_images])
            use = latent_use(self.model, images, self.dataset.to_float, self._batch)
            values[f"{split}/active_units"] = Measurement(use.active_units)
        return values

    def _elbo_and_kl(self, images: Tensor) -> tuple[float, float]:
        rows = []
        for batch in images.split(self._batch):
            terms = self.elbo_terms(self.dataset.to_float(batch))
            rows.append(double(torch.stack([terms.elbo, terms.kl])).sum(1))
        elbo, kl = (torch.stack(rows).sum(0) / len(images)).tolist()
        return elbo, kl

    def _importance_sampled(self, images: Tensor, samples: int) -> Tensor:
        return importance_sampled_log_likelihood(self.model, images, self.dataset.to_float, samples, self.memory_mib)

    def _log_likelihood(self, images: Tensor) -> dict[str, Measurement]:
        protocol = {"importance_samples": str(self.importance_samples)}
        if self.importance_images is not None:
            protocol["importance_images"] = str(len(images))
        found = mean_over(self._importance_sampled(images, self.importance_samples), protocol)
        values = {"test/log_likelihood": found}
        if self.dataset.binary:  # bits of a density of grey values would be compared with those of a probability
            bits = -found.value / math.log(2) / math.prod(self.dataset.shape)
            values["test/bits_per_dim"] = replace(found, value=bits, standard_error=None)
        return values

    def notes(self, final: Mapping[str, float]) -> list[str]:
        kl, active = final.get("test/kl", math.inf), final.get("test/active_units", 0)
        if kl >= COLLAPSED:
            return []
        units = f"{active:.0f} of {self.model.latent_dim} latents"
        return [f"posterior collapse: a KL term of {kl:.2g} nats; {units} are active"]
