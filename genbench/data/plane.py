"""Densities in the plane, p(z) = exp(−U(z)) / Z, with exact samplers.

`arcs` and `sine` are those of report 000, problem 3, in the tradition of Rezende & Mohamed 2015 (arXiv 1505.05770,
table 1); two moons, eight Gaussians and the checkerboard are common benchmarks (FFJORD, arXiv 1810.01367).
Every energy and its gradient are finite in float32 at every point with coordinates within ±1e18.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from genbench.data.dataset import Dataset, as_stored
from genbench.registry import OneOf, register

__all__ = ["TARGETS", "PlaneDataset", "PlaneTarget", "plane"]

SEED = 2020
SPLITS = {"train": 2**18, "valid": 10_000, "test": 100_000}
BOX = 5.0  # ends the sine, which is infinite in z₁

Draw = Callable[[int, torch.Generator], Tensor]
PointFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class PlaneTarget:
    """A distribution of points in the plane.

    Attributes:
        sample: (n, generator) → [n, 2], exact.
        energy: U, [B, 2] → [B]; None if it would be infinite somewhere.
        log_prob: [B, 2] → [B], the log-density of the samples up to a constant; may be −∞.
        modes: [B, 2] → the mode [B] (0, 1, …) that each point belongs to; None if there is only one.
        box: (x0, x1, y0, y1) with all but 1e-9 of the samples' mass.
    """

    name: str
    sample: Draw
    log_prob: PointFunction
    energy: PointFunction | None = None
    modes: PointFunction | None = None
    mode_count: int = 1
    box: tuple[float, float, float, float] = (-7.0, 7.0, -7.0, 7.0)


@dataclass(frozen=True)
class PlaneDataset(Dataset):
    """Points [N, 2] of a target."""

    target: PlaneTarget = field(kw_only=True)


# ---------------------------------------------------------------------------------------------------------- arcs


def arcs_energy(z: Tensor) -> Tensor:
    """U = ½((‖z‖ − 2)/0.4)² − log(exp(−½((z₁ − 2)/0.6)²) + exp(−½((z₁ + 2)/0.6)²))"""
    # hypot's gradient at the origin is 0/0, so points are kept a little away from it.
    radius = torch.hypot(z[:, 0], z[:, 1].abs().clamp(min=torch.finfo(z.dtype).tiny ** 0.5))
    ring = 0.5 * ((radius - 2) / 0.4).square()
    right, left = (-0.5 * ((z[:, 0] - side) / 0.6).square() for side in (2, -2))
    return ring - torch.logaddexp(right, left)


def sample_arcs(count: int, generator: torch.Generator) -> Tensor:
    """Exact, by two rejections.

    The radius has the density r exp(−½((r − 2)/0.4)²); its envelope is N(2.08, 0.4²), as log r ≤ log 2 + (r − 2)/2.
    The angle is uniform; z is accepted with the sum of the two Gaussians in z₁ over its bound 1 + exp(−½(2/0.6)²).
    """
    found: list[Tensor] = []
    while sum(map(len, found)) < count:
        radius = 2.08 + 0.4 * torch.randn(2 * count, generator=generator)
        angle, first, second = torch.rand(3, 2 * count, generator=generator)
        kept = first < radius / 2 * torch.exp(1 - radius / 2)  # false for a negative radius
        radius, angle, second = radius[kept], 2 * math.pi * angle[kept], second[kept]
        z = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        bumps = sum(torch.exp(-0.5 * ((z[:, 0] - side) / 0.6).square()) for side in (2, -2))
        found.append(z[second * (1 + math.exp(-0.5 * (2 / 0.6) ** 2)) < bumps])
    return torch.cat(found)[:count]


# ---------------------------------------------------------------------------------------------------------- sine


def _wave(z1: Tensor) -> Tensor:
    return torch.sin(2 * math.pi * z1 / 4)


def sine_energy(z: Tensor) -> Tensor:
    """U = ½((z₂ − sin(2πz₁/4))/0.4)² + ½(max(0, |z₁| − 5)/0.4)²

    We add the second term, which is 0 within the box: the first alone cannot be normalized, as it is periodic in z₁.
    """
    return 0.5 * ((z[:, 1] - _wave(z[:, 0])) / 0.4).square() + 0.5 * (F.relu(z[:, 0].abs() - BOX) / 0.4).square()


def boxed_sine(z: Tensor) -> Tensor:
    """log p of the samples up to a constant: −∞ outside of |z₁| ≤ 5."""
    return torch.where(z[:, 0].abs() <= BOX, -sine_energy(z), -math.inf)


def sample_sine(count: int, generator: torch.Generator) -> Tensor:
    """z₁ ~ U[−5, 5],   z₂ ~ N(sin(2πz₁/4), 0.4²)"""
    z1 = BOX * (2 * torch.rand(count, generator=generator) - 1)
    return torch.stack([z1, _wave(z1) + 0.4 * torch.randn(count, generator=generator)], dim=1)


# ---------------------------------------------------------------------------------------- common benchmarks


def _eight_centres(like: Tensor) -> Tensor:
    angle = torch.arange(8, dtype=like.dtype, device=like.device) * math.pi / 4
    return 3 * torch.stack([angle.cos(), angle.sin()], dim=1)


def eight_gaussians_energy(z: Tensor) -> Tensor:
    """U = −log Σ_j exp(−½ ‖z − c_j‖²/0.4²), centres on a circle of radius 3"""
    return -torch.logsumexp(-0.5 * ((z[:, None] - _eight_centres(z)) / 0.4).square().sum(2), dim=1)


def sample_eight_gaussians(count: int, generator: torch.Generator) -> Tensor:
    noise = 0.4 * torch.randn(count, 2, generator=generator)
    return _eight_centres(noise)[torch.randint(8, (count,), generator=generator)] + noise


def nearest_of_eight(z: Tensor) -> Tensor:
    return (z[:, None] - _eight_centres(z)).square().sum(2).argmin(1)


MOON_SPREAD, MOON_NODES = 0.25, 100


def _moons(t: Tensor) -> Tensor:
    """Points of both half circles of radius 2 at the angles t [N]: [2, N, 2]."""
    upper = torch.stack([2 * t.cos() - 1, 2 * t.sin() - 0.5], dim=1)
    return torch.stack([upper, -upper])


def two_moons_energy(z: Tensor) -> Tensor:
    """U = −log Σ_j ∫₀^π exp(−½ ‖z − m_j(t)‖²/0.25²) dt, so that Z = (π/2)²

    The integral by the midpoint rule in u with t = πu − ½ sin 2πu: dt/du = 2π sin² πu vanishes at both ends of the
    moons, where the rule would be off by 1e-3 in t.
    """
    u = (torch.arange(MOON_NODES, dtype=z.dtype, device=z.device) + 0.5) / MOON_NODES
    t = math.pi * u - 0.5 * torch.sin(2 * math.pi * u)
    log_weight = (2 * math.pi / MOON_NODES * torch.sin(math.pi * u).square()).log()
    # One coordinate at a time, [B, moon, node]: sums over a dimension of two numbers would take most of the time.
    across, along = ((z[:, i, None, None] - _moons(t)[..., i]) / MOON_SPREAD for i in range(2))
    return -torch.logsumexp(log_weight - 0.5 * (across.square() + along.square()), dim=(1, 2))


def sample_two_moons(count: int, generator: torch.Generator) -> Tensor:
    t = math.pi * torch.rand(count, generator=generator)
    side = torch.randint(2, (count,), generator=generator)
    return _moons(t)[side, torch.arange(count)] + MOON_SPREAD * torch.randn(count, 2, generator=generator)


def checkerboard_log_prob(z: Tensor) -> Tensor:
    """Up to a constant: uniform on every second square of a board with squares of side 2 in [−4, 4]²."""
    dark = (z / 2).floor().sum(1).remainder(2) == 0
    return torch.where(dark & (z.abs() < 4).all(1), 0.0, -math.inf)


def sample_checkerboard(count: int, generator: torch.Generator) -> Tensor:
    column = torch.randint(4, (count,), generator=generator)
    row = 2 * torch.randint(2, (count,), generator=generator) + column % 2
    corner = 2.0 * torch.stack([column, row], dim=1) - 4
    return corner + 2 * torch.rand(count, 2, generator=generator)


def _with_energy(
    name: str, sample: Draw, energy: PointFunction, modes: PointFunction | None = None, count: int = 1
) -> PlaneTarget:
    """A target whose samples have the density exp(−U)/Z."""
    return PlaneTarget(name, sample, lambda z: -energy(z), energy, modes, count)


TARGETS: dict[str, PlaneTarget] = {
    target.name: target
    for target in (
        _with_energy("arcs", sample_arcs, arcs_energy, lambda z: (z[:, 0] > 0).long(), 2),
        PlaneTarget("sine", sample_sine, boxed_sine, sine_energy, box=(-BOX, BOX, -6.0, 6.0)),
        _with_energy("two-moons", sample_two_moons, two_moons_energy),
        _with_energy("eight-gaussians", sample_eight_gaussians, eight_gaussians_energy, nearest_of_eight, 8),
        PlaneTarget("checkerboard", sample_checkerboard, checkerboard_log_prob, box=(-4.0, 4.0, -4.0, 4.0)),
    )
}


@register("dataset", "plane")
def plane(root: Path, *, target: Annotated[str, OneOf(*TARGETS)] = "arcs") -> PlaneDataset:
    """262,144 / 10,000 / 100,000 points [N, 2] of a density in the plane; needs no files."""
    generator = torch.Generator().manual_seed(SEED)
    splits = {split: TARGETS[target].sample(count, generator) for split, count in SPLITS.items()}
    return PlaneDataset(
        name=target,
        train=splits["train"],
        valid=splits["valid"],
        test=splits["test"],
        to_float=as_stored,
        binary=False,
        protocol={"split": "/".join(str(count) for count in SPLITS.values()) + " points"},
        target=TARGETS[target],
    )
