"""Losses of a normalizing flow q: from samples of p, or from the energy of p ∝ exp(−U).

Rezende & Mohamed 2015 (arXiv 1505.05770), section 4 and eq. 20.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from genbench.registry import PositiveInt, register

__all__ = ["FreeEnergy", "NegativeLogLikelihood"]

ANNEAL_START = 0.01


@register("loss", "nll")
@dataclass(kw_only=True)
class NegativeLogLikelihood:
    """−log q(x) for x ~ p: on average the cross entropy H(p) + KL(p ‖ q)."""

    def of_samples(self, log_q: Tensor) -> Tensor:
        """Per sample, [B], in nats; `log_q` of samples of p."""
        return -log_q


@register("loss", "free-energy")
@dataclass(kw_only=True)
class FreeEnergy:
    """log q(x) + β U(x) for x ~ q: on average KL(q ‖ p) − log Z where β = 1.

    β_t = min(1, 0.01 + t/anneal_steps) at step t, or 1 without annealing. A reverse KL ignores modes where q has
    no samples, and without annealing q often finds only one.
    """

    anneal: bool = True
    anneal_steps: PositiveInt = 10_000

    def beta(self, step: int) -> float:
        return min(1.0, ANNEAL_START + step / self.anneal_steps) if self.anneal else 1.0

    def of_energies(self, log_q: Tensor, energy: Tensor, beta: float | Tensor = 1.0) -> Tensor:
        """Per sample, [B], in nats; `log_q` and `energy` of samples of q."""
        return log_q + beta * energy
