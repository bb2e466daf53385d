"""How variational auto-encoders learn: on the evidence lower bound, or on that of several samples."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor

from genbench.engine.batches import Batch
from genbench.engine.device import isolated_rng, working_mib
from genbench.errors import ConfigError
from genbench.functional import sample_gaussian
from genbench.losses.elbo import ElboTerms, doubly_reparameterised
from genbench.registry import NonNegativeInt, Range, SampleCount
from genbench.tasks.base import Parts, require, require_float32, require_images
from genbench.tasks.classes import Classes
from genbench.tasks.pictures import SampledTask

__all__ = ["VaeLearning"]

EVALUATION_BATCH = 2000
SAMPLES = 64  # that are shown


class VaeLearning(SampledTask):
    """What a training step does; see `Variational` for the parameters."""

    curves = {
        "evidence lower bound (nats)": ["train/elbo", "valid/elbo", "test/elbo"],
        "KL divergence (nats)": ["train/kl", "valid/kl"],
    }

    def __init__(
        self,
        parts: Parts,
        *,
        importance_samples: SampleCount = 200,
        importance_images: Annotated[int, Range(minimum=2)] | None = None,
        annealed_images: Annotated[int, Range(minimum=2)] | None = None,
        annealing_steps: Annotated[int, Range(minimum=2, maximum=10**6)] = 1000,
        annealing_chains: Annotated[int, Range(minimum=2, maximum=10**4)] = 16,
        memory_mib: Annotated[int, Range(minimum=1, maximum=2**20)] = 256,
        pixelcnn_from_step: NonNegativeInt = 0,
        classes: bool = False,
        compile: bool = False,
    ) -> None:
        needed = ("encode", "decode", "log_likelihood", "from_pixels", "images", "posterior", "likelihood")
        sizes = ("latent_dim", "latent_floats", "image_floats")
        require(parts.model, "model", "variational", *needed, *sizes)
        require(parts.loss, "loss", "variational", "objective", "kl", "kl_weight", "samples")
        require_images(parts.dataset, "variational")
        require_float32(parts, "variational")
        self.parts = parts
        self.model, self.loss, self.dataset = parts.model, parts.loss, parts.dataset
        self.classes = Classes(parts)
        self.protocol = self.classes.protocol
        self._classified = self.classes.classified(classes)
        self._check(pixelcnn_from_step, compile)
        _check_annealed(annealed_images, importance_images)
        self.optimizer = parts.make_optimizer(self.model.parameters())
        self.device, self.seed = parts.device, parts.seed
        self.importance_samples, self.importance_images = importance_samples, importance_images
        self.annealed_images = annealed_images
        self.annealing_steps, self.annealing_chains = annealing_steps, annealing_chains
        self.memory_mib, self.pixelcnn_from_step = memory_mib, pixelcnn_from_step
        # Of large networks, as many images at a time as memory holds, or the cache of a CPU; the noise depends on how
        # many.
        self._batch = self._images_within(memory_mib)
        self._judged_batch = self._images_within(working_mib(parts.device, memory_mib))
        self._gradients = parts.gradients(self._objective, self.model, compile)
        # The same at every stage.
        self._latents, self._uniforms = self._drawn(SAMPLES, self.seed)
        self._labels = self.classes.drawn(SAMPLES, self.seed)
        self._samples: dict[str, Tensor] = {}
        self._bounds: dict[str, tuple[float, float]] = {}
        self._step = 0
        self._kl_weight = torch.zeros((), device=self.device)
        if pixelcnn_from_step:
            self.model.switch_pixelcnn(False)

    def _images_within(self, mib: float) -> int:
        return max(1, min(EVALUATION_BATCH, int(mib * 2**20 / 4 / self.model.image_floats)))

    def _check(self, pixelcnn_from_step: int, compiled: bool) -> None:
        """Raise ConfigError for what does not belong together."""
        if self.dataset.binary and not self.model.likelihood.binary:
            raise ConfigError(
                f"a Gaussian likelihood needs grey images, and those of {self.dataset.name} are binary",
                "set model.likelihood=bernoulli, or dataset=mnist, or dataset=mnist5k dataset.binarized=false",
            )
        if self.model.likelihood.binary and not self.dataset.binary:
            raise ConfigError(
                f"a Bernoulli likelihood needs binary images, and those of {self.dataset.name} are grey",
                "choose a binarized data set, dataset=binmnist or dataset=mnist5k, or set model.likelihood=gaussian",
            )
        if self.loss.kl == "analytic" and not self.model.posterior.closed_form:
            raise ConfigError("the KL divergence of a posterior with a flow has no closed form", "set loss.kl=mc")
        if pixelcnn_from_step and getattr(self.model, "pixelcnn", None) is None:
            raise ConfigError(
                "pixelcnn_from_step is for a model with a PixelCNN",
                "set task.pixelcnn_from_step=0, or model=conv-vae with model.pixelcnn_channels",
            )
        if compiled and self.loss.samples > 1:
            raise ConfigError(
                "the gradient of the bound of several samples cannot be compiled",
                "set task.compile=false or loss.samples=1",
            )

    @property
    def training_data(self) -> Batch:
        return self.classes.training_data

    def elbo_terms(self, x: Tensor, *labels: Tensor) -> ElboTerms:
        """Log-likelihood and KL term per image, with one posterior sample; x is [B, C, H, W] in [0, 1]."""
        code = self.model.encode(x, *labels)
        sample = self.model.posterior(code, sample_gaussian(code.mu, code.logvar))
        log_likelihood = self.model.log_likelihood(sample.z, x, self.model.from_pixels(x), *labels)
        posterior = self.model.posterior
        kl = posterior.kl(code) if self.loss.kl == "analytic" else posterior.sampled_kl(code, sample)
        return ElboTerms(log_likelihood, kl)

    def _objective(self, x: Tensor, kl_weight: Tensor, *labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.loss.samples > 1:
            return self._importance_weighted(x, *labels)
        terms = self.elbo_terms(x, *labels)
        objective = self.loss.objective(terms, self.model.latent_dim, kl_weight)
        elbo, kl = terms.log_likelihood.mean() - terms.kl.mean(), terms.kl.mean()
        return -objective, {"train/elbo": elbo, "train/kl": kl, "train/objective": objective}

    def _importance_weighted(self, x: Tensor, *labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        count = self.loss.samples
        code = self.model.encode(x, *labels).repeat(count)
        sample = self.model.posterior(code, sample_gaussian(code.mu, code.logvar))
        from_pixels = self.model.from_pixels(x)
        if from_pixels is not None:
            from_pixels = from_pixels.repeat_interleave(count, 0)
        x, *labels_of_each = (each.repeat_interleave(count, 0) for each in (x, *labels))
        log_likelihood = self.model.log_likelihood(sample.z, x, from_pixels, *labels_of_each)
        fixed = code._replace(mu=code.mu.detach(), logvar=code.logvar.detach())
        kl = self.model.posterior.sampled_kl(fixed, sample).sum(1)
        log_weights = log_likelihood - kl
        bound, surrogate = doubly_reparameterised(log_weights.view(-1, count), sample.base)
        values = {"train/elbo": log_weights.mean(), "train/kl": kl.mean(), "train/objective": bound.mean()}
        return -surrogate, values

    def prepare_step(self) -> bool:
        """Whether the PixelCNN is computed."""
        joined = self._step >= self.pixelcnn_from_step
        if getattr(self.model, "pixelcnn", None) is not None:  # weights that a run begins with bring another's switch
            self.model.switch_pixelcnn(joined)
        self._kl_weight.fill_(self.loss.kl_weight(self._step))
        self._step += 1
        return joined

    def training_step(self, batch: Tensor, *labels: Tensor) -> dict[str, Tensor]:
        values = self._gradients(self.dataset.to_float(batch), self._kl_weight, *labels)
        self.optimizer.step()
        return values

    def _drawn(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Latents [count, L] of the prior, and uniform numbers [count, C, H, W] for pixels."""
        with isolated_rng(seed, self.device):
            latents = torch.randn(count, self.model.latent_dim, device=self.device)
            return latents, torch.rand(count, *self.dataset.shape, device=self.device)

    def start_again(self) -> None:
        super().start_again()
        self._bounds.clear()

    def state_dict(self) -> dict[str, Any]:
        # Another device would draw other numbers.
        fixed = {"latents": self._latents, "uniforms": self._uniforms}
        return super().state_dict() | fixed | {"bounds": dict(self._bounds), "step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._latents, self._uniforms = (state[name].to(self.device) for name in ("latents", "uniforms"))
        self._bounds = dict(state["bounds"])
        self._step = state["step"]


def _check_annealed(annealed: int | None, importance: int | None) -> None:
    """Raise ConfigError where importance sampling leaves out images that annealing is to be compared with it on."""
    if annealed is not None and importance is not None and annealed > importance:
        raise ConfigError(
            f"task.annealed_images={annealed}, and only {importance} images have an importance-sampled log p(x) to"
            " compare with",
            "set a smaller task.annealed_images, or task.importance_images=null",
        )
