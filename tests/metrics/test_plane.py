"""What flows in the plane are judged by cannot be better than the truth."""

from __future__ import annotations

import math

import pytest
import torch

from genbench.config import Reference
from genbench.data.plane import TARGETS
from genbench.engine.measurement import verdict
from genbench.metrics.plane import Box, energy_truth, grid, judge_log_prob, judge_samples, sample_truth


def test_a_density_of_too_much_mass_is_impossible() -> None:
    """log q too high by 0.2 nats: below the entropy, and a divergence below 0."""
    target = TARGETS["arcs"]
    x = target.sample(20_000, torch.Generator().manual_seed(0)).double()
    log_p = target.log_prob(x) - sample_truth("arcs").log_z
    for excess, expected in ((-0.2, False), (0.0, False), (0.2, True)):
        judged = judge_log_prob(log_p + excess, x, target)
        assert {name: found.impossible for name, found in judged.items()} == {"nll": expected, "kl": expected}
    published = Reference("test/nll", sample_truth("arcs").entropy, "quadrature", tolerance=0.05, better="lower")
    assert [verdict(published, judge_log_prob(log_p + c, x, target)["nll"]) for c in (0.0, 0.2)] == [
        "reached",
        "impossible",
    ]


def test_samples_whose_density_is_told_too_low_are_impossible() -> None:
    """log q too low by 0.2 nats makes log Z too high, and the free energy lower than −log Z. Of a density that is
    exact all weights are equal, and log Z is what it is."""
    target, truth = TARGETS["arcs"], energy_truth("arcs").log_z
    assert target.energy is not None
    points, _ = grid(Box(*target.box), 400)
    log_p = -target.energy(points) - truth
    chosen = torch.multinomial(log_p.exp(), 20_000, replacement=True, generator=torch.Generator().manual_seed(0))
    x, log_q = points[chosen], log_p[chosen]
    for excess, expected in ((0.2, set()), (0.0, set()), (-0.2, {"free_energy", "reverse_kl", "log_z"})):
        judged = judge_samples(log_q + excess, x, target)
        assert {name for name, found in judged.items() if found.impossible} == expected
        assert judged["within_box"].monte_carlo_error == judged["within_box"].standard_error


def test_samples_of_the_target_have_all_of_it_and_half_of_them_half() -> None:
    """Of one arc alone, half of Z is missing: log 2 of log Z."""
    target, truth = TARGETS["arcs"], energy_truth("arcs").log_z
    assert target.energy is not None
    assert target.modes is not None
    points, _ = grid(Box(*target.box), 400)
    log_p = -target.energy(points) - truth
    chosen = torch.multinomial(log_p.exp(), 20_000, replacement=True, generator=torch.Generator().manual_seed(0))
    x, log_q = points[chosen], log_p[chosen]
    whole = judge_samples(log_q, x, target)
    rarest = whole["smallest_mode"]
    assert rarest.standard_error is not None
    assert abs(rarest.value - 1) < 4 * rarest.standard_error
    assert rarest.standard_error == pytest.approx(1 / 20_000**0.5, rel=0.01)  # 2 √(¼ / N)
    assert (whole["collapsed"].value, whole["within_box"].value) == (0.0, 1.0)
    arc = target.modes(x) == 1
    half = judge_samples(log_q[arc] + math.log(2), x[arc], target)
    assert half["log_z_error"].value == pytest.approx(math.log(2), abs=1e-6)
    assert (half["smallest_mode"].value, half["collapsed"].value) == (0.0, 1.0)
    outside = x.clone()
    outside[:3000, 1] = 50.0
    assert judge_samples(log_q, outside, target)["within_box"].value == 0.85
