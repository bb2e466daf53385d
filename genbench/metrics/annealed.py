"""log p(x) of latent-variable models by annealed importance sampling, and brackets of it on simulated images.

Neal 2001 (arXiv physics/9803008); for decoders Wu, Burda, Salakhutdinov & Grosse 2017 (arXiv 1611.04273), whose
schedule, transitions and target acceptance rate these are; brackets: Grosse, Ghahramani & Adams 2015 (arXiv
1511.02543).

All happens in the noise ε ~ N(0, I) that a start makes latents z = T(ε) of: the encoder's q(z|x), z = f(μ + σε; h),
or the prior, z = ε. With the weight w(ε) = p(x, z) / q(z) of importance sampling, the densities

    f_β(ε) = N(ε; 0, I) w(ε)^β,   0 = β_0 < β_1 < … < β_K = 1

lead from the start to the posterior, in whitened coordinates and without any flow's inverse. One temperature, K = 1,
is importance sampling.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from genbench.engine.device import double
from genbench.metrics.importance import LatentVariableModel, log_mean_weight

__all__ = ["Annealed", "Bracket", "Start", "annealed_log_likelihood", "bidirectional_log_likelihood", "schedule"]

Start = Literal["encoder", "prior"]

SHARPNESS = 4.0  # of the sigmoidal schedule
LEAPFROG_STEPS = 10
ACCEPTANCE = 0.65  # at which HMC explores most per leapfrog step (Beskos et al. 2013, arXiv 1001.4460)
ADAPTATION = 0.1  # change of the logarithm of the step size, for an acceptance rate that is off by 1


class Annealed(NamedTuple):
    """Per image, in float64, [N]: an estimate of log p(x) and its variance by sampling, in nats; and the mean
    acceptance rate of its chains, NaN where there is but one temperature."""

    value: Tensor
    variance: Tensor
    acceptance: Tensor


class Bracket(NamedTuple):
    """Two estimates of the same log p(x): a lower bound in expectation and an upper bound in expectation."""

    lower: Annealed
    upper: Annealed

    @property
    def gap(self) -> Tensor:
        """[N], nats: in expectation no less than how far either estimate is off."""
        return self.upper.value - self.lower.value


def annealed_log_likelihood(
    model: LatentVariableModel,
    images: Tensor,
    to_float: Callable[[Tensor], Tensor],
    temperatures: int,
    chains: int,
    memory_mib: float = 256,
    start: Start = "encoder",
    *labels: Tensor,
) -> Annealed:
    """log p(x) ≈ log 1/C Σ_c w_c,   log w = Σ_t (β_t − β_{t−1}) log w(ε_{t−1}),   of `chains` C per image

    ε_0 ~ N(0, I); ε_t follows from ε_{t−1} by a transition that leaves f_{β_t} invariant: Hamiltonian Monte Carlo of
    ten leapfrog steps. A lower bound in expectation, which rises to log p(x) with `temperatures` K.

    As in the paper, the step size is adapted during the run toward an acceptance rate of 0.65, here for each image to
    the mean rate of its chains. It so depends on their past, which the proof of the bound does not cover; the effect
    falls with the number of chains.

    The noise of an image is its own, so the value does not depend on how many images are taken at a time (about as
    many as fit into `memory_mib`, at least one) but for rounding, which chains amplify. A class-conditional model is
    given `labels` [N], and the estimates are of log p(x|y).
    """
    parts = [
        _forward(weights, noise, temperatures)[0]
        for weights, noise in _chunks(model, images, to_float, chains, memory_mib, start, *labels)
    ]
    return Annealed(*(torch.cat(rows) for rows in zip(*parts, strict=True)))


def bidirectional_log_likelihood(
    model: LatentVariableModel,
    images: Tensor,
    latents: Tensor,
    temperatures: int,
    chains: int,
    memory_mib: float = 256,
    start: Start = "encoder",
    *labels: Tensor,
) -> Bracket:
    """Lower and upper bounds of log p(x) for images [N, C, H, W] that the model made from `latents` [N, L], which are
    thereby exact samples of p(z|x): bidirectional Monte Carlo.

    The reverse chains start from them and go from β = 1 to 0 with the step sizes of the forward ones; the expectation
    of 1/w is 1/p(x), whence an upper bound, −log 1/C Σ_c 1/w_c. It holds for simulated images only.
    """
    lower, upper = [], []
    taken = 0
    for weights, noise in _chunks(model, images, lambda x: x, chains, memory_mib, start, *labels):
        found, steps = _forward(weights, noise, temperatures)
        lower.append(found)
        exact = weights.noise_of(latents[taken : taken + weights.images])
        upper.append(_reverse(weights, noise, exact, steps))
        taken += weights.images
    return Bracket(*(Annealed(*(torch.cat(rows) for rows in zip(*parts, strict=True))) for parts in (lower, upper)))


def schedule(temperatures: int) -> list[float]:
    """β_0 … β_K: β_t = (γ_t − γ_0) / (γ_K − γ_0), γ_t = sigmoid(4 (2t/K − 1)) (Wu et al. 2017)."""
    gamma = torch.linspace(-SHARPNESS, SHARPNESS, temperatures + 1, dtype=torch.float64).sigmoid()
    found: list[float] = ((gamma - gamma[0]) / (gamma[-1] - gamma[0])).tolist()
    return found


class _State(NamedTuple):
    """Chains of B images, R = B · C rows: ε [R, L], log w(ε) [R] and its gradient [R, L]."""

    noise: Tensor
    log_weight: Tensor
    gradient: Tensor

    def log_density(self, beta: float) -> Tensor:
        """log f_β(ε) + const, [R]."""
        return beta * self.log_weight - 0.5 * self.noise.square().sum(1)

    def force(self, beta: float) -> Tensor:
        """∇ log f_β(ε), [R, L]."""
        return beta * self.gradient - self.noise


class _Weights:
    """log w(ε) for `chains` rows of each of B images, [B, C, H, W]."""

    def __init__(self, model: LatentVariableModel, x: Tensor, chains: int, start: Start, *labels: Tensor) -> None:
        self.model, self.start, self.images, self.chains = model, start, len(x), chains
        self.labels = [each.repeat_interleave(chains, 0) for each in labels]
        with torch.no_grad():
            self.code = model.encode(x, *labels).repeat(chains)
            from_pixels = model.from_pixels(x)
        self.x = x.repeat_interleave(chains, 0)
        self.from_pixels = None if from_pixels is None else from_pixels.repeat_interleave(chains, 0)
        self.sigma: Tensor = (0.5 * self.code.logvar).exp()

    def log_weight(self, noise: Tensor) -> Tensor:
        """[R, L] → [R]."""
        if self.start == "prior":
            return self.model.log_likelihood(noise, self.x, self.from_pixels, *self.labels)
        sample = self.model.posterior(self.code, self.code.mu + self.sigma * noise)
        log_ratio: Tensor = self.model.posterior.log_ratio(self.code, sample)
        return self.model.log_likelihood(sample.z, self.x, self.from_pixels, *self.labels) + log_ratio

    def at(self, noise: Tensor) -> _State:
        with torch.enable_grad():
            noise = noise.detach().requires_grad_()
            log_weight = self.log_weight(noise)
            (gradient,) = torch.autograd.grad(log_weight.sum(), noise)
        return _State(noise.detach(), log_weight.detach(), gradient)

    @torch.no_grad()
    def noise_of(self, latents: Tensor) -> Tensor:
        """One latent vector for each image, [B, L] → the noise ε that maps to it, for each of its chains, [R, L]."""
        z = latents.repeat_interleave(self.chains, 0)
        if self.start == "prior":
            return z
        noise: Tensor = (self.model.posterior.base(self.code, z) - self.code.mu) / self.sigma
        return noise

    def mean(self, rows: Tensor) -> Tensor:
        """Over an image's chains, [R] → [B]."""
        return rows.view(self.images, self.chains).mean(1)

    def summed(self, log_weights: Tensor, acceptances: list[Tensor]) -> Annealed:
        found = log_mean_weight(log_weights.view(self.images, self.chains))
        rates = torch.stack(acceptances) if acceptances else torch.full((1, self.images), math.nan)
        return Annealed(found.value, found.variance, double(rates).mean(0).to(found.value.device))


class _Noise:
    """Random numbers that each of B images has a generator of its own for, `chains` rows each.

    The generators are on the CPU, so that numbers do not depend on the device; the global one seeds them.
    """

    def __init__(self, seeds: list[int], chains: int, like: Tensor) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._chains, self._like = chains, like

    def normal(self, size: int) -> Tensor:
        """[R, size]"""
        shape, dtype = (self._chains, size), self._like.dtype
        rows = [torch.randn(shape, generator=generator, dtype=dtype) for generator in self._generators]
        return torch.cat(rows).to(self._like.device)

    def uniform(self) -> Tensor:
        """[R]"""
        rows = [torch.rand(self._chains, generator=each, dtype=self._like.dtype) for each in self._generators]
        return torch.cat(rows).to(self._like.device)


def _forward(weights: _Weights, noise: _Noise, temperatures: int) -> tuple[Annealed, list[Tensor]]:
    """The estimate of B images, and the step sizes [B] of all transitions."""
    size = weights.code.mu.shape[1]
    betas = schedule(temperatures)
    state = weights.at(noise.normal(size))
    total = (betas[1] - betas[0]) * double(state.log_weight)
    # Right for N(0, I), which the first densities are near to; see Beskos et al. for the power.
    step = torch.full((weights.images,), size**-0.25, dtype=state.noise.dtype, device=state.noise.device)
    steps, acceptances = [], []
    for before, after in itertools.pairwise(betas[1:]):
        steps.append(step)
        state, accepted = _transition(weights, state, before, step, noise)
        acceptances.append(accepted)
        step = step * (ADAPTATION * (accepted - ACCEPTANCE)).exp()
        total = total + (after - before) * double(state.log_weight)
    return weights.summed(total, acceptances), steps


def _reverse(weights: _Weights, noise: _Noise, exact: Tensor, steps: list[Tensor]) -> Annealed:
    """−log 1/C Σ_c 1/w_c of chains from `exact` [R, L], with the step sizes of the forward ones."""
    betas = schedule(len(steps) + 1)
    state = weights.at(exact)
    total = (betas[-1] - betas[-2]) * double(state.log_weight)
    acceptances = []
    for t in range(len(steps), 0, -1):
        state, accepted = _transition(weights, state, betas[t], steps[t - 1], noise)
        acceptances.append(accepted)
        total = total + (betas[t] - betas[t - 1]) * double(state.log_weight)
    found = weights.summed(-total, acceptances)
    return found._replace(value=-found.value)


def _transition(weights: _Weights, state: _State, beta: float, step: Tensor, noise: _Noise) -> tuple[_State, Tensor]:
    """Hamiltonian Monte Carlo that leaves f_β invariant: a proposal by ten leapfrog steps, accepted or not; and the
    mean probability of acceptance of an image's chains, [B].

    Each chain's step is between half of `step` [B] and all of it, at random (Neal 2011, arXiv 1206.1901, section
    5.4.2): near N(0, I) ten steps of the same size may be half a period, after which every |ε| is back.
    """
    step = (step.repeat_interleave(weights.chains) * (1 - 0.5 * noise.uniform()))[:, None]
    start = noise.normal(state.noise.shape[1])
    moved, momentum = state, start + 0.5 * step * state.force(beta)
    for last in (*[False] * (LEAPFROG_STEPS - 1), True):
        moved = weights.at(moved.noise + step * momentum)
        momentum = momentum + (0.5 if last else 1.0) * step * moved.force(beta)
    kinetic = 0.5 * (start.square() - momentum.square()).sum(1)
    # A proposal that has left the range of numbers is rejected.
    log_ratio = (moved.log_density(beta) - state.log_density(beta) + kinetic).nan_to_num(
        -math.inf, math.inf, -math.inf
    )
    accepted = noise.uniform().log() < log_ratio
    chosen = (
        torch.where(accepted.view(-1, *[1] * (new.dim() - 1)), new, old)
        for new, old in zip(moved, state, strict=True)
    )
    return _State(*chosen), weights.mean(log_ratio.clamp(max=0).exp())


def _chunks(
    model: LatentVariableModel,
    images: Tensor,
    to_float: Callable[[Tensor], Tensor],
    chains: int,
    memory_mib: float,
    start: Start,
    *labels: Tensor,
) -> Iterator[tuple[_Weights, _Noise]]:
    """As many images at a time as memory holds, with their noise."""
    floats = memory_mib * 2**20 / 4
    row = _floats_of_a_row(model, to_float(images[:1]), start, *(each[:1] for each in labels))
    count = max(1, int(min(floats / (row * chains), floats / model.image_floats)))
    seeds: list[int] = torch.randint(2**62, (len(images),)).tolist()
    for first in range(0, len(images), count):
        stored, *own = (each[first : first + count] for each in (images, *labels))
        x = to_float(stored)
        yield _Weights(model, x, chains, start, *own), _Noise(seeds[first : first + count], chains, x)


def _floats_of_a_row(model: LatentVariableModel, x: Tensor, start: Start, *labels: Tensor) -> float:
    """Numbers that a chain needs at a time: what the gradient of log w keeps for a row more, and temporaries."""
    kept = []
    for rows in (1, 2):
        weights = _Weights(model, x, rows, start, *labels)
        seen: list[int] = []

        def keep(tensor: Tensor, seen: list[int] = seen) -> Tensor:
            seen.append(tensor.numel())
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            weights.log_weight(torch.zeros_like(weights.code.mu).requires_grad_())
        kept.append(sum(seen))
    return kept[1] - kept[0] + model.latent_floats
