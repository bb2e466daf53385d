"""The L = 100 VAE beside the plain loop of the reports: `make bench`.

All train the same network on the same data with the same hyperparameters in one process, in turn, a few hundred
steps at a time, so that a change in the machine's speed meets both. The plain loop is how the reports trained: a
DataLoader over a NumPy array, nn.ELU, means by sigmoid and their logarithms, Adam without fusion, `.item()` for the
log.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

import numpy as np
import torch
from rich.console import Console
from torch.utils.data import DataLoader

from benchmarks.common import (
    WIDTH,
    Loop,
    argument_parser,
    experiment,
    genbench_steps,
    print_table,
    seconds,
    speedup,
    take_turns,
    with_plain_elus,
)
from genbench.build import build_task
from genbench.config import Config
from genbench.engine import device as devices
from genbench.engine.batches import Batches

EXPERIMENT = "vae-binmnist-L100"
EPOCHS = 20
PLAIN, EAGER, COMPILED = "the plain loop", "genbench", "genbench, compiled"
LOOPS = (PLAIN, EAGER, COMPILED)
CPU = torch.device("cpu")
LEGEND = """ratio: steps/s over the plain loop's, pair by pair, with quartiles;
with warm-up: of the times for all epochs, warm-up included; peak: a process with this loop alone."""


def plain_steps(model: torch.nn.Module, images: np.ndarray, batch_size: int, lr: float) -> Loop:
    """The reports' training loop, one step at a time."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    loader = DataLoader(images, batch_size=batch_size, shuffle=True)  # type: ignore[arg-type]
    total = 0.0
    while True:
        for x in loader:
            optimizer.zero_grad()
            mu, logvar, _ = model.encode(x)  # type: ignore[operator]
            z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
            mean = torch.sigmoid(model.decode(z))  # type: ignore[operator]
            log_likelihood = (x * torch.log(mean + 1e-8) + (1 - x) * torch.log(1 - mean + 1e-8)).flatten(1).sum(1)
            kl = 0.5 * (mu**2 + torch.exp(logvar) - 1 - logvar).sum(1)
            loss = (kl - log_likelihood).mean()
            loss.backward()
            optimizer.step()
            total += loss.item()
            yield


def make_loop(name: str, config: Config) -> Loop:
    """One of LOOPS."""
    size = config.trainer.batch_size
    task = build_task(experiment(EXPERIMENT, f"task.compile={name == COMPILED}"), CPU)
    if name == PLAIN:
        images = task.dataset.to_float(task.dataset.train).numpy()
        return plain_steps(with_plain_elus(task.model), images, size, config.optimizer["lr"])
    return genbench_steps(task, Batches(task.training_data, size, config.seed))


def peak_mib(name: str) -> float:
    """Peak resident memory of a process that does nothing but train by this loop, in MiB."""
    command = [sys.executable, "-m", "benchmarks.vae", "--memory-of", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def where_time_goes(steps: Loop, count: int = 200) -> list[tuple[str, float]]:
    """Shares of the CPU time of `count` steps by kind of operation."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(count):
            next(steps)
    kinds = {
        "matrix products": ("aten::mm", "aten::addmm"),
        "Adam": ("aten::_fused_adam_", "Optimizer.step#Adam.step", "Optimizer.zero_grad#Adam.zero_grad"),
        "drawing batches": ("aten::index_select", "aten::_to_copy", "aten::copy_", "aten::randperm"),
    }
    rows = profile.key_averages()
    total = sum(row.self_cpu_time_total for row in rows)
    shares = [
        (kind, sum(r.self_cpu_time_total for r in rows if r.key in keys) / total) for kind, keys in kinds.items()
    ]
    return [*shares, ("activations, likelihood, KL, autograd and Python", 1 - sum(share for _, share in shares))]


def main() -> None:
    parser = argument_parser(__doc__, rounds=15, steps=200)
    parser.add_argument("--memory-of", choices=LOOPS, help="print one loop's peak memory, nothing else")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    config = experiment(EXPERIMENT)
    size = config.trainer.batch_size
    loops = {name: make_loop(name, config) for name in ([options.memory_of] if options.memory_of else LOOPS)}
    if options.memory_of:
        seconds(loops[options.memory_of], 100, CPU)
        print(devices.peak_memory_mib(CPU))
        return
    task = build_task(config, CPU)
    epochs = EPOCHS * Batches(task.training_data, size, config.seed).steps_per_epoch
    warm_up = {name: seconds(steps, 30, CPU) for name, steps in loops.items()}
    times = take_turns(loops, options.rounds, options.steps, CPU)

    console = Console(width=WIDTH)
    threads = torch.get_num_threads()
    title = f"{config.name} on {task.dataset.name}, batch {size}, {threads} threads, CPU"
    columns = ("", "steps/s", "ms a step", f"{EPOCHS} epochs (s)", "warm-up (s)", "peak MiB", "ratio", "with warm-up")
    medians = {name: statistics.median(times[name]) for name in loops}
    totals = {name: warm_up[name] + epochs * medians[name] for name in loops}
    rows = [
        (
            name,
            f"{1 / medians[name]:.0f}",
            f"{medians[name] * 1e3:.2f}",
            f"{totals[name]:.0f}",
            f"{warm_up[name]:.1f}",
            f"{peak_mib(name):.0f}",
            speedup(times[PLAIN], times[name]),
            f"{totals[PLAIN] / totals[name]:.2f}",
        )
        for name in loops
    ]
    print_table(console, title, columns, rows)
    console.print(f"Medians of {options.rounds} turns of {options.steps} steps. {LEGEND}")
    for name, steps in loops.items():
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in where_time_goes(steps))
        console.print(f"where the time of {name} goes: {shares}")


if __name__ == "__main__":
    main()
