"""Densities in the plane: energies by hand, truths in closed form, samplers against their density."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from genbench.data.plane import SPLITS, TARGETS, PlaneTarget, arcs_energy, plane, sine_energy
from genbench.metrics.plane import Box, energy_truth, grid, quadrature, sample_truth

EVERY = pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))


def test_truths_are_the_known_ones() -> None:
    arcs, sine = sample_truth("arcs"), sample_truth("sine")
    assert (arcs.log_z, arcs.entropy) == pytest.approx((1.87750, 2.66001), abs=1e-5)
    assert arcs.mass == pytest.approx(6.53715, abs=1e-5)
    assert (sine.log_z, sine.entropy) == pytest.approx((2.30523, 2.80523), abs=1e-5)


def test_truths_in_closed_form() -> None:
    gaussian = 0.5 * math.log(2 * math.pi * 0.4**2)
    assert sample_truth("sine").entropy == pytest.approx(math.log(10) + gaussian + 0.5, abs=1e-9)
    walls = 0.4 * math.sqrt(2 * math.pi)  # half a Gaussian on either side
    assert energy_truth("sine").log_z == pytest.approx(math.log(10 + walls) + gaussian, abs=1e-6)
    assert energy_truth("eight-gaussians").log_z == pytest.approx(math.log(8) + 2 * gaussian, abs=1e-9)
    assert sample_truth("checkerboard").entropy == pytest.approx(math.log(32), abs=1e-9)
    assert energy_truth("arcs") == pytest.approx(sample_truth("arcs"), abs=1e-9)


def arcs_by_hand(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    bumps = sum(np.exp(-0.5 * ((x - side) / 0.6) ** 2) for side in (2, -2))
    return np.exp(-0.5 * ((np.hypot(x, y) - 2) / 0.4) ** 2) * bumps


def sine_by_hand(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    walls = np.maximum(np.abs(x) - 5, 0)
    return np.exp(-0.5 * ((y - np.sin(2 * np.pi * x / 4)) / 0.4) ** 2 - 0.5 * (walls / 0.4) ** 2)


def eight_by_hand(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    centres = [(3 * np.cos(k * np.pi / 4), 3 * np.sin(k * np.pi / 4)) for k in range(8)]
    return sum(np.exp(-0.5 * ((x - a) ** 2 + (y - b) ** 2) / 0.16) for a, b in centres)


def moons_by_hand(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The integral over each half circle by 64 Gauss–Legendre nodes, as its docstring writes it."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    total = np.zeros_like(x)
    for t, weight in zip(np.pi * (nodes + 1) / 2, np.pi * weights / 2, strict=True):
        a, b = 2 * np.cos(t) - 1, 2 * np.sin(t) - 0.5
        for side in (1, -1):
            total += weight * np.exp(-0.5 * ((x - side * a) ** 2 + (y - side * b) ** 2) / 0.0625)
    return total


BY_HAND = {"arcs": arcs_by_hand, "sine": sine_by_hand, "eight-gaussians": eight_by_hand, "two-moons": moons_by_hand}


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.energy])
def test_log_z_and_entropy_by_another_quadrature(name: str) -> None:
    """Of densities written out from the docstrings, by Gauss–Legendre panels: constants included."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    edges = np.arange(-8.0, 8.0, 0.5)
    axis = (edges[:, None] + 0.25 * (nodes + 1)).ravel()
    weight = np.tile(0.25 * weights, len(edges))
    x, y = np.meshgrid(axis, axis)
    area = np.outer(weight, weight)
    p = BY_HAND[name](x, y)
    z = (area * p).sum()
    entropy = -(area * np.where(p > 0, p / z * np.log(np.maximum(p / z, 1e-300)), 0)).sum()
    assert energy_truth(name) == pytest.approx((math.log(z), entropy), abs=2e-6)
    points = torch.tensor([[0.3, 0.2], [1.0, -0.4], [2.5, -1.0], [-3.0, 0.5], [5.5, 0.7]], dtype=torch.float64)
    energy = TARGETS[name].energy
    assert energy is not None
    np.testing.assert_allclose(energy(points), -np.log(BY_HAND[name](*points.numpy().T)), rtol=1e-6, atol=1e-6)


def test_two_moons_are_normalized_by_a_known_constant() -> None:
    """Two half circles of length π in t, each point of them smeared by a normal density up to 2π · 0.25²."""
    found = energy_truth("two-moons")
    assert found.log_z == pytest.approx(2 * math.log(math.pi / 2), abs=1e-9)
    assert found.log_z == pytest.approx(0.90317, abs=1e-5)
    assert found.entropy == pytest.approx(2.622977, abs=5e-6)


def test_energies_by_hand() -> None:
    z = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, -1.0]], dtype=torch.float64)
    for point, value in zip(z.tolist(), arcs_energy(z).tolist(), strict=True):
        bumps = sum(math.exp(-0.5 * ((point[0] - side) / 0.6) ** 2) for side in (2, -2))
        assert value == pytest.approx(0.5 * ((math.hypot(*point) - 2) / 0.4) ** 2 - math.log(bumps), abs=1e-12)
    at = torch.tensor([[1.0, 0.6], [5.8, 0.0]], dtype=torch.float64)
    wall, wave = 0.5 * (0.8 / 0.4) ** 2, math.sin(2 * math.pi * 5.8 / 4)
    expected = [0.5 * ((0.6 - 1) / 0.4) ** 2, 0.5 * (wave / 0.4) ** 2 + wall]
    assert sine_energy(at).tolist() == pytest.approx(expected, abs=1e-12)


@EVERY
def test_samples_have_the_density(target: PlaneTarget) -> None:
    """Shares of the samples in cells of a coarse grid against the mass that quadrature finds there."""
    x = target.sample(100_000, torch.Generator().manual_seed(1)).double()
    box, coarse, fine = Box.square(4), 8, 25
    points, area = grid(box, coarse * fine)
    p = (target.log_prob(points).double() - sample_truth(target.name).log_z).exp() * area
    mass = p.view(coarse, fine, coarse, fine).sum((1, 3)).flatten()
    cell = ((x + 4) / 8 * coarse).floor().long()
    inside = ((cell >= 0) & (cell < coarse)).all(1)
    share = torch.bincount(cell[inside, 1] * coarse + cell[inside, 0], minlength=coarse**2) / len(x)
    error = (mass * (1 - mass) / len(x)).sqrt()
    assert ((share - mass).abs() <= 5 * error + 1e-6).all()


@EVERY
def test_samples_have_the_entropy(target: PlaneTarget) -> None:
    truth, x = sample_truth(target.name), target.sample(100_000, torch.Generator().manual_seed(2)).double()
    surprise = truth.log_z - target.log_prob(x).double()
    assert abs(surprise.mean().item() - truth.entropy) <= 4 * surprise.std().item() / math.sqrt(len(x)) + 1e-6


@EVERY
def test_energies_and_their_gradients_are_finite_everywhere(target: PlaneTarget) -> None:
    if target.energy is None:
        pytest.skip("has no energy")
    axis = torch.tensor([0.0, 1e-30, -1e-20, 1e-6, 0.3, -2.0, 8.0, -12.0, 100.0, -1e4, 1e8, -1e18])
    z = torch.cartesian_prod(axis, axis).requires_grad_()
    value = target.energy(z)
    value.sum().backward()
    assert value.isfinite().all() and z.grad is not None and z.grad.isfinite().all()
    assert value.dtype == torch.float32


@EVERY
def test_modes_share_the_samples(target: PlaneTarget) -> None:
    if target.modes is None:
        assert target.mode_count == 1
        return
    x = target.sample(20_000, torch.Generator().manual_seed(3))
    shares = torch.bincount(target.modes(x), minlength=target.mode_count) / len(x)
    assert len(shares) == target.mode_count
    assert (shares * target.mode_count - 1).abs().max() < 0.1


@pytest.mark.parametrize(
    ("name", "centres"),
    [
        ("arcs", [(2.0, 0.0), (-2.0, 0.0)]),
        ("eight-gaussians", [(3 * math.cos(k * math.pi / 4), 3 * math.sin(k * math.pi / 4)) for k in range(8)]),
    ],
)
def test_every_mode_lies_around_its_centre(name: str, centres: list[tuple[float, float]]) -> None:
    modes, here = TARGETS[name].modes, torch.tensor(centres)
    assert modes is not None
    labels = modes(here)
    assert sorted(labels.tolist()) == list(range(TARGETS[name].mode_count))
    for angle in range(8):
        aside = 0.6 * torch.tensor([math.cos(angle), math.sin(angle)])
        assert torch.equal(modes(here + aside), labels)


def test_the_box_holds_the_mass() -> None:
    for target in TARGETS.values():
        jumps = target.name in ("sine", "checkerboard")  # the midpoint rule needs more cells for them
        inner = sample_truth(target.name).log_z
        outer = quadrature(target.log_prob, Box(*target.box).widened(1.0), 900 if jumps else 300).log_z
        assert outer == pytest.approx(inner, abs=1e-3 if jumps else 1e-8)


def test_splits_differ(tmp_path) -> None:
    data = plane(tmp_path, target="sine")
    assert [len(data.split(split)) for split in SPLITS] == list(SPLITS.values())
    assert data.shape == (2,)
    assert not torch.equal(data.train[:100], data.valid[:100])
