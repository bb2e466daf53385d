"""The interface of bijections, their composition and inversion.

    p_y(y) = p_x(x) / |det ∂y/∂x|,   y = f(x)

`forward` and `inverse` each return log |det| of their own direction, one value per sample, so at matching points
the two log-determinants cancel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from genbench.errors import GenbenchError

__all__ = ["Bijection", "Compose", "Inverse", "InverseNotAvailable", "softplus", "sum_event"]


class InverseNotAvailable(GenbenchError, NotImplementedError):
    """The inverse of a map cannot be computed."""

    exit_code = 2


class Bijection(nn.Module):
    """An invertible map of events, batched along the first dimension.

    `context`, [B, …], is a second input of conditional maps; the others ignore it.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y = f(x).

        Args:
            x: [B, *event]
            context: [B, …] or None

        Returns:
            y [B, *event], log |det ∂y/∂x| [B]
        """
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x = f⁻¹(y).

        Args:
            y: [B, *event]
            context: [B, …] or None

        Returns:
            x [B, *event], log |det ∂x/∂y| [B]

        Raises:
            InverseNotAvailable: if the inverse cannot be computed.
        """
        raise InverseNotAvailable(f"{type(self).__name__} has no inverse")


class Compose(Bijection):
    """f = f_K ∘ … ∘ f_1; log-determinants add up. The inverse goes through the parts in reverse order."""

    def __init__(self, parts: Iterable[Bijection]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def __iter__(self) -> Iterator[Bijection]:
        for part in self.parts:
            assert isinstance(part, Bijection)
            yield part

    def __len__(self) -> int:
        return len(self.parts)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for part in self:
            x, log_det = part(x, context)
            total = total + log_det
        return x, total

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = y.new_zeros(len(y))
        for part in reversed(list(self)):
            y, log_det = part.inverse(y, context)
            total = total + log_det
        return y, total


class Inverse(Bijection):
    """g = f⁻¹, with the same parameters."""

    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = bijection

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.bijection.inverse(x, context)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, log_det = self.bijection(y, context)
        return y, log_det


def sum_event(x: Tensor) -> Tensor:
    """[B, *event] → [B]"""
    return x.flatten(1).sum(1)


def softplus(x: Tensor) -> Tensor:
    """log(1 + eˣ), exact in float64; F.softplus is linear above 20 (error 2e-9)."""
    return -F.logsigmoid(-x)
