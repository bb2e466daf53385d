"""Flows in the plane trained at once: the tasks of several runs as one batched model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from genbench.engine.batches import Batch, Batches
from genbench.engine.gradients import Gradients
from genbench.engine.lockstep import VALUES
from genbench.engine.task import Task
from genbench.errors import ConfigError
from genbench.functional import LOG_2PI
from genbench.tasks.base import require
from genbench.tasks.density import Density
from genbench.tasks.energy import Energy

__all__ = ["FlowEnsemble", "check"]

Flow = Density | Energy
T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """Flows that minimize the same, side by side in the batched model; the first of them, its rows, and its β."""

    of: Flow
    rows: slice
    beta: Tensor


class FlowEnsemble:
    """Steps of all flows at once, from where each of them is (genbench.engine.lockstep.Batched).

    Runs whose batches, or whose noise, come from a generator in the same state share them: as many are drawn as there
    are seeds. The tasks themselves stay as they were until `write_back`.

    Args:
        tasks: those that `check` lets pass, after equally many steps, with optimizers of the same settings.
        batches: the stream of each, all of one batch size.
        compile: run the objective and its gradients as one compiled graph, which takes minutes to compile.
    """

    def __init__(self, tasks: Sequence[Flow], batches: Sequence[Batches], compile: bool = False) -> None:
        order = sorted(range(len(tasks)), key=lambda i: _objective_of(tasks[i]))
        self.metrics = [f"train/{task.curve}" for task in tasks]
        self._tasks, self._batches = [tasks[i] for i in order], [batches[i] for i in order]
        self._device = tasks[0].device
        self._as_given = self._indices(order.index(i) for i in range(len(tasks)))
        self._blocks = list(self._arrange())
        self.model = tasks[0].model.side_by_side([task.model for task in self._tasks]).to(self._device)
        self.optimizer = tasks[0].parts.make_optimizer(self.model.parameters())
        self.optimizer.load_state_dict(_side_by_side([task.optimizer.state_dict() for task in self._tasks]))
        self._gradients = Gradients(
            self._objective, self.model.parameters(), compile_for=len(tasks) if compile else None
        )
        self._take_up_points()
        self._take_up_noise()

    def _arrange(self) -> Iterator[Block]:
        start = 0
        for _, same in groupby(self._tasks, key=_objective_of):
            first, *others = same
            end = start + 1 + len(others)
            yield Block(first, slice(start, end), torch.ones((), device=self._device))
            start = end

    def _take_up_points(self) -> None:
        """Data sets one below the other, and streams of row numbers, which runs with different data may share."""
        self._fitted = sum(isinstance(task, Density) for task in self._tasks)  # to points: these come first
        data = [points for batches in self._batches for points in batches.data]
        numbers = torch.arange(len(data[0]), device=self._device)
        states = [batches.state_dict() for batches in self._batches]
        self._streams, self._stream_of = _shared(
            [(_bytes(state["generator"]), state["position"]) for state in states],
            [batches.over((numbers,)) for batches in self._batches],
        )
        used, place = _shared([id(own) for own in data[: self._fitted]], data[: self._fitted])
        self._points = torch.cat([data[0][:0], *used])
        self._starts = self._indices(len(numbers) * i for i in place).unsqueeze(1)
        self._stream_of_fitted = self._indices(self._stream_of[: self._fitted])

    def _take_up_noise(self) -> None:
        energies = [task for task in self._tasks if isinstance(task, Energy)]
        self._updates = energies[0].updates if energies else 0
        states = [_bytes(task.stream.state_dict()) for task in energies]
        self._noise, self._noise_of = _shared(states, [task.stream.fork() for task in energies])
        self._noise_of_energy = self._indices(self._noise_of)

    def _indices(self, values: Iterable[int]) -> Tensor:
        return torch.tensor(list(values), dtype=torch.int64, device=self._device)

    def next(self) -> Batch:
        """The points of the flows that are fitted to points, [n, B, 2]."""
        numbers = torch.stack([rows for stream in self._streams for rows in stream.next()])
        rows = numbers.index_select(0, self._stream_of_fitted) + self._starts
        return (self._points.index_select(0, rows.flatten()).view(*rows.shape, 2),)

    def prepare_step(self) -> Hashable:
        for block in self._blocks:
            if isinstance(block.of, Energy):
                block.beta.fill_(block.of.loss.beta(self._updates))
        for stream in self._noise:
            stream.draw()
        self._updates += 1
        return None

    def training_step(self, batch: Tensor) -> dict[str, Tensor]:
        seen = batch
        if self._noise:
            noise = torch.stack([stream.noise[: batch.shape[1]] for stream in self._noise])
            seen = torch.cat([batch, noise.index_select(0, self._noise_of_energy)])
        values = self._gradients(seen)
        self.optimizer.step()
        return values

    def _objective(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of all flows' losses, on points or noise [E, B, 2]: each has its own parameters, so each gets its
        own gradient."""
        n = self._fitted
        y, log_det = self.model(x)
        log_q = torch.cat([log_det[:n] + _log_normal(y[:n]), _log_normal(x[n:]) - log_det[n:]])
        losses, values = [], []
        for block in self._blocks:
            own = log_q[block.rows]
            if isinstance(block.of, Energy):
                energy = _on_points(block.of.energy, y[block.rows])
                loss, value = block.of.loss.of_energies(own, energy, block.beta), own + energy
            else:
                loss = value = block.of.loss.of_samples(own)
            losses.append(loss.mean(1).sum())
            values.append(value.mean(1))
        return torch.stack(losses).sum(), {VALUES: torch.cat(values).index_select(0, self._as_given)}

    def write_back(self) -> None:
        """Give every task and stream of batches what it would have now by itself."""
        optimizer, parameters = self.optimizer.state_dict(), dict(self.model.named_parameters())
        shapes = [parameter.shape for parameter in parameters.values()]
        for row, (task, batches) in enumerate(zip(self._tasks, self._batches, strict=True)):
            flow = slice(self.model.depths[row])
            held = {
                i: {key: _own(value, shapes[i], row, flow) for key, value in of.items()}
                for i, of in optimizer["state"].items()
            }
            state: dict[str, Any] = {
                "model": {f"bijection.{name}": value.detach()[row, flow] for name, value in parameters.items()},
                "optimizer": optimizer | {"state": held},
            }
            if isinstance(task, Energy):
                noise = self._noise[self._noise_of[row - self._fitted]]
                state |= {"step": self._updates, "generator": noise.state_dict()}
            task.load_state_dict(state)
            batches.load_state_dict(self._streams[self._stream_of[row]].state_dict())


def check(tasks: Sequence[Task]) -> list[Flow]:
    """The tasks, if they can be trained as one batched model. Raises ConfigError."""
    flows: list[Flow] = []
    for task in tasks:
        if not isinstance(task, Density | Energy):
            raise ConfigError("an ensemble is of flows in the plane", "list experiments with task=density or energy")
        require(task.model, "model", "an ensemble's", "side_by_side")
        direction = "base to data" if task.of_energy else "data to base"
        if task.model.direction != direction:
            raise ConfigError(
                f"this flow goes through inverses in training: {task.model.direction}",
                f"set model.direction={direction!r}",
            )
        if "max_norm" in task.optimizer.param_groups[0]:
            raise ConfigError("one norm of all flows' gradients would couple them", "set optimizer.max_norm=null")
        flows.append(task)
    if len({len(task.dataset.train) for task in flows}) > 1:
        raise ConfigError("an ensemble's data sets must have equally many rows")
    return flows


def _objective_of(task: Flow) -> tuple[bool, str, str]:
    """What it minimizes, in a form that sorts flows on points before those on energies."""
    return task.of_energy, task.target.name if task.of_energy else "", repr(task.loss)


def _shared(keys: Sequence[Hashable], values: Sequence[T]) -> tuple[list[T], list[int]]:
    """One value for each different key, and for each entry which of them is its."""
    places: dict[Hashable, int] = {}
    kept: list[T] = []
    for key, value in zip(keys, values, strict=True):
        if key not in places:
            places[key] = len(kept)
            kept.append(value)
    return kept, [places[key] for key in keys]


def _side_by_side(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Optimizers' states as that of one: moments padded as parameters are, anything else that of the first."""
    first = states[0]
    held = {
        i: {
            key: pad_sequence([state["state"][i][key] for state in states], batch_first=True)
            if isinstance(value, Tensor) and value.dim()
            else value
            for key, value in of.items()
        }
        for i, of in first["state"].items()
    }
    return first | {"state": held}


def _own(value: Any, shape: torch.Size, row: int, flow: slice) -> Any:
    """Of an optimizer's state for a parameter of this shape, what belongs to one flow."""
    if not isinstance(value, Tensor):
        return value
    return value[row, flow] if value.shape == shape else value.clone()


def _log_normal(x: Tensor) -> Tensor:
    """log N(x; 0, I), [E, B, 2] → [E, B]"""
    return -0.5 * x.square().sum(-1) - LOG_2PI


def _on_points(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """[E, B, 2] → [E, B], of a function of points [N, 2]."""
    return function(x.flatten(0, 1)).view(x.shape[:-1])


def _bytes(state: Tensor) -> bytes:
    return state.numpy().tobytes()
