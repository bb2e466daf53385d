"""Many small flows trained as one batched model: every target, mode, depth and seed of report 000, problem 3."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from genbench.data.plane import PlaneDataset, PlaneTarget
from genbench.engine.batches import NoiseStream
from genbench.engine.device import isolated_rng
from genbench.engine.gradients import Gradients
from genbench.engine.task import Record, Stage, Task
from genbench.errors import ConfigError
from genbench.figures.plane import density_panel
from genbench.functional import LOG_2PI
from genbench.losses.density import NegativeLogLikelihood
from genbench.metrics.plane import energy_truth, judge_log_prob, judge_samples, sample_truth
from genbench.registry import OneOf, PositiveInt, register
from genbench.tasks.base import Parts, require, require_float32
from genbench.tasks.energy import fit_notes
from genbench.tasks.plane import EXTENT, density_on_grid, target_on_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FlowSuite"]

CHUNK = 10_000  # points that all flows see at once in an evaluation
Mode = Annotated[str, OneOf("samples", "density")]


@dataclass(frozen=True)
class Block:
    """The flows of one mode and target, which lie side by side in the ensemble."""

    mode: str
    target: PlaneTarget
    column: int  # of the target, among those of the data set
    rows: slice  # of the ensemble

    @property
    def metric(self) -> str:
        """What it is trained on."""
        return "nll" if self.mode == "samples" else "free_energy"


@register("task", "flow-suite")
class FlowSuite(Task):
    """An ensemble of planar flows; each of them does what a run of its own would do, with its own seed.

    `modes`: `samples` is task=density, `density` is task=energy, annealed as `loss` says. There are `replicas` flows
    of every mode, target and depth, from the seeds seed, seed + 1, … `compile` runs the objective and its gradients
    as one compiled graph, which takes minutes to compile.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        modes: list[Mode] = ["samples", "density"],  # noqa: B006 - never written
        replicas: PositiveInt = 4,
        compile: bool = False,
    ) -> None:
        require(parts.model, "model", "flow-suite", "assemble", "layers")
        require(parts.loss, "loss", "flow-suite", "of_energies", "beta")
        require(parts.dataset, "dataset", "flow-suite", "targets")
        require_float32(parts, "flow-suite")
        if not modes or len(set(modes)) < len(modes):
            raise ConfigError(f"task.modes must name each mode once, and at least one: {modes}")
        if parts.dataset.train.dim() != 3:
            raise ConfigError("task=flow-suite takes the points of several targets", "choose dataset=planes")
        self.parts, self.loss, self.likelihood = parts, parts.loss, NegativeLogLikelihood()
        self.dataset: PlaneDataset = parts.dataset  # type: ignore[assignment]
        self.device = parts.device
        self.batch_seeds = tuple(parts.seed + i for i in range(replicas))
        self.layers: Sequence[int] = parts.model.layers
        self.blocks = self._arrange(modes)
        members = list(itertools.product(self.layers, self.batch_seeds)) * len(self.blocks)
        self.ensemble = parts.model.assemble(members, self.device)
        self.optimizer = parts.make_optimizer(self.ensemble.parameters())
        if "max_norm" in self.optimizer.param_groups[0]:
            raise ConfigError("one norm of all flows' gradients would couple them", "set optimizer.max_norm=null")
        self.protocol: dict[str, Any] = {"anneal": getattr(self.loss, "anneal", None)}
        self.protocol["seeds"] = list(self.batch_seeds)
        self.directions = {
            f"{split}/{block.metric}/{name}": "lower"
            for split in ("valid", "test")
            for block in self.blocks
            for name in self._names(block)
        }
        self.charts = {
            f"{block.metric}, {block.target.name}": [f"valid/{block.metric}/{name}" for name in self._names(block)]
            for block in self.blocks
        }
        self._inputs = self._choose_inputs()
        self._gradients = Gradients(
            self._objective, self.ensemble.parameters(), compile_for=len(members) if compile else None
        )
        self._first_seed: dict[str, float] = {}  # what was measured last
        self._step = 0
        self._beta = torch.zeros((), device=self.device)
        self._stream = NoiseStream(self.batch_seeds, [parts.batch_size, 2], self.device)  # as in task=energy

    def _arrange(self, modes: Sequence[str]) -> list[Block]:
        size = len(self.layers) * len(self.batch_seeds)
        blocks: list[Block] = []
        for mode, (column, target) in itertools.product(modes, enumerate(self.dataset.targets)):
            if mode == "density" and target.energy is None:
                raise ConfigError(f"{target.name} has no finite energy to learn from", "set task.modes=[samples]")
            start = size * len(blocks)
            blocks.append(Block(mode, target, column, slice(start, start + size)))
        return blocks

    def _names(self, block: Block) -> list[str]:
        """Of a block's configurations, by depth."""
        return [f"{block.target.name}-{block.mode}-k{depth}" for depth in self.layers]

    def _choose_inputs(self) -> Tensor:
        """Of every flow, the row of `_sources` that it sees: [E]."""
        width = len(self.dataset.targets) + 1
        columns = [block.column if block.mode == "samples" else width - 1 for block in self.blocks]
        rows = [
            stream * width + column
            for column in columns
            for _ in self.layers
            for stream in range(len(self.batch_seeds))
        ]
        return torch.tensor(rows, device=self.device)

    def _sources(self, points: Tensor, noise: Tensor) -> Tensor:
        """Points [S, B, T, 2] of every seed's stream and base noise [S, B, 2] → what each flow sees, [E, B, 2]."""
        sources = torch.cat([points.transpose(1, 2), noise.unsqueeze(1)], dim=1)
        return sources.flatten(0, 1).index_select(0, self._inputs)

    def _log_q(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What comes out of the flows, y [E, B, 2], and log q [E, B]: of x in `samples` mode, else of y."""
        y, log_det = self.ensemble(x)
        rows = [
            log_det[block.rows] + _log_normal(y[block.rows])
            if block.mode == "samples"
            else _log_normal(x[block.rows]) - log_det[block.rows]
            for block in self.blocks
        ]
        return y, torch.cat(rows)

    def _objective(self, x: Tensor, beta: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of all flows' losses: each has its own parameters, so each gets its own gradient."""
        y, log_q = self._log_q(x)
        losses: list[Tensor] = []
        values: dict[str, Tensor] = {}
        for block in self.blocks:
            own = log_q[block.rows]
            if block.mode == "samples":
                loss = shown = self.likelihood.of_samples(own)
            else:
                assert block.target.energy is not None
                energy = _on_points(block.target.energy, y[block.rows])
                loss, shown = self.loss.of_energies(own, energy, beta), own + energy
            losses.append(loss.mean(1).sum())
            by_depth = shown.view(len(self.layers), -1).mean(1).unbind()
            values |= {f"train/{block.metric}/{k}": v for k, v in zip(self._names(block), by_depth, strict=True)}
        return torch.stack(losses).sum(), values

    def prepare_step(self) -> None:
        self._beta.fill_(self.loss.beta(self._step))
        self._stream.draw()
        self._step += 1

    def training_step(self, batch: Tensor) -> dict[str, Tensor]:
        points = batch.view(len(self.batch_seeds), -1, *batch.shape[1:])
        values = self._gradients(self._sources(points, self._stream.noise[:, : points.shape[1]]), self._beta)
        self.optimizer.step()
        return values

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, float]:
        """Every flow as in a run of its own, and the means over seeds; members at the end only."""
        points = self.dataset.split(split)
        with_seeds = []
        for seed in self.batch_seeds:
            with isolated_rng(seed, self.device):
                with_seeds.append(torch.randn(len(points), 2, device=self.device))
        noise = torch.stack(with_seeds)
        points = points.expand(len(self.batch_seeds), *points.shape)
        chunks = zip(points.split(CHUNK, dim=1), noise.split(CHUNK, dim=1), strict=True)
        pieces = [self._log_q(self._sources(p, z)) for p, z in chunks]
        y, log_q = (torch.cat(parts, dim=1) for parts in zip(*pieces, strict=True))
        values: dict[str, float] = {}
        for block in self.blocks:
            judged = [self._judge(block, i, y, log_q, split) for i in range(block.rows.start, block.rows.stop)]
            values |= self._tell(block, judged, split)
        return values

    def _judge(self, block: Block, index: int, y: Tensor, log_q: Tensor, split: str) -> dict[str, float]:
        if block.mode == "samples":
            return judge_log_prob(log_q[index], self.dataset.split(split)[:, block.column], block.target)
        return judge_samples(log_q[index], y[index], block.target)

    def _tell(self, block: Block, judged: list[dict[str, float]], split: str) -> dict[str, float]:
        values: dict[str, float] = {}
        for name, rows in zip(self._names(block), _groups(judged, len(self.batch_seeds)), strict=True):
            self._first_seed |= {f"{metric}/{name}": value for metric, value in rows[0].items()}
            for metric in rows[0]:
                own = [row[metric] for row in rows]
                if split == "test":
                    values |= {f"test/{metric}/{name}/seed{s}": v for s, v in zip(self.batch_seeds, own, strict=True)}
                if split == "test" or metric == block.metric:
                    values[f"{split}/{metric}/{name}"] = sum(own) / len(own)
            if split == "test":
                target = block.target.name
                values |= (
                    {f"theory/entropy/{target}": sample_truth(target).entropy}
                    if block.mode == "samples"
                    else {f"theory/log_z/{target}": energy_truth(target).log_z}
                )
        return values

    def members(self, final: Mapping[str, float]) -> list[dict[str, Any]]:
        rows = []
        for block, seed in itertools.product(self.blocks, self.batch_seeds):
            for name in self._names(block):
                ending = f"/{name}/seed{seed}"
                metrics = {key.removesuffix(ending): v for key, v in final.items() if key.endswith(ending)}
                row = {"experiment": f"flow-{name}", "target": block.target.name, "seed": seed, "metrics": metrics}
                rows.append(row)
        return rows

    def notes(self, final: Mapping[str, float]) -> list[str]:
        truths = {
            f"flow-{name}": energy_truth(block.target.name).log_z
            for block in self.blocks
            if block.mode == "density"
            for name in self._names(block)
        }
        return [
            f"{row['experiment']} seed {row['seed']}: {note}"
            for row in self.members(final)
            if row["experiment"] in truths
            for note in fit_notes(row["metrics"], truths[row["experiment"]])
        ]

    def figures(self, stage: Stage, record: Record) -> dict[str, Figure]:
        """Each configuration's density, of the first seed, beside its target; one picture for each mode."""
        if stage != "end":
            return {}
        figures = {}
        for mode in dict.fromkeys(block.mode for block in self.blocks):
            densities, titles = [], []
            for block in (block for block in self.blocks if block.mode == mode):
                for i, name in enumerate(self._names(block)):
                    densities.append(self._density(block, block.rows.start + i * len(self.batch_seeds)))
                    titles.append(f"{block.target.name}, k = {self.layers[i]}{self._value(block, name, record)}")
                densities.append(target_on_grid(block.target, of_energy=block.mode == "density"))
                titles.append(f"{block.target.name}, target: {_truth(block)}")
            title = f"{record.title}: flows fitted to {'samples' if mode == 'samples' else 'the energy'}"
            figures[f"densities-{mode}"] = density_panel(densities, titles, len(self.layers) + 1, EXTENT, title)
        return figures

    def _density(self, block: Block, index: int) -> Tensor:
        with isolated_rng(self.parts.seed, self.device):  # a flow draws its start before it gets this one's maps
            flow = self.ensemble.member(index, "data to base" if block.mode == "samples" else "base to data")
        return density_on_grid(flow.log_prob, self.device)

    def _value(self, block: Block, name: str, record: Record) -> str:
        """Of the first seed: on the test split, or, before that is seen, on the validation split."""
        metric, symbol = ("nll", "NLL") if block.mode == "samples" else ("log_z", "log Z")
        values = record.curve(f"test/{metric}/{name}/seed{self.batch_seeds[0]}")
        found = values[-1][1] if values else self._first_seed.get(f"{metric}/{name}")
        return "" if found is None else f": {symbol} {found:.3f}"

    def state_dict(self) -> dict[str, Any]:
        return {
            "ensemble": self.ensemble.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self._step,
            "first_seed": dict(self._first_seed),
            "generators": self._stream.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ensemble.load_state_dict(state["ensemble"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._step = state["step"]
        self._first_seed = dict(state["first_seed"])
        self._stream.load_state_dict(state["generators"])


def _log_normal(x: Tensor) -> Tensor:
    """log N(x; 0, I), [E, B, 2] → [E, B]"""
    return -0.5 * x.square().sum(-1) - LOG_2PI


def _truth(block: Block) -> str:
    """What a perfect flow would reach."""
    if block.mode == "samples":
        return f"entropy {sample_truth(block.target.name).entropy:.3f}"
    return f"log Z {energy_truth(block.target.name).log_z:.3f}"


def _on_points(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """[E, B, 2] → [E, B], of a function of points [N, 2]."""
    return function(x.flatten(0, 1)).view(x.shape[:-1])


def _groups(rows: list[dict[str, float]], size: int) -> Iterator[list[dict[str, float]]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
