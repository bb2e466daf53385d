"""How near training steps come to the machine's limit: `make bench-peak`.

The multiplications and additions in a step's convolutions and matrix products, over its time, beside the rate of a
large float32 matrix product (sgemm). Every network in both memory layouts, in turns with the matrix product. The last
row is Inception's forward pass, of which FID is made.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.arithmetic import Peak, count_flops
from benchmarks.common import (
    WIDTH,
    Loop,
    argument_parser,
    experiment,
    genbench_steps,
    print_table,
    speedup,
    take_turns,
)
from genbench.build import build_task, make_batches
from genbench.metrics.inception import Inception, find_weights

EXPERIMENTS = (
    "pixelcnn-binmnist",
    "pixelcnn-gated-binmnist",
    "pixelcnn-mnist5k",
    "pixelvae-mnist5k",
    "vae-mnist5k-conv",
    "vae-mnist5k-gaussian-analytic",
    "realnvp-mnist-conv",
    "mnist5k-gan",
    "cifar10-jsd-1-small",
    "cifar10-jsd-2-small",
    "cifar10-w1-3-small",
    "vae-binmnist-L100",
)
NO_SCORES = ("task.fid_samples=null", "task.final_samples=null")
IMAGES = 32
CPU = torch.device("cpu")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def forward(network: Inception, images: Tensor) -> Loop:
    while True:
        network.features([images])
        yield


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__, rounds=7, steps=3)
    parser.add_argument("names", nargs="*", metavar="EXPERIMENT", help="default: one of each kind of network")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = [training(name, options.rounds, options.steps) for name in options.names or EXPERIMENTS]
    console = Console(width=WIDTH)
    columns = ("", "GFLOP", "sgemm", *LAYOUTS, "contiguous / channels_last (quartiles)")
    title = f"GFLOP/s of training steps, and share of sgemm's, {torch.get_num_threads()} threads, CPU"
    print_table(console, title, columns, rows + fid(options.rounds))
    console.print(f"Medians of {options.rounds} turns, of {options.steps} steps each.")


def training(name: str, rounds: int, steps: int) -> list[str]:
    # An experiment may ask for a number of threads of its own; all have the same here.
    words = (f"trainer.threads={torch.get_num_threads()}", *(NO_SCORES if name.startswith("cifar10") else ()))
    config = experiment(name, *words)
    loops = {}
    for layout, memory_format in LAYOUTS.items():
        task = build_task(config, CPU)
        task.parts.model.to(memory_format=memory_format)
        loops[layout] = genbench_steps(task, make_batches(config, task))
    return _row(name, loops, rounds, steps)


def fid(rounds: int) -> list[list[str]]:
    """Inception's forward pass, as FID uses it and in the other layout; no row where its weights are not there."""
    weights = find_weights(Path(experiment("cifar10-jsd-2", *NO_SCORES).data_root), None)
    if weights is None:
        return []
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8)
    loops = {}
    for layout, memory_format in LAYOUTS.items():
        network = Inception(weights, CPU)
        network.network.to(memory_format=memory_format)
        loops[layout] = forward(network, images)
    return [_row(f"Inception, {IMAGES} images", loops, rounds, 1)]


def _row(name: str, loops: dict[str, Loop], rounds: int, steps: int) -> list[str]:
    work = max(count_flops(lambda loop=loop: next(loop)) for loop in loops.values())  # the same of both; a warm-up
    peak = Peak(CPU, "fp32")
    times = take_turns({"sgemm": peak.products(), **loops}, rounds, steps, CPU)
    most = [peak.flops / each for each in times["sgemm"]]
    told = [_rate(work, times[layout], most) for layout in loops]
    gain = speedup(*(times[layout] for layout in loops))
    return [name, f"{work / 1e9:.2f}", f"{statistics.median(most) / 1e9:.0f}", *told, gain]


def _rate(work: int, times: Sequence[float], peak: Sequence[float]) -> str:
    shares = [work / time / most for time, most in zip(times, peak, strict=True)]
    return f"{work / statistics.median(times) / 1e9:.0f}, {statistics.median(shares):.0%}"


if __name__ == "__main__":
    main()
