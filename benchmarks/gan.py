"""Image GANs beside the plain loop and the device's arithmetic: `make bench-gan`.

For a DCGAN with R1 and for the residual pair with spectral normalization, all loops train the same networks on the
same images with the same hyperparameters in one process, in turn, so that a change in the machine's speed meets all
of them. The plain loop is what people write themselves: a DataLoader with workers, a pass of the critic each for real
images, fake images and penalty, `backward()`, Adam without fusion, a moving average parameter by parameter,
`.item()` for the log. The bound is the speed at which the plain step's matrix products and convolutions would run if
nothing but they took time, and they went as fast as a large matrix product does in the same run.
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
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from benchmarks.common import (
    WIDTH,
    Loop,
    argument_parser,
    configuration,
    genbench_steps,
    print_table,
    ratios,
    seconds,
    speedup,
    take_turns,
)
from genbench import registry
from genbench.config import Config
from genbench.data.dataset import Dataset, unit_interval
from genbench.engine import device as devices
from genbench.engine.batches import Batches
from genbench.run import build_task

EXPERIMENTS = ("cifar10-jsd-3", "cifar10-hinge-sn-resnet")
PLAIN, EAGER, CAPTURED = "the plain loop", "genbench", "genbench, captured"
COMPILED = {"cpu": "genbench, compiled", "cuda": "genbench, compiled and captured"}
BOUND = "the bound"
WARM_UP = 12  # steps; a captured loop captures its fourth, and cuDNN chooses its algorithms in the first ones
WORKERS = 2
CPU_WIDTH = 32
NOISE_ROWS = (50_000, 10_000)  # train and test, as in CIFAR-10
ROUNDS = {"cpu": 10, "cuda": 15}
STEPS = {"cpu": 5, "cuda": 100}
SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices in the product that shows the device's peak
SLOW_SIDE = 512  # in bfloat16 on a CPU, which may have to emulate it
LEGEND = """img/s: real images that the critic sees a second; GFLOP: of one step, in convolutions and matrix products;
of the bound: GFLOP/s over the device's, round by round, each loop by its own count (the bound's row: the plain step);
ratio: steps/s over the plain loop's, round by round, with quartiles."""


def experiment(name: str, options: argparse.Namespace, device: torch.device, compiled: bool = False) -> Config:
    """The experiment in the size that the options ask for, FID switched off."""
    width = options.width or (CPU_WIDTH if device.type == "cpu" else None)
    words = [f"experiment={name}", "task.fid_samples=null", "task.final_samples=null", f"task.compile={compiled}"]
    words += [f"model.width={width}"] if width else []
    words += [f"trainer.batch_size={options.batch}"] if options.batch else []
    return configuration(*words, f"trainer.precision={options.precision}")


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
        self.bf16 = config.trainer.precision == "bf16"

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
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


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
        gan.step(reals)
        yield


def make_batches(task: Any, config: Config) -> Batches:
    """As a run draws them."""
    trainer = config.trainer
    return Batches(task.dataset.train, trainer.batch_size, config.seed, trainer.drop_last, task.batches_per_step)


def products(device: torch.device, precision: str, side: int) -> Loop:
    """Products of two `side` × `side` matrices, in the arithmetic of the networks' convolutions."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    result = torch.empty_like(left)
    while True:
        if device.type == "cuda":  # convolutions and matrix products have switches of their own
            allowed = torch.backends.cuda.matmul.allow_tf32
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
            torch.mm(left, right, out=result)
            torch.backends.cuda.matmul.allow_tf32 = allowed
        else:
            torch.mm(left, right, out=result)
        yield


def arithmetic(device: torch.device, precision: str) -> str:
    """What `products` and the convolutions compute in."""
    if precision == "bf16":
        return "bfloat16"
    return "TF32" if device.type == "cuda" and torch.backends.cudnn.allow_tf32 else "float32"


class _OneModule(ModuleTracker):
    """Counts everything as one: the hooks by which modules are told apart break torch.autograd.grad."""

    def __enter__(self) -> _OneModule:
        return self

    def __exit__(self, *args: object) -> None:
        pass


def count_flops(step: Any) -> int:
    """Of the convolutions and matrix products that `step` calls; a multiplication and an addition are two."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _OneModule()
    with counter:
        step()
    return counter.get_total_flops()


def plain_flops(gan: PlainGan, task: Any, batch_size: int) -> int:
    """Of one step."""
    real = task.real_samples(task.dataset.train[:batch_size])
    return count_flops(lambda: gan.step(iter([real] * gan.critic_steps)))


def genbench_flops(task: Any, batch_size: int) -> int:
    """Of one step."""
    batch = task.dataset.train[: batch_size * task.batches_per_step]

    def step() -> None:
        task.prepare_step()
        task.training_step(batch)

    return count_flops(step)


def compare(name: str, options: argparse.Namespace, device: torch.device, console: Console) -> None:
    """Measure one experiment and print its table."""
    config = experiment(name, options, device)
    size = config.trainer.batch_size
    flops: dict[str, int] = {}
    loops: dict[str, Loop] = {}

    task = build(config, device)
    title = f"{config.name} on {task.dataset.name}, width {config.model['width']}, batch {size}"
    title += f", {config.trainer.precision}, {devices.describe(device)}"
    gan = PlainGan(task, config)
    flops[PLAIN] = plain_flops(gan, task, size)
    loops[PLAIN] = plain_steps(gan, task.dataset.train, size)

    task = build(config, device)
    flops[EAGER] = genbench_flops(task, size)
    loops[EAGER] = genbench_steps(task, make_batches(task, config))
    if device.type == "cuda":
        task = build(config, device)
        flops[CAPTURED] = flops[EAGER]
        loops[CAPTURED] = genbench_steps(task, make_batches(task, config), captured=True)
    if options.compile:
        task = build(experiment(name, options, device, compiled=True), device)
        compiled = COMPILED[device.type]
        flops[compiled] = flops[EAGER]
        loops[compiled] = genbench_steps(task, make_batches(task, config), captured=device.type == "cuda")

    # The plain loop last: no other thread may call CUDA while a step is captured, and its DataLoader starts one to
    # pin memory.
    warm_up = {loop: seconds(loops[loop], WARM_UP, device) for loop in reversed(loops)}
    side = SLOW_SIDE if device.type == "cpu" and config.trainer.precision == "bf16" else SIDE[device.type]
    ceiling = products(device, config.trainer.precision, side)
    seconds(ceiling, 3, device)
    times = take_turns({**loops, BOUND: ceiling}, options.rounds, options.steps, device)
    peak = 2 * side**3 / statistics.median(times[BOUND])
    times[BOUND] = [t * flops[PLAIN] / (2 * side**3) for t in times[BOUND]]
    flops[BOUND] = flops[PLAIN]

    rows = []
    for loop in (*loops, BOUND):
        median = statistics.median(times[loop])
        row = (
            loop,
            f"{1 / median:.4g}",
            f"{task.batches_per_step * size / median:.0f}",
            f"{median * 1e3:.2f}",
            f"{flops[loop] / 1e9:.4g}",
            f"{ratios(times[BOUND], times[loop])[1] * flops[loop] / flops[PLAIN]:.1%}" if loop != BOUND else "",
            f"{warm_up[loop]:.1f}" if loop != BOUND else "",
            speedup(times[PLAIN], times[loop]),
        )
        rows.append(row)
    columns = ("", "steps/s", "img/s", "ms a step", "GFLOP a step", "of the bound", "warm-up (s)", "ratio")
    print_table(console, title, columns, rows)
    console.print(
        f"The bound: {peak / 1e9:,.0f} GFLOP/s in {arithmetic(device, config.trainer.precision)}, "
        f"a product of {side} × {side} matrices. Medians of {options.rounds} turns of {options.steps} steps."
    )
    for steps in loops.values():
        steps.close()  # the DataLoader's threads end before the next experiment is captured


def main(words: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__, rounds=None, steps=None)
    parser.add_argument("--width", type=int, help=f"model.width (default: the experiment's; on a CPU {CPU_WIDTH})")
    parser.add_argument("--batch", type=int, help="trainer.batch_size (default: the experiment's)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the networks")
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
    if device.type != "cuda":
        console.print(f"Left out: {CAPTURED}, which needs CUDA{'' if options.compile else '; see --compile'}.")


if __name__ == "__main__":
    main()
