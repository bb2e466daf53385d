"""What the benchmarks share: loops of training steps that take turns, and how their times are told."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from genbench.arguments import whole_number
from genbench.compose import configuration
from genbench.config import Config
from genbench.engine import device as devices
from genbench.engine.batches import Batches
from genbench.engine.capture import CapturedStep
from genbench.engine.meters import Meters
from genbench.models.vae import Elu

WIDTH = 132  # of what is printed, in characters

T = TypeVar("T", bound=nn.Module)

Loop = Generator[None, None, None]
"""A training loop that pauses after every step."""


def rounds_parser(description: str | None, rounds: int | None) -> argparse.ArgumentParser:
    """The option of every benchmark whose sides take turns; None where the default depends on the device."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--rounds", type=whole_number(2), default=rounds, help="turns of every side, at least 2")
    return parser


def argument_parser(description: str | None, rounds: int | None, steps: int | None) -> argparse.ArgumentParser:
    """The options of the benchmarks of training; None where the default depends on the device."""
    parser = rounds_parser(description, rounds)
    parser.add_argument("--steps", type=int, default=steps, help="training steps in each turn")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: PyTorch's choice)")
    return parser


def experiment(name: str, *words: str) -> Config:
    """An experiment; where binarized MNIST is not to be had, on the digits that need no download instead."""
    config = configuration(f"experiment={name}", *words)
    if config.dataset["name"] == "binmnist" and not (Path(config.data_root) / "binarized_mnist").is_dir():
        config = configuration(f"experiment={name}", *words, "dataset=mnist5k")
    return config


def with_plain_elus(model: T) -> T:
    """The model itself, now with PyTorch's ELU, as in the reports."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Elu):
                setattr(module, name, nn.ELU())
    return model


def genbench_steps(task: Any, batches: Batches, captured: bool = False) -> Loop:
    """What the engine does in a training step; `captured`: as one CUDA graph."""
    step = CapturedStep(task.training_step) if captured else lambda batch, variant: task.training_step(*batch)
    meters = Meters()
    while True:
        with devices.tf32(task.parts.precision == "tf32"):
            meters.add(step(batches.next(), task.prepare_step()))
        yield


def seconds(loop: Loop, count: int, device: torch.device) -> float:
    """Of `count` steps, from an idle device until all its work is done."""
    devices.synchronize(device)
    begin = time.perf_counter()
    for _ in range(count):
        next(loop)
    devices.synchronize(device)
    return time.perf_counter() - begin


def take_turns(loops: Mapping[str, Loop], rounds: int, count: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds a step of every loop in every round of turns: a change in the machine's speed meets them all."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            times[name].append(seconds(loop, count, device) / count)
    return times


def ratios(longer: Sequence[float], shorter: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the ratios of two loops' times, pair by pair."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(longer, shorter, strict=True)], n=4)
    return low, middle, high


def speedup(plain: Sequence[float], own: Sequence[float]) -> str:
    """How many times as fast as the plain loop, with quartiles."""
    low, middle, high = ratios(plain, own)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def print_table(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column holds names, the others numbers."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
