"""Autoregressive distributions of binary images, whatever the network.

    log p(x) = Σ_i log p(x_i | x_1 … x_{i−1}),   pixels in raster order, x_i ~ Bernoulli(sigmoid(logit_i))

van den Oord, Kalchbrenner & Kavukcuoglu 2016 (arXiv 1601.06759).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from genbench.engine.device import float64_device, one_thread_for
from genbench.errors import ConfigError
from genbench.functional import log_likelihood_bernoulli_logits

__all__ = ["AutoregressiveImages", "Sampler"]


class Sampler(Protocol):
    """A network's logits for N images, one pixel at a time in raster order, given all earlier pixels."""

    def start_row(self) -> None:
        """Begin the next row (or the image); the rows above are complete."""

    def logits(self, column: int) -> Tensor:
        """[N], for the pixel in this column of the current row."""

    def set(self, column: int, pixels: Tensor) -> None:
        """Set the pixel in this column to `pixels` [N]."""


class AutoregressiveImages(nn.Module):
    """Distribution of binary images [1, H, W]; `bias` [1, H, W] is added to the logits of the network.

    A class-conditional one is p(x|y): its methods take labels [B] as `*labels`. Raises ConfigError for images of
    several channels.
    """

    classes = 0
    """That it tells apart."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        if len(shape) != 3 or shape[0] != 1:
            size = " × ".join(map(str, shape))
            raise ConfigError(f"a PixelCNN is for binary images of one channel, not {size}", "set dataset=binmnist")
        self.shape = tuple(shape)
        self.bias = nn.Parameter(torch.zeros(*shape))

    def network(self, x: Tensor, *labels: Tensor) -> Tensor:
        """[B, 1, H, W] → [B, 1, H, W]: each output depends only on the pixels before it."""
        raise NotImplementedError(f"{type(self).__name__} does not define network")

    def sampler(self, count: int, *labels: Tensor) -> Sampler:
        """The network's logits, without `self.bias`, for `count` images sampled pixel by pixel."""
        raise NotImplementedError(f"{type(self).__name__} does not define sampler")

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        """Images [B, 1, H, W] → logits of their pixels, [B, 1, H, W], each given the pixels before it."""
        return self.network(x, *labels) + self.bias

    def log_prob(self, x: Tensor, *labels: Tensor) -> Tensor:
        """[B, 1, H, W] → [B], exact, in nats."""
        return log_likelihood_bernoulli_logits(self(x, *labels), x)

    @torch.no_grad()
    def sample(
        self,
        count: int | None = None,
        *labels: Tensor,
        uniforms: Tensor | None = None,
        bias: Tensor | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Draw images: a pixel is 1 if its uniform number is less than its probability.

        Every layer computes each position once, from cached inputs at earlier positions.

        Args:
            count: N; the uniform numbers come from the global generator.
            labels: [N], of a class-conditional network.
            uniforms: [N, 1, H, W] in [0, 1), instead of `count`. Raises ValueError unless exactly one is given.
            bias: [N, 1, H, W], added to the logits, such as the outputs of a PixelVAE's decoder.
            progress: called with the number of finished rows, 1 … H.

        Returns:
            [N, 1, H, W] of 0 and 1.
        """
        if uniforms is None and count is not None:
            uniforms = torch.rand(count, *self.shape, dtype=self.bias.dtype, device=self.bias.device)
        elif uniforms is None or count is not None:
            raise ValueError("sample takes either a count or uniforms")
        known = (self.bias if bias is None else self.bias + bias).expand_as(uniforms)
        images = torch.zeros_like(known)
        sampler = self.sampler(len(uniforms), *labels)
        with one_thread_for(len(uniforms), uniforms.device):
            for row in range(self.shape[1]):
                sampler.start_row()
                for column in range(self.shape[2]):
                    at = (..., 0, row, column)
                    images[at] = uniforms[at] < torch.sigmoid(sampler.logits(column) + known[at])
                    sampler.set(column, images[at])
                if progress is not None:
                    progress(row + 1)
        return images

    def receptive_field(self, row: int | None = None, column: int | None = None) -> Tensor:
        """[H, W], boolean: the pixels on which the logit at a pixel (by default the middle one) can depend.

        This is a property of the architecture: the gradient of a copy with positive weights only, where nothing
        cancels and no ReLU is dead, is zero exactly where there is no path.
        """
        _, height, width = self.shape
        row, column = height // 2 if row is None else row, width // 2 if column is None else column
        # Means instead of sums: activations stay within (0, 1], where no gate saturates.
        network = copy.deepcopy(self).to(float64_device(self.bias.device)).double()
        for parameter in network.parameters():
            parameter.detach().fill_(1 / parameter[0].numel() if parameter.dim() == 4 else 0)
        with torch.enable_grad():
            x = torch.ones_like(network.bias).unsqueeze(0).requires_grad_()
            some_class = [torch.zeros(1, dtype=torch.long, device=x.device)] if self.classes else []
            logit = network(x, *some_class)[0, 0, row, column]
            (gradient,) = torch.autograd.grad(logit, x)
        return gradient[0, 0] > 0
