"""Variational auto-encoders: networks, posterior and likelihood combined.

    p(z) = N(0, I),   p(x|z),   q(z|x)

Multi-layer perceptrons (reports 000–002, 004); residual convolutions, alone or with a PixelCNN (report 003), the
PixelVAE of Gulrajani et al. 2017 (arXiv 1611.05013).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from genbench.errors import ConfigError
from genbench.functional import elu
from genbench.models.conditioning import known_classes
from genbench.models.conv_vae import ConvDecoder, ConvEncoder
from genbench.models.likelihood import LIKELIHOODS, make_likelihood
from genbench.models.pixelcnn import PixelCnn
from genbench.models.posterior import FLOW_POSTERIORS, POSTERIORS, Code, make_posterior
from genbench.registry import Depth, OneOf, PositiveFloat, Range, Width, register

__all__ = ["ConvVae", "Elu", "MlpVae", "Vae"]

# Numbers per latent that a convolutional encoder supplies to a flow posterior.
CONTEXT_PER_LATENT = 4
# Tensors of a network's width, or of an image's size, that exist simultaneously without gradients.
TEMPORARIES = 4


class Vae(nn.Module):
    """Base class of VAEs. A subclass defines `encode` and `decode`; its constructor passes on `**settings`.

    `context` is the size of the context vector of a flow posterior. A class-conditional VAE is p(x|y) with
    p(z|y) = N(0, I), p(x|z, y) and q(z|x, y) (Sohn et al. 2015); its methods take labels [B] as `*labels`.

    Attributes:
        latent_dim: L
        classes: that it tells apart; 0 unless it is class-conditional.
        shape: one image's [C, H, W].
        posterior, likelihood: modules of genbench.models.posterior and genbench.models.likelihood.
        image_floats, latent_floats: approximate peak memory, in numbers, per encoded image and per decoded latent
            vector.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        context: int,
        *,
        posterior: Annotated[str, OneOf(*POSTERIORS)] = "normal",
        flow_steps: Depth = 8,
        likelihood: Annotated[str, OneOf(*LIKELIHOODS)] = "bernoulli",
        sigma: PositiveFloat = 0.03,
        learn_sigma: bool = False,
    ) -> None:
        super().__init__()
        self.shape, self.latent_dim = tuple(shape), latent_dim
        self.image_floats = self.latent_floats = TEMPORARIES * math.prod(shape)
        self.posterior = make_posterior(posterior, latent_dim, flow_steps, context)
        self.likelihood = make_likelihood(likelihood, sigma, learn_sigma)

    classes = 0

    def encode(self, x: Tensor, *labels: Tensor) -> Code:
        """Images [B, C, H, W] → parameters of the posterior."""
        raise NotImplementedError(f"{type(self).__name__} does not define encode")

    def decode(self, z: Tensor, *labels: Tensor) -> Tensor:
        """Latents [B, L] → inputs of the likelihood (such as logits), [B, C, H, W]."""
        raise NotImplementedError(f"{type(self).__name__} does not define decode")

    def from_pixels(self, x: Tensor) -> Tensor | None:
        """The term that an autoregressive decoder adds to `decode(z)`, [B, C, H, W]; it depends only on the image."""
        return None

    def log_likelihood(self, z: Tensor, x: Tensor, from_pixels: Tensor | None, *labels: Tensor) -> Tensor:
        """log p(x|z), [B], in nats; `from_pixels` is the result of `from_pixels(x)`."""
        outputs = self.decode(z, *labels)
        return self.likelihood.log_prob(outputs if from_pixels is None else outputs + from_pixels, x)

    def images(
        self, z: Tensor, uniforms: Tensor, *labels: Tensor, progress: Callable[[int], None] | None = None
    ) -> Tensor:
        """[B, C, H, W] in [0, 1]: means, or for an autoregressive decoder samples from uniform numbers [B, C, H, W].

        While pixels are sampled one by one, `progress` is called with the number of finished rows.
        """
        return torch.sigmoid(self.decode(z, *labels))

    def simulate(self, z: Tensor) -> Tensor:
        """Images [B, C, H, W] drawn from p(x|z): not means, unlike those of `images`."""
        return self.likelihood.sample(self.decode(z))


class Elu(nn.Module):
    """genbench.functional.elu as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return elu(x)


ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": Elu, "relu": nn.ReLU}


@register("model", "mlp-vae")
class MlpVae(Vae):
    """Encoder and decoder are an MLP of `depth` hidden layers of `width` each.

    `shape` is one image's [C, H, W]. `logit_offset` is added to the decoder's output, so that an untrained
    decoder already predicts mostly black pixels. A flow posterior sees the encoder's last hidden layer. With
    `conditional`, the label is a further input of encoder and decoder, one unit for each class.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int = 0,
        *,
        latent_dim: Width = 100,
        width: Width = 300,
        depth: Depth = 2,
        activation: Annotated[str, OneOf(*ACTIVATIONS)] = "elu",
        logit_offset: float = 0.0,
        conditional: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(shape, latent_dim, width, **settings)
        self.classes = known_classes(conditional, classes)
        pixels, hidden = math.prod(shape), [width] * depth
        self.encoder = _mlp([pixels + self.classes, *hidden, 2 * latent_dim], ACTIVATIONS[activation])
        self.decoder = _mlp([latent_dim + self.classes, *hidden, pixels], ACTIVATIONS[activation])
        last = self.decoder[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():  # as an initial bias it costs nothing per step
            last.bias.add_(logit_offset)

    def encode(self, x: Tensor, *labels: Tensor) -> Code:
        hidden = self.encoder[:-1](self._beside(x.flatten(1), *labels))
        mu, logvar = self.encoder[-1](hidden).chunk(2, dim=-1)
        return Code(mu, logvar, None if self.posterior.closed_form else hidden)

    def decode(self, z: Tensor, *labels: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self._beside(z, *labels))
        return logits.view(-1, *self.shape)

    def _beside(self, x: Tensor, *labels: Tensor) -> Tensor:
        """An input [B, D], with the units of the labels."""
        if not labels:
            return x
        units = torch.eye(self.classes, dtype=x.dtype, device=x.device)
        return torch.cat([x, *(units.index_select(0, each) for each in labels)], dim=1)


@register("model", "conv-vae")
class ConvVae(Vae):
    """Residual encoder and decoder, sized by channels and blocks, with one latent for every square of 4 × 4 pixels.

    With `pixelcnn_channels` it is a PixelVAE, whose logits are decode(z) + pixelcnn(x). `logit_offset` is the
    initial value of the decoder's bias for every pixel. A flow posterior sees four more numbers per latent from the
    encoder. Raises ConfigError for a PixelCNN with a likelihood other than Bernoulli's, and for unsuitable images.
    """

    pixelcnn_weight: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        encoder_channels: Width = 32,
        encoder_blocks: Depth = 9,
        decoder_channels: Width = 32,
        decoder_blocks: Depth = 51,
        logit_offset: float = 0.0,
        pixelcnn_channels: Annotated[int, Range(minimum=0, maximum=2**20)] = 0,
        pixelcnn_blocks: Depth = 9,
        **settings: Any,
    ) -> None:
        context = CONTEXT_PER_LATENT if settings.get("posterior") in FLOW_POSTERIORS else 0
        encoder = ConvEncoder(shape, encoder_channels, encoder_blocks, context)
        super().__init__(shape, encoder.latent_dim, context * encoder.latent_dim, **settings)
        if pixelcnn_channels and not self.likelihood.binary:
            raise ConfigError("a PixelCNN's outputs are logits of binary pixels", "set model.likelihood=bernoulli")
        self.encoder = encoder
        self.decoder = ConvDecoder(shape, decoder_channels, decoder_blocks)
        nn.init.constant_(self.decoder.bias, logit_offset)
        self.pixelcnn = (
            PixelCnn(shape, channels=pixelcnn_channels, blocks=pixelcnn_blocks) if pixelcnn_channels else None
        )
        self.register_buffer("pixelcnn_weight", torch.ones(()))
        self._pixelcnn_on = True  # what the weight says: a look at a GPU's memory would wait for the GPU
        self.register_load_state_dict_post_hook(ConvVae._read_switch)  # type: ignore[no-untyped-call]
        self.latent_floats += TEMPORARIES * decoder_channels * self.latent_dim
        self.image_floats += TEMPORARIES * (encoder_channels * self.latent_dim + pixelcnn_channels * math.prod(shape))

    def switch_pixelcnn(self, on: bool) -> None:
        """When off, the decoder alone makes the images, and the PixelCNN is not computed."""
        if on != self._pixelcnn_on:
            self.pixelcnn_weight.fill_(float(on))
            self._pixelcnn_on = on

    def _read_switch(self, *_: Any) -> None:
        self._pixelcnn_on = bool(self.pixelcnn_weight)

    @property
    def _active_pixelcnn(self) -> PixelCnn | None:
        return self.pixelcnn if self._pixelcnn_on else None

    def encode(self, x: Tensor, *labels: Tensor) -> Code:
        return Code(*self.encoder(x))

    def decode(self, z: Tensor, *labels: Tensor) -> Tensor:
        outputs: Tensor = self.decoder(z)
        return outputs

    def from_pixels(self, x: Tensor) -> Tensor | None:
        pixelcnn = self._active_pixelcnn
        return None if pixelcnn is None else pixelcnn(x)

    def images(
        self, z: Tensor, uniforms: Tensor, *labels: Tensor, progress: Callable[[int], None] | None = None
    ) -> Tensor:
        pixelcnn = self._active_pixelcnn
        if pixelcnn is None:
            return super().images(z, uniforms)
        return pixelcnn.sample(uniforms=uniforms, bias=self.decode(z), progress=progress)

    def simulate(self, z: Tensor) -> Tensor:
        if self._active_pixelcnn is None:
            return super().simulate(z)
        return self.images(z, torch.rand(len(z), *self.shape, dtype=z.dtype, device=z.device))


def _mlp(sizes: list[int], activation: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])
