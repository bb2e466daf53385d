"""What tasks on densities in the plane share: what a flow is, its mass, and its pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genbench.data.plane import TARGETS, PlaneTarget
from genbench.engine.device import double, float64_device, isolated_rng
from genbench.engine.measurement import Family, Measurement, Quantity
from genbench.engine.task import (
    STAGE_TITLES,
    FinishedRun,
    LogProb,
    Record,
    Stage,
    Task,
    alike,
    differing,
)
from genbench.errors import ConfigError
from genbench.figures.flows import animate_flow
from genbench.figures.plane import density_pair, density_panel, samples_over_contours
from genbench.metrics.plane import Box, energy_truth, grid, quadrature, sample_truth
from genbench.naming import natural
from genbench.tasks.base import Parts, require, require_float32
from genbench.tasks.flow_samples import FlowSamples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXTENT", "MASS", "PlaneTask", "density_on_grid", "target_on_grid"]

EXTENT = 5.0  # pictures show [−5, 5]²
GRID = 200  # cells to a side of a drawn density
DRAWN = 500  # samples in a picture
PANELS = 7  # densities beside their target
BOX_SAMPLES = 20_000


MASS = Quantity("test/mass", "mass of the density", decimals=6)


class PlaneTask(FlowSamples, Task):
    """One flow and one target; what it is trained on, its subclasses say."""

    family = Family("Flows in the plane", likelihood="exact")
    cover = "figures/density-end.png"

    curve: str
    """The metric, without its split, that the learning curves show."""

    quantity: str
    """Its name and unit."""

    of_energy = False
    """Fitted to an energy, not to samples."""

    chunk = 100_000

    mass_side = 1000
    """Cells to a side of the square on which the mass is integrated."""

    def __init__(self, parts: Parts, name: str, *needs: str) -> None:
        require(parts.model, "model", name, "log_prob", "sample", "draw_base", "to_base", "to_data", *needs)
        require(parts.dataset, "dataset", name, "target")
        require_float32(parts, name)
        dataset: Any = parts.dataset
        self.parts, self.model, self.dataset, self.loss = parts, parts.model, parts.dataset, parts.loss
        self.flow = parts.model
        self.target: PlaneTarget = dataset.target
        self.device, self.seed = parts.device, parts.seed
        self.optimizer = parts.make_optimizer(self.model.parameters())
        self.curves = {self.quantity: [f"{split}/{self.curve}" for split in ("train", "valid", "test")]}

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        points: Tensor = self.model.to_data(z)[0]
        return points.cpu()

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        points: Tensor = self.model.to_base(x)[0]
        return points

    @torch.no_grad()
    def log_prob(self, x: Tensor, samples: int) -> LogProb:
        """Of points [N, 2]."""
        return LogProb(double(self.model.log_prob(x)).cpu(), "exact")

    def mass(self) -> dict[str, Measurement]:
        """∫ q over a box that holds it, in float64: 1, if density and log-determinants are right."""
        where = float64_device(self.device)
        model = copy.deepcopy(self.model).to(where).double()
        with isolated_rng(self.seed, where):
            box = Box.around(model.sample(BOX_SAMPLES))
        found = quadrature(lambda z: model.log_prob(z.to(where)).cpu(), box, self.mass_side)
        return {MASS.name: Measurement(found.mass, truth=1.0, protocol={"cells": f"{self.mass_side}²"})}

    def figures(self, stage: Stage, record: Record) -> dict[str, Figure]:
        if stage == "middle":
            return {}
        title = f"{record.title}, {STAGE_TITLES[stage]}"
        target, extent = target_on_grid(self.target, self.of_energy), EXTENT
        return {
            "density": density_pair(
                density_on_grid(self.model.log_prob, self.device), target, extent, self._title(title, record)
            ),
            "samples": self.picture_of(self.sample(DRAWN, self.seed), title),
        }

    def picture_of(self, samples: Tensor, title: str) -> Figure:
        """Points [N, 2] over the target's contours."""
        return samples_over_contours(samples, target_on_grid(self.target, self.of_energy), EXTENT, title)

    def _title(self, title: str, record: Record) -> str:
        """Of the learned density, with its newest validation value."""
        values = record.curve(f"valid/{self.curve}")  # the last picture is drawn before the test
        if not values:
            return title
        number = f"{values[-1][1]:.3f}".replace("-", "−")
        return f"{title}: validation {self.quantity} {number}"

    @classmethod
    def sweep_figures(cls, runs: Sequence[FinishedRun]) -> dict[str, Figure]:
        """Densities of several runs beside their targets, one row for each target, at most PANELS of the best.

        Of runs that differ in the seed alone, the lowest seed is shown. Raises ConfigError where there are more runs
        of one target than of another.
        """
        rows: dict[str, dict[str, FinishedRun]] = {}
        for run in sorted(runs, key=lambda run: (natural(run.config["name"]), run.config["seed"])):
            rows.setdefault(run.config["dataset"]["target"], {}).setdefault(alike(run, "seed"), run)
        kind = "energies" if cls.of_energy else "samples"
        counts = {target: len(row) for target, row in rows.items()}
        count = min(counts.values())
        if sum(counts.values()) < 2:
            return {}
        if max(counts.values()) > count:
            told = ", ".join(f"{number} of {target}" for target, number in counts.items())
            raise ConfigError(f"flows fitted to {kind} make no picture: {told} are done", "run the missing ones, too")
        judged = cls.quantities[0]
        densities, titles = [], []
        for target, row in rows.items():
            ranked = sorted(row.values(), key=lambda run: run.value(judged.name), reverse=judged.better == "higher")
            for run in (run for run in row.values() if run in ranked[:PANELS]):
                task = run.task()
                densities.append(density_on_grid(task.model.log_prob, task.device))
                alike_named = [one for one in row.values() if one.config["name"] == run.config["name"]]
                words = differing(alike_named, ("seed",))[alike_named.index(run)]
                name = " ".join([run.config["name"].removeprefix("flow-"), *words])
                titles.append(f"{name}: {run.value(judged.name):.3f}")
            densities.append(target_on_grid(TARGETS[target], cls.of_energy))
            titles.append(f"{target}, target: {run.metrics[judged.name]['truth']:.3f}")
        of_all = f", {PANELS} of {count} for each target" if count > PANELS else ""
        title = f"Flows fitted to {kind}, with {judged.label} ({judged.unit}){of_all}"
        return {f"densities-{kind}": density_panel(densities, titles, min(count, PANELS) + 1, EXTENT, title)}

    def animate(self, path: Path, title: str) -> None:
        """The way of samples from the base through the layers, as a GIF."""
        if not hasattr(self.model, "path"):
            raise ConfigError(f"{type(self.model).__name__} has no layers to show samples between")
        with isolated_rng(self.seed, self.device):
            points = torch.stack(self.model.path(2 * DRAWN)).cpu()
        animate_flow(path, points, target_on_grid(self.target, self.of_energy), EXTENT, title)

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


@torch.no_grad()
def density_on_grid(log_prob: Callable[[Tensor], Tensor], device: torch.device) -> Tensor:
    """q on [−EXTENT, EXTENT]², [GRID, GRID], y ascending, in float32."""
    points, _ = grid(Box.square(EXTENT), GRID)
    return log_prob(points.float().to(device)).exp().view(GRID, GRID).cpu()


def target_on_grid(target: PlaneTarget, of_energy: bool) -> Tensor:
    """What a flow is fitted to, on the same grid, normalized: the samples' density, or what the energy says."""
    energy, cpu = target.energy, torch.device("cpu")
    if of_energy:
        assert energy is not None
        log_z = energy_truth(target.name).log_z
        return density_on_grid(lambda z: -energy(z) - log_z, cpu)
    log_z = sample_truth(target.name).log_z
    return density_on_grid(lambda z: target.log_prob(z) - log_z, cpu)
