"""Two parallel line segments at distance θ: distributions with disjoint supports and known divergences.

    p = (0, u)        q = (θ, v)        u, v ~ U[0, 1]

Arjovsky, Chintala & Bottou 2017 (arXiv 1701.07875), example 1; report 001, problem 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from genbench.data.dataset import Dataset, as_stored
from genbench.registry import NonNegativeFloat, register

__all__ = ["ParallelLines", "lines"]

SEED = 2020


@dataclass(frozen=True)
class ParallelLines(Dataset):
    """Rows [2, 2]: a sample of p and one of q, each (x, y)."""

    theta: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample of p or q."""
        return tuple(self.train.shape[2:])


@register("dataset", "lines")
def lines(root: Path, *, theta: NonNegativeFloat = 1.0) -> ParallelLines:
    """262,144 / 10,000 / 10,000 independent pairs; needs no files."""
    generator = torch.Generator().manual_seed(SEED)

    def pairs(count: int) -> Tensor:
        x = torch.tensor([0.0, theta]).expand(count, 2)
        return torch.stack([x, torch.rand(count, 2, generator=generator)], dim=-1)

    return ParallelLines(
        name="lines",
        train=pairs(2**18),
        valid=pairs(10_000),
        test=pairs(10_000),
        to_float=as_stored,
        binary=False,
        protocol={"split": "262144/10000/10000 pairs", "theta": f"{theta:g}"},
        theta=theta,
    )
