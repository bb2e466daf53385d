"""Convolutions one row or one position at a time, for sampling: each caches the inputs within its reach."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["ColumnWindow", "RowWindow", "by_column"]


class RowWindow:
    """The latest rows of N images, as many as the kernel has, and the convolution of these rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None, count: int, width: int) -> None:
        """weight: [outputs, inputs, rows, columns]"""
        self.weight, self.bias = weight, bias
        self.rows = weight.new_zeros(count, weight.shape[1], weight.shape[2], width)

    def push(self, row: Tensor) -> Tensor:
        """A new row [N, inputs, 1, W], in place of the oldest → [N, outputs, 1, W]."""
        self.rows = torch.cat([self.rows[:, :, 1:], row], dim=2)
        return F.conv2d(self.rows, self.weight, self.bias, padding=(0, self.weight.shape[3] // 2))


class ColumnWindow:
    """The current row of N images, and the convolution of its columns up to a position."""

    def __init__(self, weight: Tensor, reach: int, count: int, width: int) -> None:
        """weight: [outputs, inputs, columns], whose first column lies `reach` left of the position."""
        self.reach, self.columns = reach, weight.shape[2]
        self.matrix = weight.permute(2, 1, 0).flatten(0, 1)
        self.known = weight.new_zeros(count, reach + width, weight.shape[1])

    def put(self, column: int, x: Tensor) -> None:
        """x: [N, inputs]"""
        self.known[:, self.reach + column] = x

    def output(self, column: int, start: Tensor) -> Tensor:
        """start [N, outputs] plus the convolution."""
        return torch.addmm(start, self.known[:, column : column + self.columns].flatten(1), self.matrix)

    def row(self) -> Tensor:
        """[N, inputs, 1, W]"""
        return self.known[:, None, self.reach :].permute(0, 3, 1, 2)


def by_column(row: Tensor) -> Tensor:
    """[N, C, 1, W] → [W, N, C]."""
    return row[:, :, 0].permute(2, 0, 1).contiguous()
