"""Deep convolutional GAN for images of 32 × 32 or 64 × 64.

Radford, Metz & Chintala 2016 (arXiv 1511.06434), with the layers of report 001, problem 3: batch normalization in the
generator only, since gradient penalties require a critic that treats samples independently. Images of 64 × 64 have
one more stage, as in the paper: with w = 128, the generator is that of its figure 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from genbench.errors import ConfigError
from genbench.models.conditioning import ConditionalSequential, batch_norm, known_classes, project
from genbench.models.gan import GanPair
from genbench.models.initialization import initialize
from genbench.registry import Width, register

__all__ = ["Dcgan", "DcganCritic", "DcganGenerator"]

INIT_STD = 0.02


class DcganGenerator(ConditionalSequential):
    """[B, L] → [B, C, 32, 32] through 4w × 4 × 4, 2w × 8 × 8 and w × 16 × 16; images of 64 × 64 from 8w × 4 × 4."""

    def __init__(self, latent_dim: int, width: int, shape: Sequence[int], classes: int = 0) -> None:
        channels, widths = shape[0], stage_widths(width, shape)[::-1]
        layers: list[nn.Module] = [nn.Unflatten(1, (latent_dim, 1, 1))]
        layers += [nn.ConvTranspose2d(latent_dim, widths[0], 4, bias=False)]
        for inputs, outputs in pairwise(widths):
            layers += [batch_norm(nn.BatchNorm2d, inputs, classes), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)]
        layers += [batch_norm(nn.BatchNorm2d, width, classes), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1), nn.Tanh()]
        super().__init__(*layers)


class DcganCritic(nn.Module):
    """[B, C, 32, 32] → [B] through w × 16 × 16, 2w × 8 × 8 and 4w × 4 × 4, the features; of images of 64 × 64, to
    8w × 4 × 4."""

    def __init__(self, width: int, shape: Sequence[int], classes: int = 0) -> None:
        super().__init__()
        widths = stage_widths(width, shape)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([shape[0], *widths]):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4))
        self.embedding = nn.Embedding(classes, widths[-1] * 4 * 4) if classes else None

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        features: Tensor = self.layers[:-1](x)
        scores: Tensor = self.layers[-1](features)
        return project(scores.flatten(), features.flatten(1), self.embedding, *labels)


@register("model", "dcgan")
class Dcgan(GanPair):
    """`width` w for both players, unless `generator_width` or `critic_width` overrides it. With `conditional`, the
    generator has conditional batch normalization, and the critic is a projection critic. Raises ConfigError for
    images of another size."""

    def __init__(
        self,
        shape: Sequence[int],
        classes: int = 0,
        *,
        latent_dim: Width = 100,
        width: Width = 128,
        generator_width: Width | None = None,
        critic_width: Width | None = None,
        conditional: bool = False,
    ) -> None:
        check_size(shape, "dcgan")
        classes = known_classes(conditional, classes)
        super().__init__(
            DcganGenerator(latent_dim, generator_width or width, shape, classes),
            DcganCritic(critic_width or width, shape, classes),
            latent_dim,
            classes,
        )
        initialize(self, INIT_STD)


def stage_widths(width: int, shape: Sequence[int]) -> list[int]:
    """Channels at each size from half of the image's down to 4 × 4: doubled wherever the size is halved."""
    return [width * 2**stage for stage in range((shape[1] // 4).bit_length() - 1)]


def check_size(shape: Sequence[int], model: str) -> None:
    """Raise ConfigError unless `shape` is [C, 32, 32] or [C, 64, 64]."""
    if len(shape) != 3 or tuple(shape[1:]) not in ((32, 32), (64, 64)):
        size = " × ".join(map(str, shape))
        raise ConfigError(
            f"model={model} is for images of 32 × 32 or 64 × 64, and these are {size}",
            "set dataset=cifar10; of dataset=images, set dataset.size=32 or 64",
        )
