"""Exact quantities of densities in the plane, by quadrature, and the evaluation of flows against them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from genbench.data.plane import TARGETS, PlaneTarget
from genbench.engine.device import double
from genbench.engine.measurement import Measurement, mean_over
from genbench.metrics.importance import log_normalizer

__all__ = ["Box", "Truth", "energy_truth", "grid", "judge_log_prob", "judge_samples", "quadrature", "sample_truth"]

CHUNK = 2**16  # points evaluated at once
ENERGY_MARGIN = 4.0  # margin around the samples' box that holds the energy's mass
COLLAPSED = 0.1  # missing nats of log Z from which on q counts as collapsed


class Box(NamedTuple):
    """[x0, x1] × [y0, y1]"""

    x0: float
    x1: float
    y0: float
    y1: float

    @classmethod
    def square(cls, extent: float) -> Box:
        return cls(-extent, extent, -extent, extent)

    @classmethod
    def around(cls, points: Tensor) -> Box:
        """The bounding box of points [N, 2], widened by half of its size on every side."""
        low, high = double(points.amin(0)), double(points.amax(0))
        margin = (high - low) / 2
        (x0, y0), (x1, y1) = (low - margin).tolist(), (high + margin).tolist()
        return cls(x0, x1, y0, y1)

    def widened(self, by: float) -> Box:
        return Box(self.x0 - by, self.x1 + by, self.y0 - by, self.y1 + by)


class Truth(NamedTuple):
    """log Z = log ∫ p̃, and the entropy −∫ p log p of p = p̃/Z, in nats."""

    log_z: float
    entropy: float

    @property
    def mass(self) -> float:
        """∫ p̃"""
        return math.exp(self.log_z)


def grid(box: Box, side: int) -> tuple[Tensor, float]:
    """Midpoints of side × side cells, [side², 2] in float64, rows of ascending y; and the area of a cell."""
    x, y = (
        low + (high - low) * (torch.arange(side, dtype=torch.float64) + 0.5) / side
        for low, high in ((box.x0, box.x1), (box.y0, box.y1))
    )
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    area = (box.x1 - box.x0) * (box.y1 - box.y0) / side**2
    return torch.stack([xx, yy], dim=-1).view(-1, 2), area


@torch.no_grad()
def quadrature(log_density: Callable[[Tensor], Tensor], box: Box, side: int = 1000) -> Truth:
    """Midpoint rule on side × side cells. For a smooth density that vanishes at the box's edges it converges faster
    than any power of the step; a jump inside a cell causes an error of the order of the cell.

    Args:
        log_density: log p̃, [B, 2] in float64 → [B]; −∞ outside the support.
        box: holds all of the mass.
        side: cells to a side.
    """
    points, area = grid(box, side)
    log_p = double(torch.cat([log_density(part) for part in points.split(CHUNK)]))
    log_z = torch.logsumexp(log_p, dim=0).item() + math.log(area)
    p = (log_p - log_z).exp()
    surprise = torch.where(p > 0, -p * (log_p - log_z), 0)
    return Truth(log_z, surprise.sum().item() * area)


@cache
def sample_truth(target: str) -> Truth:
    """Of the distribution of `target`'s samples; log Z is that of its `log_prob`."""
    found = TARGETS[target]
    return quadrature(found.log_prob, Box(*found.box), 500)


@cache
def energy_truth(target: str) -> Truth:
    """Of exp(−U), for a target that has an energy."""
    found = TARGETS[target]
    energy = found.energy
    assert energy is not None
    return quadrature(lambda z: -energy(z), Box(*found.box).widened(ENERGY_MARGIN), 500)


@torch.no_grad()
def judge_log_prob(log_q: Tensor, x: Tensor, target: PlaneTarget) -> dict[str, Measurement]:
    """Fit of a density with log q(x) [N] to samples x [N, 2] of the target.

    `nll`, at best the entropy; `kl`, the mean of log p(x) − log q(x), with far less variance than `nll` minus the
    entropy.
    """
    log_q = double(log_q)
    truth = sample_truth(target.name)
    log_p = double(target.log_prob(x)) - truth.log_z
    nll, kl = mean_over(-log_q), mean_over(log_p - log_q)
    return {
        "nll": replace(nll, truth=truth.entropy, least=truth.entropy),
        "kl": replace(kl, truth=0.0, least=0.0),
    }


@torch.no_grad()
def judge_samples(log_q: Tensor, x: Tensor, target: PlaneTarget) -> dict[str, Measurement]:
    """Fit of samples x [N, 2] of q, with log q(x) [N], to the target's energy: all errors are by sampling.

    `free_energy` E_q[log q + U]; `reverse_kl`, its excess over the minimum −log Z; `log_z` by importance sampling,
    with its distance from the truth and the effective sample size (a share of N); `within_box`, the share
    of samples in the target's box; `smallest_mode`, the share of the rarest mode times the number of modes;
    `collapsed`, 1 if more than 0.1 of log Z is missing or a mode holds less than half of its share.
    """
    assert target.energy is not None
    log_weights = -double(target.energy(x)) - double(log_q)
    truth, found = energy_truth(target.name).log_z, log_normalizer(log_weights)
    x0, x1, y0, y1 = target.box
    inside = (x[:, 0] >= x0) & (x[:, 0] <= x1) & (x[:, 1] >= y0) & (x[:, 1] <= y1)
    collapsed = found.log_z < truth - COLLAPSED
    free_energy, log_z = mean_over(-log_weights), Measurement(found.log_z, found.standard_error)
    values = {
        "free_energy": replace(free_energy, truth=-truth, least=-truth),
        "reverse_kl": replace(free_energy, value=truth - log_weights.mean().item(), truth=0.0, least=0.0),
        "log_z": replace(log_z, truth=truth, greatest=truth),
        "log_z_error": replace(log_z, value=abs(found.log_z - truth), truth=0.0),
        "effective_sample_size": Measurement(found.effective_sample_size),
        "within_box": mean_over(double(inside)),
    }
    if target.modes is not None:
        modes = target.modes(x)
        rarest = torch.bincount(modes, minlength=target.mode_count).argmin()
        share = mean_over(double(modes == rarest)).scaled(target.mode_count)
        values["smallest_mode"] = replace(share, truth=1.0, greatest=1.0)
        collapsed |= share.value < 0.5
    values = {name: replace(found, monte_carlo_error=found.standard_error) for name, found in values.items()}
    return values | {"collapsed": Measurement(float(collapsed))}
