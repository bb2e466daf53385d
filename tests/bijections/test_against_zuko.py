"""Couplings and autoregressive maps beside those of zuko, an independent library, with the same networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Transform
from zuko.transforms import (
    AutoregressiveTransform,
    CouplingTransform,
    DependentTransform,
    MonotonicAffineTransform,
    PermutationTransform,
)

from genbench.bijections.autoregressive import InverseAutoregressive, MaskedAutoregressive
from genbench.bijections.base import Bijection
from genbench.bijections.coupling import AffineCoupling, checkerboard_mask
from genbench.bijections.shape import Permutation


class Exponential(MonotonicAffineTransform):
    """y = x exp(s) + t, without zuko's bound on s."""

    def __init__(self, shift: Tensor, log_scale: Tensor) -> None:
        Transform.__init__(self)
        self.shift, self.log_scale, self.scale = shift, log_scale, log_scale.exp()


pytestmark = pytest.mark.usefixtures("float64")


def same(own: Bijection, other: Transform, x: Tensor) -> None:
    y, log_det = other.call_and_ladj(x)
    torch.testing.assert_close(own(x), (y, log_det), rtol=1e-10, atol=1e-10)
    back, inverse = other.inv.call_and_ladj(y)
    torch.testing.assert_close(own.inverse(y), (back, inverse), rtol=1e-10, atol=1e-10)


def test_coupling() -> None:
    mask = checkerboard_mask((6,))
    coupling = AffineCoupling(mask, nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 12)))
    with torch.no_grad():
        coupling.log_scale_bound.mul_(0.7)

    def meta(shown: Tensor) -> Transform:
        x = torch.zeros(*shown.shape[:-1], 6).masked_scatter(mask, shown)
        raw, shift = coupling.conditioner(x).chunk(2, dim=-1)
        log_scale = coupling.log_scale_bound * raw.tanh()
        return DependentTransform(Exponential(shift[..., ~mask], log_scale[..., ~mask]), 1)

    same(coupling, CouplingTransform(meta, mask), torch.randn(5, 6))


@pytest.mark.parametrize("kind", [MaskedAutoregressive, InverseAutoregressive])
def test_autoregressive(kind: type[MaskedAutoregressive] | type[InverseAutoregressive]) -> None:
    bijection = kind(5, [16, 16])

    def meta(x: Tensor) -> Transform:
        shift, log_scale = bijection.made(x.reshape(-1, 5))
        if kind is MaskedAutoregressive:  # (x − m) exp(−s)
            shift, log_scale = -shift * torch.exp(-log_scale), -log_scale
        else:  # (1 + tanh s) x + m
            log_scale = log_scale.tanh().log1p()
        return DependentTransform(Exponential(shift.view(x.shape), log_scale.view(x.shape)), 1)

    same(bijection, AutoregressiveTransform(meta, passes=5), torch.randn(4, 5))


def test_permutation() -> None:
    order = [2, 0, 3, 1]
    same(Permutation(order), PermutationTransform(torch.tensor(order)), torch.randn(3, 4))
