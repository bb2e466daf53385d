"""Spectral normalization: every weight matrix of the critic divided by its largest singular value.

Miyato, Kataoka, Koyama & Yoshida 2018 (arXiv 1802.05957), through torch's parametrization: `power_iterations` of
the power method at every forward pass of a critic in training; a convolution's weight counts as the matrix
[C_out, C_in · k · k].
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from genbench.engine.device import without_autocast
from genbench.errors import ConfigError
from genbench.registry import Depth, register
from genbench.regularizers.base import Regularizer

__all__ = ["SpectralNorm"]

LAYERS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    nn.Embedding,  # of a projection critic (Miyato & Koyama 2018)
)


@register("regularizer", "sn")
@dataclass(kw_only=True)
class SpectralNorm(Regularizer):
    """A constraint, not a penalty: it has no coefficient."""

    power_iterations: Depth = 1

    def prepare(self, critic: nn.Module) -> None:
        """Raises ConfigError for a critic without a linear or convolutional layer."""
        layers = [module for module in critic.modules() if isinstance(module, LAYERS)]
        if not layers:
            raise ConfigError("this critic has no layer to normalize", "choose a penalty: regularizer=r1")
        for layer in layers:
            if not is_parametrized(layer, "weight"):
                spectral_norm(layer, n_power_iterations=self.power_iterations)
                steps = layer.get_submodule("parametrizations.weight")
                assert isinstance(steps, nn.ModuleList)
                steps[0] = _InFloat32(steps[0])


class _InFloat32(nn.Module):
    """A parametrization outside of autocast: in bfloat16 the power method would find only two digits of the norm."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, weight: Tensor) -> Tensor:
        with without_autocast(weight.device):
            normalized: Tensor = self.method(weight)
        return normalized
