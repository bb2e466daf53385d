"""Image GANs beside the plain loop and the device's arithmetic: `make bench-gan`.

For a DCGAN with R1 and for the residual pair with spectral normalization, all loops train the same networks on the
same images with the same hyperparameters in one process, in turn, so that a change in the machine's speed meets all
of them. The plain loop is what people write themselves: a DataLoader with workers, a pass of the critic each for real
images, fake images and penalty, `backward()`, Adam without fusion, a moving average parameter by parameter,
`.item()` for the log. The peak is that of a large matrix product in the same run and arithmetic: a share of 100 %
would mean that nothing but a step's convolutions and matrix products takes time, at the speed of that product.
"""

from __future__ import annotations

import argparse
import copy
import functools
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from benchmarks.arithmetic import Peak, count_flops
from benchmarks.common import (
    WIDTH,
    Loop,
    argument_parser,
    genbench_steps,
    print_table,
    ratios,
    seconds,
    speedup,
    take_turns,
)
from genbench import registry
from genbench.build import build_task, make_batches
from genbench.compose import configuration
from genbench.config import Config
from genbench.data.dataset import Dataset, unit_interval
from genbench.engine import device as devices
from genbench.engine.capture import can_capture

EXPERIMENTS = ("cifar10-jsd-3", "cifar10-hinge-sn-resnet")
PLAIN, EAGER = "the plain loop", "genbench"
CAPTURED, CAPTURED_BF16 = "genbench, captured", "genbench, captured, bf16"
COMPILED = {"cpu": "genbench, compiled", "cuda": "genbench, compiled and captured"}
ARITHMETIC = {"fp32": "float32", "tf32": "TF32", "bf16": "bfloat16"}
WARM_UP = 12  # steps; a captured loop captures its fourth, and cuDNN chooses its algorithms in the first ones
WORKERS = 2
CPU_WIDTH = 32
NOISE_ROWS = (50_000, 10_000)  # train and test, as in CIFAR-10
ROUNDS = {"cpu": 10, "cuda": 15}
STEPS = {"cpu": 5, "cuda": 100}
LEGEND = """img/s: real images that the critic sees a second; GFLOP: of one step, in convolutions and matrix products;
of the peak: GFLOP/s over those of a large matrix product in the same arithmetic, round by round, each loop by its
own count; ratio: steps/s over the plain loop's, round by round, with quartiles."""


def experiment(
    name: str,
    options: argparse.Namespace,
    device: torch.device,
    compiled: bool = False,
    precision: str | None = None,
) -> Config:
    """The experiment in the size and precision that the options ask for, FID switched off."""
    width = options.width or (CPU_WIDTH if device.type == "cpu" else None)
    words = [f"experiment={name}", "task.fid_samples=null", "task.final_samples=null", f"task.compile={compiled}"]
    words += [f"model.width={width}"] if width else []
    words += [f"trainer.batch_size={options.batch}"] if options.batch else []
    return configuration(*words, f"trainer.precision={precision or options.precision}")


def build(config: Config, device: torch.device) -> Any:
    """The task; where CIFAR-10 is missing, on noise of the same shape instead of a download."""
    if any(Path(config.data_root).glob("cifar-10-*")):
        return build_task(config, device)
    registry.load_components()  # now: what registers under the patch is forgotten with it
    with mock.patch.dict(registry._components, {("dataset", "cifar10"): noise}):
        return build_task(config, device)


@functools.cache
def _noise(rows: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(rows).integers(0, 256, (rows, 3, 32, 32), dtype=np.uint8))


def noise(root: Path) -> Dataset:
    """Random images in place of CIFAR-10."""
    train, test = (_noise(rows) for rows in NOISE_ROWS)
    return Dataset("random images", train, test, test, to_float=unit_interval, binary=False, protocol={})


class Images(torch.utils.data.Dataset):
    """torchvision's CIFAR10 with ToTensor and Normalize(0.5, 0.5), without its detour over PIL."""

    def __init__(self, images: Tensor) -> None:
        self.images = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image = torch.from_numpy(self.images[index]).permute(2, 0, 1).contiguous().float().div(255)
        return (image - 0.5) / 0.5


def jsd_critic(real: Tensor, fake: Tensor) -> Tensor:
    ones, zeros = torch.ones_like(real), torch.zeros_like(fake)
    real_loss = F.binary_cross_entropy_with_logits(real, ones)
    return 0.5 * (real_loss + F.binary_cross_entropy_with_logits(fake, zeros))


def jsd_generator(fake: Tensor) -> Tensor:
    return -0.5 * F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    return -fake.mean()


LOSSES = {"jsd": (jsd_critic, jsd_generator), "hinge": (hinge_critic, hinge_generator)}


class PlainGan:
    """A GAN as people write it. Of genbench it has the networks, spectral normalization included."""

    def __init__(self, task: Any, config: Config) -> None:
        self.device = task.parts.device
        self.generator, self.critic = task.generator, task.critic
        self.average = copy.deepcopy(self.generator)
        self.generator_optimizer = _adam(self.generator, config.optimizer)
        self.critic_optimizer = _adam(self.critic, config.critic_optimizer or config.optimizer)
        self.critic_loss, self.generator_loss = LOSSES[config.loss["name"]]
        self.r1 = config.regularizer["coefficient"] if config.regularizer["name"] == "r1" else None
        self.latent_dim = config.model["latent_dim"]
        self.critic_steps, self.ema = config.task["critic_steps"], config.task["ema"]
        self.precision = config.trainer.precision

    def step(self, reals: Iterator[Tensor]) -> tuple[float, float]:
        """`critic_steps` updates of the critic, one of the generator; both players' last losses."""
        for _ in range(self.critic_steps):
            real = next(reals).to(self.device, non_blocking=True)
            critic_loss = self.critic_step(real)
        generator_loss = self.generator_step(len(real))
        self.update_average()
        return critic_loss.item(), generator_loss.item()

    def critic_step(self, real: Tensor) -> Tensor:
        self.critic_optimizer.zero_grad()
        with self.autocast():
            fake = self.generator(self.latents(len(real))).detach()
            real_scores, fake_scores = self.critic(real), self.critic(fake)
        loss = self.critic_loss(real_scores.float(), fake_scores.float())
        if self.r1 is not None:
            points = real.detach().requires_grad_()  # in float32, whatever the passes above compute in
            (gradient,) = torch.autograd.grad(self.critic(points).sum(), points, create_graph=True)
            loss = loss + self.r1 * gradient.flatten(1).square().sum(1).mean()
        loss.backward()
        self.critic_optimizer.step()
        return loss

    def generator_step(self, count: int) -> Tensor:
        self.generator_optimizer.zero_grad()
        with self.autocast():
            scores = self.critic(self.generator(self.latents(count)))
        loss = self.generator_loss(scores.float())
        loss.backward()  # through the critic's parameters too: their gradients are cleared before its next step
        self.generator_optimizer.step()
        return loss

    @torch.no_grad()
    def update_average(self) -> None:
        for average, value in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            average.mul_(self.ema).add_(value, alpha=1 - self.ema)
        for average, value in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            average.copy_(value)

    def latents(self, count: int) -> Tensor:
        return torch.randn(count, self.latent_dim, device=self.device)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")


def _adam(network: torch.nn.Module, config: dict[str, Any]) -> torch.optim.Adam:
    """Without fusion; on CUDA that is PyTorch's default, which goes through all parameters at once."""
    betas = (config["beta1"], config["beta2"])
    return torch.optim.Adam(
        network.parameters(), lr=config["lr"], betas=betas, eps=config["eps"], weight_decay=config["weight_decay"]
    )


def plain_steps(gan: PlainGan, images: Tensor, batch_size: int) -> Loop:
    """The plain loop. Its workers go on while the others have their turns, until a few batches lie ready."""
    loader = DataLoader(
        Images(images),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
        pin_memory=gan.device.type == "cuda",
    )

    def batches() -> Iterator[Tensor]:
        while True:
            yield from loader

    reals = batches()
    while True:
        with devices.tf32(gan.precision == "tf32"):
            gan.step(reals)
        yield


def plain_flops(gan: PlainGan, task: Any, batch_size: int) -> int:
    """Of one step."""
    real = task.real_samples(task.dataset.train[:batch_size])
    return count_flops(lambda: gan.step(iter([real] * gan.critic_steps)))


def genbench_flops(task: Any, batch_size: int) -> int:
    """Of one step."""
    batch = [tensor[: batch_size * task.batches_per_step] for tensor in task.training_data]

    def step() -> None:
        task.prepare_step()
        task.training_step(*batch)

    return count_flops(step)


def compare(name: str, options: argparse.Namespace, device: torch.device, console: Console) -> None:
    """Measure one experiment and print its table."""
    config = experiment(name, options, device)
    size, captures = config.trainer.batch_size, can_capture(device)
    flops: dict[str, int] = {}
    loops: dict[str, Loop] = {}
    peaks: dict[str, Peak] = {}

    def add(loop: str, config: Config, captured: bool) -> None:
        task = build(config, device)
        # Counted without the compiler, which cannot work while operations are counted; they are the same.
        flops[loop] = flops[EAGER] if config.task["compile"] else genbench_flops(task, size)
        loops[loop] = genbench_steps(task, make_batches(config, task), captured=captured)
        peaks[loop] = Peak(device, config.trainer.precision)

    task = build(config, device)
    title = f"{config.name} on {task.dataset.name}, width {config.model['width']}, batch {size}"
    title += f", {config.trainer.precision}, {devices.describe(device)}"
    gan = PlainGan(task, config)
    flops[PLAIN] = plain_flops(gan, task, size)
    loops[PLAIN] = plain_steps(gan, task.dataset.train, size)
    peaks[PLAIN] = Peak(device, config.trainer.precision)
    add(EAGER, config, captured=False)
    if captures:
        add(CAPTURED, config, captured=True)
        if config.trainer.precision != "bf16":
            add(CAPTURED_BF16, experiment(name, options, device, precision="bf16"), captured=True)
    if options.compile:
        add(COMPILED[device.type], experiment(name, options, device, compiled=True), captured=captures)

    # The plain loop last: no other thread may call CUDA while a step is captured, and its DataLoader starts one to
    # pin memory.
    warm_up = {loop: seconds(loops[loop], WARM_UP, device) for loop in reversed(loops)}
    products = {peak: peak.products() for peak in peaks.values()}
    for loop in products.values():
        seconds(loop, 3, device)
    both: dict[Any, Loop] = {**loops, **products}
    times = take_turns(both, options.rounds, options.steps, device)

    rows = []
    for loop in loops:
        median, peak = statistics.median(times[loop]), peaks[loop]
        row = (
            loop,
            f"{1 / median:.4g}",
            f"{task.batches_per_step * size / median:.0f}",
            f"{median * 1e3:.2f}",
            f"{flops[loop] / 1e9:.4g}",
            f"{ratios(times[peak], times[loop])[1] * flops[loop] / peak.flops:.1%}",
            f"{warm_up[loop]:.1f}",
            speedup(times[PLAIN], times[loop]),
        )
        rows.append(row)
    columns = ("", "steps/s", "img/s", "ms a step", "GFLOP a step", "of the peak", "warm-up (s)", "ratio")
    print_table(console, title, columns, rows)
    shown = [
        f"{peak.flops / statistics.median(times[peak]) / 1e9:,.0f} GFLOP/s in {ARITHMETIC[peak.precision]}, "
        f"a product of {peak.side} × {peak.side} matrices"
        for peak in products
    ]
    console.print(
        f"The peak: {'; '.join(shown)}. Medians of {options.rounds} turns of {options.steps} steps.", highlight=False
    )
    for steps in loops.values():
        steps.close()  # the DataLoader's threads end before the next experiment is captured


def main(words: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__, rounds=None, steps=None)
    parser.add_argument("--width", type=int, help=f"model.width (default: the experiment's; on a CPU {CPU_WIDTH})")
    parser.add_argument("--batch", type=int, help="trainer.batch_size (default: the experiment's)")
    parser.add_argument("--precision", choices=tuple(ARITHMETIC), default="fp32", help="of the networks")
    parser.add_argument("--compile", action="store_true", help="measure task.compile=true too")
    options = parser.parse_args(words)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = devices.resolve("auto")
    options.rounds = options.rounds or ROUNDS[device.type]
    options.steps = options.steps or STEPS[device.type]
    console = Console(width=WIDTH)
    for name in EXPERIMENTS:
        compare(name, options, device, console)
    console.print(LEGEND)
    if not can_capture(device):
        console.print(f"Left out: {CAPTURED}, which needs CUDA{'' if options.compile else '; see --compile'}.")


if __name__ == "__main__":
    main()
