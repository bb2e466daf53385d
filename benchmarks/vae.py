"""The L = 100 VAE beside the plain loop of the reports: `make bench`.

Both train the same network on the same data with the same hyperparameters in one process, in turn, a few hundred
steps at a time, so that a change in the machine's speed meets both. The plain loop is how the reports trained: a
DataLoader over a NumPy array, means by sigmoid and their logarithms, Adam without fusion, `.item()` for the log.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from genbench import cli
from genbench.config import Config
from genbench.engine.batches import Batches
from genbench.engine.meters import Meters
from genbench.run import build_task

EXPERIMENT = "vae-binmnist-L100"
EPOCHS = 20


def configuration() -> Config:
    """The experiment; its data set where it is to be had, else the digits that need no download."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(cli.CONFIG_DIRECTORY), version_base="1.3"):
        composed = compose("train", overrides=[f"experiment={EXPERIMENT}"])
        if not (Path(composed.data_root) / "binarized_mnist").is_dir():
            composed = compose("train", overrides=[f"experiment={EXPERIMENT}", "dataset=mnist5k"])
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


def seconds(steps: Iterator[None], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        next(steps)
    return time.perf_counter() - begin


def peak_mib(work: Callable[[], object]) -> float:
    """Peak resident memory while `work` runs, in MiB (Linux resets the high-water mark on request)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        work()
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    except OSError:
        work()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    config = configuration()
    device = torch.device("cpu")
    task = build_task(config, device)
    size, lr = config.trainer.batch_size, config.optimizer["lr"]
    batches = Batches(task.dataset.train, size, config.seed)
    images = task.dataset.to_float(task.dataset.train).numpy()
    loops = {
        "plain loop": plain_steps(build_task(config, device).model, images, size, lr),
        "genbench": genbench_steps(task, batches),
    }
    console = Console()
    warm_up = {name: seconds(steps, 30) for name, steps in loops.items()}
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(options.rounds):
        for name, steps in loops.items():
            times[name].append(seconds(steps, options.steps) / options.steps)
    ratios = [plain / ours for plain, ours in zip(times["plain loop"], times["genbench"], strict=True)]

    table = Table(title=f"{config.name} on {task.dataset.name}, batch {size}, {torch.get_num_threads()} threads, CPU")
    for column in (
        "",
        "steps/s (median)",
        "ms a step (fastest)",
        f"{EPOCHS} epochs (s)",
        "first 30 steps (s)",
        "peak MiB",
    ):
        table.add_column(column, justify="left" if not column else "right")
    for name, steps in loops.items():
        median = statistics.median(times[name])
        memory = peak_mib(lambda steps=steps: seconds(steps, 100))  # type: ignore[misc]
        epochs = EPOCHS * batches.steps_per_epoch * median
        cells = (1 / median, min(times[name]) * 1e3, epochs, warm_up[name], memory)
        table.add_row(name, *(f"{cell:.{digits}f}" for cell, digits in zip(cells, (0, 2, 0, 2, 0), strict=True)))
    console.print(table)
    quartiles = statistics.quantiles(ratios, n=4)
    console.print(
        f"ratio of steps/s, pair by pair: median {statistics.median(ratios):.2f}, "
        f"quartiles {quartiles[0]:.2f} to {quartiles[2]:.2f}, {len(ratios)} pairs of {options.steps} steps"
    )
    for name, steps in loops.items():
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in where_time_goes(steps))
        console.print(f"where the time of the {name} goes: {shares}")


if __name__ == "__main__":
    main()
