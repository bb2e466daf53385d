"""A flow fitted to an energy by the reverse Kullback-Leibler divergence, judged by importance-sampled log Z."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from genbench.engine.device import isolated_rng
from genbench.engine.gradients import Gradients
from genbench.engine.task import Record
from genbench.errors import ConfigError
from genbench.metrics.plane import energy_truth, judge_samples
from genbench.registry import register
from genbench.tasks.base import Parts, require
from genbench.tasks.plane import PlaneTask

__all__ = ["Energy", "collapse_note"]


@register("task", "energy")
class Energy(PlaneTask):
    """A flow on the energy of a target in the plane, whose log Z tells how much of it was found.

    `compile` runs the objective and its gradients as one compiled graph.
    """

    directions = {"valid/free_energy": "lower", "test/free_energy": "lower"}
    curve, quantity = "free_energy", "free energy (nats)"
    mass_side = 500  # its density goes through the inverses, which bisect

    def __init__(self, parts: Parts, *, compile: bool = False) -> None:
        require(parts.loss, "loss", "energy", "of_energies", "beta")
        super().__init__(parts, "energy", "push", "draw_base")
        if self.target.energy is None:
            raise ConfigError(
                f"{self.target.name} has no finite energy to learn from",
                "choose dataset.target=arcs, sine, two-moons or eight-gaussians, or task=density",
            )
        self.energy = self.target.energy
        self.protocol |= {"anneal": getattr(self.loss, "anneal", None)}
        self._gradients = Gradients(
            self._objective, self.model.parameters(), compile_for=parts.batch_size if compile else None
        )
        self._step = 0
        # A stream of its own, so that the same seed means the same noise in an ensemble.
        self._generator = torch.Generator(self.device).manual_seed(self.seed)

    def _objective(self, z: Tensor, beta: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x, log_q = self.model.push(z)
        energy = self.energy(x)
        loss = self.loss.of_energies(log_q, energy, beta).mean()
        return loss, {"train/free_energy": (log_q + energy).mean()}

    def training_step(self, batch: Tensor) -> dict[str, Tensor]:
        """The data set's points are not looked at: only how many there are."""
        beta = torch.full((), self.loss.beta(self._step), device=self.device)
        values = self._gradients(self.model.draw_base(len(batch), self._generator), beta)
        self.optimizer.step()
        self._step += 1
        return values

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, float]:
        """Free energy at β = 1 and importance-sampled log Z from as many samples as the split has points; at the
        end the density's mass too.
        """
        with isolated_rng(self.seed, self.device):
            x, log_q = self.model.rsample(len(self.dataset.split(split)))
        judged = judge_samples(log_q, x, self.target)
        values = {f"{split}/{name}": value for name, value in judged.items()}
        if split == "valid":
            return values
        return values | {"theory/log_z": energy_truth(self.target.name).log_z, "test/mass": self.mass()}

    def notes(self, final: Mapping[str, float]) -> list[str]:
        found = {name.removeprefix("test/"): value for name, value in final.items() if name.startswith("test/")}
        return [collapse_note(found, energy_truth(self.target.name).log_z)] if found.get("collapsed") else []

    def _references(self, record: Record) -> list[tuple[str, float]]:
        return [("−log Z", -energy_truth(self.target.name).log_z)]

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"step": self._step, "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._step = state["step"]
        self._generator.set_state(state["generator"])


def collapse_note(found: Mapping[str, float], truth: float) -> str:
    """What is said of a flow that has left out part of its target."""
    parts = [
        f"has lost part of its target: importance-sampled log Z is {found['log_z']:.3f}, true {truth:.3f}",
        f"effective sample size {found['effective_sample_size']:.0%}",
    ]
    if "smallest_mode" in found:
        parts.append(f"the rarest mode holds {found['smallest_mode']:.0%} of its share")
    return "; ".join(parts)
