"""Gradients of an objective, computed eagerly or as one compiled graph."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from genbench.errors import ConfigError, first_line

__all__ = ["Gradients", "Objective", "forget_compiled"]

REMEDY = "update it, or set task.compile=false"

Objective = Callable[..., tuple[Tensor, dict[str, Tensor]]]
"""Inputs, one row per sample → a scalar to minimize and values to log."""


class Gradients:
    """Calling it stores the gradients of an objective in its parameters' `.grad` and returns the values to log.

    With `compile_for`, inputs of that many rows go through torch.compile, objective and gradients as one graph, after
    a warm-up of several seconds; other lengths (an epoch's smaller last batch) run eagerly. A parameter that the
    objective does not use has gradient 0. With `add`, gradients are added to the existing ones. Raises ConfigError if
    this version of PyTorch cannot compile gradients, or, when called, this objective.
    """

    def __init__(
        self,
        objective: Objective,
        parameters: Iterable[nn.Parameter],
        compile_for: int | None = None,
        add: bool = False,
    ) -> None:
        self._objective, self._parameters = objective, list(parameters)
        self._compile_for, self._add = compile_for, add
        self._compiled = _compile(self._gradients) if compile_for else self._gradients

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        function = self._compiled if len(inputs[0]) == self._compile_for else self._gradients
        values, gradients = function(*inputs)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            if self._add:
                assert parameter.grad is not None
                parameter.grad += gradient
                continue
            # A fused optimizer walks through memory: with another layout it would pair the wrong elements.
            same = gradient.stride() == parameter.stride()
            parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
        return values

    def _gradients(self, *inputs: Tensor) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        # Unlike backward(), this does not accumulate: there is nothing to clear, and the graph compiles as a whole.
        loss, values = self._objective(*inputs)
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True, materialize_grads=True)
        return {name: value.detach() for name, value in values.items()}, gradients


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    from torch._dynamo import config
    from torch._dynamo.exc import Unsupported

    if not hasattr(config, "trace_autograd_ops"):
        raise ConfigError(f"PyTorch {torch.__version__} cannot compile gradients", REMEDY)
    config.trace_autograd_ops = True  # PyTorch's switch for torch.autograd.grad inside a graph
    compiled = torch.compile(function, dynamic=False, fullgraph=True)

    @functools.wraps(function)
    def call(*inputs: Tensor) -> Any:
        try:
            return compiled(*inputs)
        except Unsupported as error:
            reason = first_line(error)
            raise ConfigError(f"PyTorch {torch.__version__} cannot compile this step: {reason}", REMEDY) from error

    return call


def forget_compiled() -> None:
    """Drop all compiled graphs, whose number per process is limited."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
