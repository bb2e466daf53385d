"""A flow fitted to an energy by the reverse Kullback-Leibler divergence, judged by importance-sampled log Z."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from genbench.engine.batches import NoiseStream
from genbench.engine.device import isolated_rng
from genbench.engine.measurement import Measurement, Quantity
from genbench.errors import ConfigError
from genbench.metrics.plane import energy_truth, judge_samples
from genbench.registry import register
from genbench.tasks.base import Parts, require
from genbench.tasks.plane import MASS, PlaneTask

__all__ = ["Energy"]

UNRELIABLE = 0.05  # share of the samples that weights leave over


@register("task", "energy")
class Energy(PlaneTask):
    """A flow on the energy of a target in the plane, whose log Z tells how much of it was found.

    `compile` runs the objective and its gradients as one compiled graph.
    """

    quantities = (
        Quantity("test/log_z", "importance-sampled log Z", "nats", "", 3, "log Z, quadrature"),
        Quantity("test/log_z_error", "error of log Z", "nats", "lower", 4, "quadrature"),
        Quantity("test/reverse_kl", "KL(q ‖ p)", "nats", "lower", 4),
        Quantity("test/effective_sample_size", "effective sample size, share", "", "higher", 3),
        Quantity("test/smallest_mode", "rarest mode, of its share", "", "higher", 3),
        Quantity("valid/free_energy", "validation free energy", "nats", "lower", 3),
        Quantity("test/free_energy", "test free energy", "nats", "lower", 3),
        MASS,
    )
    curve, quantity = "free_energy", "free energy (nats)"
    mass_side = 500  # its density goes through the inverses, which bisect
    of_energy = True

    def __init__(self, parts: Parts, *, compile: bool = False) -> None:
        require(parts.loss, "loss", "energy", "of_energies", "beta")
        super().__init__(parts, "energy", "push", "rsample", "event_shape")
        if self.target.energy is None:
            raise ConfigError(
                f"{self.target.name} has no finite energy to learn from",
                "choose dataset.target=arcs, sine, two-moons or eight-gaussians, or task=density",
            )
        self.energy = self.target.energy
        self._gradients = parts.gradients(self._objective, self.model, compile)
        self.updates = 0
        self._beta = torch.zeros((), device=self.device)
        # A stream of its own, so that a seed means the same noise in an ensemble.
        self.stream = NoiseStream(self.seed, [parts.batch_size, *self.model.event_shape], self.device)

    def _objective(self, z: Tensor, beta: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x, log_q = self.model.push(z)
        energy = self.energy(x)
        loss = self.loss.of_energies(log_q, energy, beta).mean()
        return loss, {"train/free_energy": (log_q + energy).mean()}

    def prepare_step(self) -> None:
        self._beta.fill_(self.loss.beta(self.updates))
        self.stream.draw()
        self.updates += 1

    def training_step(self, batch: Tensor) -> dict[str, Tensor]:
        """The data set's points are not looked at: only how many there are."""
        values = self._gradients(self.stream.noise[: len(batch)], self._beta)
        self.optimizer.step()
        return values

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, Measurement]:
        """Free energy at β = 1 and importance-sampled log Z from as many samples as the split has points; at the
        end the density's mass too.
        """
        with isolated_rng(self.seed, self.device):
            x, log_q = self.model.rsample(len(self.dataset.split(split)))
        judged = judge_samples(log_q, x, self.target)
        values = {f"{split}/{name}": measurement for name, measurement in judged.items()}
        return values | (self.mass() if split == "test" else {})

    def notes(self, final: Mapping[str, float]) -> list[str]:
        """What must be said of a flow whose log Z, by importance sampling, is not the true one."""
        truth = energy_truth(self.target.name).log_z
        notes = []
        log_z = f"importance-sampled log Z is {final.get('test/log_z', truth):.3f}, true {truth:.3f}"
        share = final.get("test/effective_sample_size", 1.0)
        if final.get("test/collapsed"):
            rarest = final.get("test/smallest_mode")
            modes = "" if rarest is None else f"; the rarest mode holds {rarest:.1%} of its share"
            notes.append(f"has lost part of its target: {log_z}{modes}")
        if share < UNRELIABLE:
            notes.append(f"its effective sample size is {share:.2%}, too small to trust that {log_z}")
        return notes

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"step": self.updates, "generator": self.stream.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.updates = state["step"]
        self.stream.load_state_dict(state["generator"])
