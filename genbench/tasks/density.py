"""Density estimation: a flow fitted to samples by maximum likelihood, judged by its negative log-likelihood."""

from __future__ import annotations

import torch
from torch import Tensor

from genbench.engine.measurement import Measurement, Quantity
from genbench.metrics.plane import judge_log_prob
from genbench.registry import register
from genbench.tasks.base import Parts, require
from genbench.tasks.plane import MASS, PlaneTask

__all__ = ["Density"]


@register("task", "density")
class Density(PlaneTask):
    """A flow on samples of a target in the plane, whose entropy is what no NLL can fall below.

    `compile` runs the objective and its gradients as one compiled graph.
    """

    quantities = (
        Quantity("test/nll", "test NLL", "nats", "lower", 3, "entropy, no NLL is below"),
        Quantity("valid/nll", "validation NLL", "nats", "lower", 3),
        Quantity("test/kl", "KL(p ‖ q)", "nats", "lower", 4),
        MASS,
    )
    curve, quantity = "nll", "NLL (nats)"

    def __init__(self, parts: Parts, *, compile: bool = False) -> None:
        require(parts.loss, "loss", "density", "of_samples")
        super().__init__(parts, "density")
        self._gradients = parts.gradients(self._objective, self.model, compile)

    def _objective(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.loss.of_samples(self.model.log_prob(x)).mean()
        return loss, {"train/nll": loss}

    def training_step(self, batch: Tensor) -> dict[str, Tensor]:
        values = self._gradients(batch)
        self.optimizer.step()
        return values

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, Measurement]:
        """NLL of all points of a split, beside the target's entropy; at the end KL(p ‖ q) and the density's mass."""
        points = self.dataset.split(split)
        judged = judge_log_prob(self.model.log_prob(points), points, self.target)
        if split == "valid":
            return {"valid/nll": judged["nll"]}
        return {f"test/{name}": measurement for name, measurement in judged.items()} | self.mass()
