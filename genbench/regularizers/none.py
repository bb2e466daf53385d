"""No penalty."""

from __future__ import annotations

from dataclasses import dataclass

from genbench.registry import register
from genbench.regularizers.base import Regularizer

__all__ = ["NoRegularizer"]


@register("regularizer", "none")
@dataclass(kw_only=True)
class NoRegularizer(Regularizer):
    """The unregularized game."""
