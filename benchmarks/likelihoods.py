"""Likelihoods, samples and training steps of VAEs and PixelCNNs beside plain code: `make bench-vae`.

    importance sampling     log p(x) of 64 images by the L = 100 VAE, K = 1000: a loop over particles
    sampling                49 images from the PixelCNN of report 003: a pass of the whole network for every pixel
    training                the same PixelCNN: square kernels times a mask, a DataLoader, unfused Adam, `.item()`

All with untrained networks, which cost the same; in turns in one process. The plain sampler takes minutes, so a few
of its 784 equal passes are timed.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F
from torch.utils.data import DataLoader

from benchmarks.common import (
    WIDTH,
    Loop,
    argument_parser,
    experiment,
    genbench_steps,
    print_table,
    ratios,
    seconds,
    speedup,
    take_turns,
    with_plain_elus,
)
from genbench.build import build_task
from genbench.engine.batches import Batches
from genbench.metrics.importance import importance_sampled_log_likelihood
from genbench.models.autoregressive import AutoregressiveImages
from genbench.models.pixelcnn import MaskedConv2d, PixelCnn
from genbench.models.vae import Vae

VAE, PIXELCNN = "vae-binmnist-L100", "pixelcnn-binmnist"
IMAGES, PARTICLES, SAMPLES = 64, 1000, 49
PASSES = 5  # of the plain sampler in each turn
CPU = torch.device("cpu")


def loop_over(action: Callable[[], object]) -> Loop:
    """An action without gradients, again and again."""
    while True:
        with torch.no_grad():
            action()
        yield


def log_likelihood_by_particle(model: Vae, x: Tensor, count: int) -> Tensor:
    """log p(x) ≈ log 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x) as the reports wrote it, particle by particle: [B]."""
    mu, logvar, _ = model.encode(x)
    posterior, prior = Normal(mu, torch.exp(0.5 * logvar)), Normal(torch.zeros_like(mu), torch.ones_like(mu))
    log_weights = []
    for _ in range(count):
        z = posterior.sample()
        mean = torch.sigmoid(model.decode(z))
        log_p_x = (x * torch.log(mean + 1e-8) + (1 - x) * torch.log(1 - mean + 1e-8)).flatten(1).sum(1)
        log_weights.append(log_p_x + prior.log_prob(z).sum(1) - posterior.log_prob(z).sum(1))
    return torch.logsumexp(torch.stack(log_weights), dim=0) - math.log(count)


def naive_passes(model: AutoregressiveImages, uniforms: Tensor) -> Loop:
    """The plain sampler, a pass of the network for every pixel, image after image."""
    _, _, height, width = uniforms.shape
    while True:
        images = torch.zeros_like(uniforms)
        for row in range(height):
            for column in range(width):
                with torch.no_grad():
                    probability = torch.sigmoid(model(images)[:, :, row, column])
                images[:, :, row, column] = (uniforms[:, :, row, column] < probability).float()
                yield


class PlainMaskedConv2d(nn.Conv2d):
    """A square kernel; what may not be seen is multiplied by zero."""

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, kind: str, bias: bool = True) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2, bias=bias)
        mask = torch.ones(size, size)
        mask[size // 2, size // 2 + (kind == "B") :] = 0
        mask[size // 2 + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class PlainPixelCnn(nn.Module):
    """The network of genbench.models.pixelcnn.PixelCnn, with its weights."""

    def __init__(self, own: PixelCnn) -> None:
        super().__init__()
        convs = [module for module in own.modules() if isinstance(module, MaskedConv2d)]
        self.convs = nn.ModuleList(self._copy(conv, "A" if conv is convs[0] else "B") for conv in convs)
        self.bias = nn.Parameter(own.bias.detach().clone())

    @staticmethod
    def _copy(conv: MaskedConv2d, kind: str) -> PlainMaskedConv2d:
        size = conv.kernel_size[1]
        plain = PlainMaskedConv2d(conv.in_channels, conv.out_channels, size, kind, conv.bias is not None)
        with torch.no_grad():
            plain.weight.zero_()[:, :, : size // 2 + 1] = conv.weight
            if plain.bias is not None and conv.bias is not None:
                plain.bias.copy_(conv.bias)
        return plain

    def forward(self, x: Tensor) -> Tensor:
        first, *inner, last = self.convs
        h = F.relu(first(x))
        for one, other in zip(inner[::2], inner[1::2], strict=True):
            h = h + other(F.relu(one(F.relu(h))))
        return last(h) + self.bias


def plain_steps(model: nn.Module, images: Tensor, batch_size: int, lr: float) -> Loop:
    """A training loop as one writes it at first, one step at a time."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    loader = DataLoader(images, batch_size=batch_size, shuffle=True)  # type: ignore[arg-type]
    total = 0.0
    while True:
        for x in loader:
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(model(x), x, reduction="sum") / len(x)
            loss.backward()
            optimizer.step()
            total += loss.item()
            yield


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__, rounds=7, steps=3)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = [importance_sampling(options.rounds), sampling(options.rounds), training(options.rounds, options.steps)]
    console = Console(width=WIDTH)
    title = f"plain code and genbench, {torch.get_num_threads()} threads, CPU"
    print_table(console, title, ("", "plain", "genbench", "ratio, turn by turn (quartiles)"), rows)
    console.print(f"Medians of {options.rounds} turns; training: of {options.steps} steps each.")


def importance_sampling(rounds: int) -> list[str]:
    config = experiment(VAE)
    task = build_task(config, CPU)
    stored, to_float = task.dataset.test[:IMAGES], task.dataset.to_float
    x = to_float(stored)
    plain_model = with_plain_elus(copy.deepcopy(task.model))
    loops = {
        "plain": loop_over(lambda: log_likelihood_by_particle(plain_model, x, PARTICLES)),
        "own": loop_over(
            lambda: importance_sampled_log_likelihood(task.model, stored, to_float, PARTICLES, task.memory_mib)
        ),
    }
    times = _times(loops, rounds, 1)
    plain, own = (f"{statistics.median(found):.2f} s" for found in times.values())
    return [f"{VAE}: log p(x), K = {PARTICLES}, {IMAGES} images", plain, own, speedup(times["plain"], times["own"])]


def sampling(rounds: int) -> list[str]:
    task = build_task(experiment(PIXELCNN), CPU)
    shape = task.dataset.shape
    uniforms = torch.rand(SAMPLES, *shape)
    loops = {
        "plain": naive_passes(task.model, uniforms),
        "own": loop_over(lambda: task.model.sample(uniforms=uniforms)),
    }
    for loop in loops.values():
        seconds(loop, 1, CPU)
    turns = [(seconds(loops["plain"], PASSES, CPU), seconds(loops["own"], 1, CPU)) for _ in range(rounds)]
    plain, own = [math.prod(shape) * one / PASSES for one, _ in turns], [other for _, other in turns]
    low, middle, high = ratios(plain, own)
    medians = (f"{statistics.median(found):.2f} s" for found in (plain, own))
    return [f"{PIXELCNN}: {SAMPLES} samples", *medians, f"{middle:.0f} ({low:.0f} to {high:.0f})"]


def training(rounds: int, steps: int) -> list[str]:
    config = experiment(PIXELCNN)
    task = build_task(config, CPU)
    size = config.trainer.batch_size
    images = task.dataset.to_float(task.dataset.train)
    loops = {
        "plain": plain_steps(PlainPixelCnn(task.model), images, size, config.optimizer["lr"]),
        "own": genbench_steps(task, Batches(task.training_data, size, config.seed)),
    }
    times = _times(loops, rounds, steps)
    plain, own = (f"{1 / statistics.median(found):.2f} steps/s" for found in times.values())
    return [f"{PIXELCNN}: training, batch {size}", plain, own, speedup(times["plain"], times["own"])]


def _times(loops: dict[str, Loop], rounds: int, count: int) -> dict[str, list[float]]:
    for loop in loops.values():
        seconds(loop, 1, CPU)
    return take_turns(loops, rounds, count, CPU)


if __name__ == "__main__":
    main()
