"""Forty-eight planar flows at once beside a plain loop over one model at a time.

    python -m benchmarks.flows [--rounds 7] [--steps 20]

The plain loop is what one writes at first: a module for each layer, |det| + ε under the logarithm, autograd and
RMSprop on a parameter list, `.item()` at every step. It trains each of the twelve configurations of report 000 by
itself, in turn, on the same data and with the same batch size as the ensemble of `flow-toy-suite`, which holds four
seeds of each. What is compared is model-steps: updates of one model.
"""

from __future__ import annotations

import math
import statistics

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import (
    WIDTH,
    Loop,
    argument_parser,
    print_table,
    seconds,
    speedup,
    take_turns,
)
from genbench import ensemble
from genbench.build import make_batches
from genbench.compose import configuration
from genbench.data.plane import TARGETS
from genbench.engine.lockstep import VALUES
from genbench.tasks.flow_ensemble import FlowEnsemble, check

BATCH = 128
THREADS = (1, 2)
PLAIN, SUITE, COMPILED = "plain, one model at a time", "flow-toy-suite", "flow-toy-suite, compiled"
CPU = torch.device("cpu")


class PlainPlanar(nn.Module):
    """f(z) = z + û tanh(wᵀz + b)"""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.rand(2) - 0.5)
        self.u = nn.Parameter(torch.rand(2) - 0.5)
        self.b = nn.Parameter(torch.rand(1) - 0.5)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        wu = self.w @ self.u
        u = self.u + (F.softplus(wu) - 1 - wu) * self.w / (self.w @ self.w)
        h = torch.tanh(z @ self.w + self.b)
        psi = (1 - h**2).unsqueeze(1) * self.w
        return z + u * h.unsqueeze(1), torch.log(torch.abs(1 + psi @ u) + 1e-6)


def plain_steps(target: str, of_energy: bool, depth: int, data: Tensor) -> Loop:
    """One configuration; `data` [N, 2] are samples of its target."""
    layers = nn.ModuleList(PlainPlanar() for _ in range(depth))
    optimizer = torch.optim.RMSprop(layers.parameters(), lr=5e-4)
    energy, step, losses = TARGETS[target].energy, 0, []
    assert energy is not None
    while True:
        z = torch.randn(BATCH, 2) if of_energy else data[torch.randint(len(data), (BATCH,))]
        x, log_det = z, torch.zeros(BATCH)
        for layer in layers:
            x, one = layer(x)
            log_det = log_det + one
        log_normal = -0.5 * ((z if of_energy else x) ** 2).sum(1) - math.log(2 * math.pi)
        if of_energy:
            loss = (log_normal - log_det + min(1.0, 0.01 + step / 10_000) * energy(x)).mean()
        else:
            loss = -(log_normal + log_det).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        step += 1
        yield


def plain_sweep(suite: Suite) -> Loop:
    """One step of each of the suite's experiments."""
    loops = [
        plain_steps(task.target.name, task.of_energy, member.config.model["layers"], task.dataset.train)
        for member, task in zip(suite.members, suite.tasks, strict=True)
        if member.config.seed == suite.members[0].config.seed
    ]
    while True:
        for loop in loops:
            next(loop)
        yield


class Suite:
    """The runs of `flow-toy-suite`, with their tasks."""

    def __init__(self) -> None:
        self.members = ensemble.members(configuration("experiment=flow-toy-suite", "device=cpu"))
        self.tasks = ensemble.build_tasks(self.members, CPU)

    def steps(self, compiled: bool) -> Loop:
        """What the engine does in a training step of all of them."""
        batches = [make_batches(own.config, task) for own, task in zip(self.members, self.tasks, strict=True)]
        together = FlowEnsemble(check(self.tasks), batches, compiled)
        sums = torch.zeros(len(self.tasks))
        while True:
            batch, _ = together.next(), together.prepare_step()
            sums += together.training_step(*batch)[VALUES]
            yield


def main(arguments: list[str] | None = None) -> None:
    parser = argument_parser(__doc__, 7, 20)
    parser.add_argument("--compile", action="store_true", help="the compiled ensemble too (minutes of warm-up)")
    options = parser.parse_args(arguments)
    console = Console(width=WIDTH)
    suite = Suite()
    models = len(suite.members)
    loops = {PLAIN: plain_sweep(suite), SUITE: suite.steps(False)}
    per_turn = {PLAIN: 12, SUITE: models, COMPILED: models}
    for loop in loops.values():
        seconds(loop, 3, CPU)
    threads = {name: options.threads or best_threads(loop) for name, loop in loops.items()}
    warm_up = ""
    if options.compile:
        loops[COMPILED] = suite.steps(True)
        torch.set_num_threads(threads[SUITE])
        warm_up = f" Compiling took {seconds(loops[COMPILED], 2, CPU):.0f} s."
        threads[COMPILED] = options.threads or best_threads(loops[COMPILED])

    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(options.rounds):
        for name, loop in loops.items():
            torch.set_num_threads(threads[name])
            count = max(1, options.steps // 4) if name == PLAIN else options.steps
            times[name] += [value / per_turn[name] for value in take_turns({name: loop}, 1, count, CPU)[name]]
    rows = [
        [name, str(threads[name]), f"{1 / statistics.median(found):,.0f}", speedup(times[PLAIN], found)]
        for name, found in times.items()
    ]
    title = f"twelve configurations of planar flows, batch {BATCH}, {models} models in the ensemble"
    print_table(console, title, ["", "threads", "model-steps/s", "ratio, round by round (quartiles)"], rows)
    chosen = "as asked" if options.threads else f"the faster of {' and '.join(map(str, THREADS))}, measured first"
    console.print(f"Threads: {chosen}.{warm_up}")


def best_threads(loop: Loop) -> int:
    """The number of threads with which the loop's steps are shortest, the median of five turns of each."""
    found: dict[int, list[float]] = {count: [] for count in THREADS}
    for _ in range(5):
        for count in THREADS:
            torch.set_num_threads(count)
            found[count].append(seconds(loop, 2, CPU))
    return min(THREADS, key=lambda count: statistics.median(found[count]))


if __name__ == "__main__":
    main()
