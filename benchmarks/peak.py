"""How near training steps come to the machine's limit: `make bench-peak`.

The multiplications and additions in a step's convolutions and matrix products, over its time, beside the rate of a
large float32 matrix product (sgemm). Every network in both memory layouts, in turns with the matrix product. The last
row is Inception's forward pass, of which FID is made.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

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
SIDE = 2048  # of the matrices
IMAGES = 32
CPU = torch.device("cpu")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Flops(TorchDispatchMode):
    """Counts floating-point operations, also in gradients of gradients, where torch.utils.FlopCounterMode fails."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if count := flop_registry.get(function._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def flops(loop: Loop) -> int:
    """Of the multiplications and additions in one step's convolutions and matrix products."""
    with Flops() as counter:
        next(loop)
    return counter.total


def products() -> Loop:
    matrix = torch.randn(SIDE, SIDE)
    while True:
        matrix @ matrix
        yield


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
    print_table(console, title, columns, [*rows, fid(options.rounds)])
    console.print(f"Medians of {options.rounds} turns, of {options.steps} steps each.")


def training(name: str, rounds: int, steps: int) -> list[str]:
    config = experiment(name, *(NO_SCORES if name.startswith("cifar10") else ()))
    loops = {}
    for layout, memory_format in LAYOUTS.items():
        task = build_task(config, CPU)
        task.parts.model.to(memory_format=memory_format)
        loops[layout] = genbench_steps(task, make_batches(config, task))
    return _row(name, loops, rounds, steps)


def fid(rounds: int) -> list[str]:
    """Inception's forward pass, as FID uses it and in the other layout."""
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8)
    weights = find_weights(Path(experiment("cifar10-jsd-2", *NO_SCORES).data_root), None)
    loops = {}
    for layout, memory_format in LAYOUTS.items():
        network = Inception(weights, CPU)
        network.network.to(memory_format=memory_format)
        loops[layout] = forward(network, images)
    return _row(f"Inception, {IMAGES} images", loops, rounds, 1)


def _row(name: str, loops: dict[str, Loop], rounds: int, steps: int) -> list[str]:
    work = max(flops(loop) for loop in loops.values())  # the same of both; warms them up
    times = take_turns({"sgemm": products(), **loops}, rounds, steps, CPU)
    peak = [2 * SIDE**3 / each for each in times["sgemm"]]
    told = [_rate(work, times[layout], peak) for layout in loops]
    gain = speedup(*(times[layout] for layout in loops))
    return [name, f"{work / 1e9:.2f}", f"{statistics.median(peak) / 1e9:.0f}", *told, gain]


def _rate(work: int, times: Sequence[float], peak: Sequence[float]) -> str:
    shares = [work / time / most for time, most in zip(times, peak, strict=True)]
    return f"{work / statistics.median(times) / 1e9:.0f}, {statistics.median(shares):.0%}"


if __name__ == "__main__":
    main()
