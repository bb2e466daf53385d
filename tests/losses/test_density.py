"""Losses of flows, on a density whose every expectation is known."""

from __future__ import annotations

import math

import pytest
import torch

from genbench.losses.density import FreeEnergy, NegativeLogLikelihood


def test_beta_rises_from_a_hundredth_to_one() -> None:
    loss = FreeEnergy()
    expected = {0: 0.01, 1: 0.0101, 4900: 0.5, 9899: 0.9999, 9900: 1.0, 10**6: 1.0}
    assert {step: loss.beta(step) for step in expected} == pytest.approx(expected, abs=1e-12)
    assert FreeEnergy(anneal_steps=10).beta(5) == pytest.approx(0.51)
    assert {FreeEnergy(anneal=False).beta(step) for step in (0, 5, 10**6)} == {1.0}


@pytest.mark.parametrize("beta", [0.01, 0.4, 1.0])
def test_gradients_of_a_normal_density_on_a_parabola(beta: float) -> None:
    """x = μ + σz and U = x²/2, so that E[log q + βU] = −log σ + β (μ² + σ²)/2 + …; z has moments 0 and 1 exactly."""
    mean, deviation = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.7, 1.9))
    z = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    x = mean + deviation * z
    log_q = -z.square() / 2 - deviation.log() - math.log(2 * math.pi) / 2
    FreeEnergy().of_energies(log_q, x.square() / 2, beta).mean().backward()
    assert mean.grad is not None
    assert deviation.grad is not None
    assert mean.grad.item() == pytest.approx(beta * 0.7)
    assert deviation.grad.item() == pytest.approx(beta * 1.9 - 1 / 1.9)


def test_nll_is_minus_log_q() -> None:
    log_q = torch.tensor([-1.5, 0.25])
    assert NegativeLogLikelihood().of_samples(log_q).tolist() == [1.5, -0.25]
