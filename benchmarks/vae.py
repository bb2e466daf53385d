"""The L = 100 VAE beside the plain loop of the reports: `make bench`.

All train the same network on the same data with the same hyperparameters in one process, in turn, a few hundred
steps at a time, so that a change in the machine's speed meets both. The plain loop is how the reports trained: a
DataLoader over a NumPy array, means by sigmoid and their logarithms, Adam without fusion, `.item()` for the log.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from genbench import cli
from genbench.config import Config
from genbench.engine import device as devices
from genbench.engine.batches import Batches
from genbench.engine.meters import Meters
from genbench.run import build_task

EXPERIMENT = "vae-binmnist-L100"
EPOCHS = 20
PLAIN, EAGER, COMPILED = "the plain loop", "genbench", "genbench, compiled"
LOOPS = (PLAIN, EAGER, COMPILED)
CPU = torch.device("cpu")
LEGEND = """ratio: steps/s over the plain loop's, pair by pair, with quartiles;
with warm-up: of the times for all epochs, warm-up included; peak: a process with this loop alone."""


def configuration(compiled: bool = False) -> Config:
    """The experiment; its data set where it is to be had, else the digits that need no download."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(cli.CONFIG_DIRECTORY), version_base="1.3"):
        words = [f"experiment={EXPERIMENT}", f"task.compile={compiled}"]
        composed = compose("train", overrides=words)
        if not (Path(composed.data_root) / "binarized_mnist").is_dir():
            composed = compose("train", overrides=[*words, "dataset=mnist5k"])
    return cli.validate(composed)


def plain_steps(model: torch.nn.Module, images: np.ndarray, batch_size: int, lr: float) -> Iterator[None]:
    """The reports' training loop, one step at a time."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    loader = DataLoader(images, batch_size=batch_size, shuffle=True)  # type: ignore[arg-type]
    total = 0.0
    while True:
        for x in loader:
            optimizer.zero_grad()
            mu, logvar = model.encode(x)  # type: ignore[operator]
            z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
            mean = torch.sigmoid(model.decode(z))  # type: ignore[operator]
            log_likelihood = (x * torch.log(mean + 1e-8) + (1 - x) * torch.log(1 - mean + 1e-8)).flatten(1).sum(1)
            kl = 0.5 * (mu**2 + torch.exp(logvar) - 1 - logvar).sum(1)
            loss = (kl - log_likelihood).mean()
            loss.backward()
            optimizer.step()
            total += loss.item()
            yield


def genbench_steps(task, batches: Batches) -> Iterator[None]:  # type: ignore[no-untyped-def]
    """What the engine does in a training step."""
    meters = Meters()
    while True:
        meters.add(task.training_step(batches.next()))
        yield


def make_loop(name: str, config: Config) -> Iterator[None]:
    """One of LOOPS."""
    size = config.trainer.batch_size
    task = build_task(configuration(compiled=name == COMPILED), CPU)
    if name == PLAIN:
        images = task.dataset.to_float(task.dataset.train).numpy()
        return plain_steps(task.model, images, size, config.optimizer["lr"])
    return genbench_steps(task, Batches(task.dataset.train, size, config.seed))


def seconds(steps: Iterator[None], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        next(steps)
    return time.perf_counter() - begin


def peak_mib(name: str) -> float:
    """Peak resident memory of a process that does nothing but train by this loop, in MiB."""
    command = [sys.executable, "-m", "benchmarks.vae", "--memory-of", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def where_time_goes(steps: Iterator[None], count: int = 200) -> list[tuple[str, float]]:
    """Shares of the CPU time of `count` steps by kind of operation."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(count):
            next(steps)
    kinds = {
        "matrix products": ("aten::mm", "aten::addmm"),
        "Adam": ("aten::_fused_adam_", "Optimizer.step#Adam.step", "Optimizer.zero_grad#Adam.zero_grad"),
        "activations": ("aten::elu", "aten::elu_", "aten::elu_backward"),
        "drawing batches": ("aten::index_select", "aten::_to_copy", "aten::copy_", "aten::randperm"),
    }
    rows = profile.key_averages()
    total = sum(row.self_cpu_time_total for row in rows)
    shares = [
        (kind, sum(r.self_cpu_time_total for r in rows if r.key in keys) / total) for kind, keys in kinds.items()
    ]
    return [*shares, ("likelihood, KL, autograd and Python", 1 - sum(share for _, share in shares))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of measurements")
    parser.add_argument("--steps", type=int, default=200, help="training steps in each")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--memory-of", choices=LOOPS, help="print one loop's peak memory, nothing else")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    config = configuration()
    size = config.trainer.batch_size
    loops = {name: make_loop(name, config) for name in ([options.memory_of] if options.memory_of else LOOPS)}
    if options.memory_of:
        seconds(loops[options.memory_of], 100)
        print(devices.peak_memory_mib(CPU))
        return
    task = build_task(config, CPU)
    epochs = EPOCHS * Batches(task.dataset.train, size, config.seed).steps_per_epoch
    warm_up = {name: seconds(steps, 30) for name, steps in loops.items()}
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(options.rounds):
        for name, steps in loops.items():
            times[name].append(seconds(steps, options.steps) / options.steps)

    console = Console(width=132)
    threads = torch.get_num_threads()
    table = Table(title=f"{config.name} on {task.dataset.name}, batch {size}, {threads} threads, CPU")
    columns = ("", "steps/s", "ms a step", f"{EPOCHS} epochs (s)", "warm-up (s)", "peak MiB", "ratio", "with warm-up")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    totals = {name: warm_up[name] + epochs * statistics.median(times[name]) for name in loops}
    for name in loops:
        median = statistics.median(times[name])
        ratios = [plain / own for plain, own in zip(times[PLAIN], times[name], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        table.add_row(
            name,
            f"{1 / median:.0f}",
            f"{median * 1e3:.2f}",
            f"{totals[name]:.0f}",
            f"{warm_up[name]:.1f}",
            f"{peak_mib(name):.0f}",
            f"{middle:.2f} ({low:.2f} to {high:.2f})",
            f"{totals[PLAIN] / totals[name]:.2f}",
        )
    console.print(table)
    console.print(f"Medians of {options.rounds} turns of {options.steps} steps. {LEGEND}")
    for name, steps in loops.items():
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in where_time_goes(steps))
        console.print(f"where the time of {name} goes: {shares}")


if __name__ == "__main__":
    main()
