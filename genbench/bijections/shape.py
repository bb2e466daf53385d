"""Maps that reshape, reorder, rescale or normalize."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.bijections.base import Bijection, sum_event
from genbench.errors import ConfigError

__all__ = ["ActNorm", "BatchNorm", "InvertibleConv1x1", "Logit", "Permutation", "Squeeze"]


class Squeeze(Bijection):
    """Space to depth, [B, C, H, W] → [B, 4C, H/2, W/2]: every 2×2 square becomes four channels.

    Dinh et al. 2017 (arXiv 1605.08803), section 3.6. log |det| = 0.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if x.dim() != 4 or x.shape[2] % 2 or x.shape[3] % 2:
            raise ConfigError(f"Squeeze needs images with even sides, and got {tuple(x.shape[1:])}.")
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_shuffle(y, 2), y.new_zeros(len(y))


class Permutation(Bijection):
    """y[:, i] = x[:, order[i]], along the features or channels; fixed. log |det| = 0.

    Args:
        order: the numbers 0 … C − 1, each once.
    """

    order: Tensor
    back: Tensor

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        if sorted(order) != list(range(len(order))):
            raise ConfigError(f"A permutation of {len(order)} features must hold each of 0 … {len(order) - 1} once.")
        index = torch.as_tensor(order)
        self.register_buffer("order", index)
        self.register_buffer("back", index.argsort())

    @classmethod
    def random(cls, features: int, generator: torch.Generator | None = None) -> Permutation:
        return cls(torch.randperm(features, generator=generator).tolist())

    @classmethod
    def reverse(cls, features: int) -> Permutation:
        return cls(range(features)[::-1])

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.index_select(1, self.order), x.new_zeros(len(x))

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return y.index_select(1, self.back), y.new_zeros(len(y))


class Logit(Bijection):
    """y = logit(p),   p = α + (1 − 2α)x,   log |det| = Σ log(1 − 2α) − log p − log(1 − p)

    Data in [0, 1] to the real line: Dinh et al. 2017 (arXiv 1605.08803), section 4.1, in the symmetric form of
    Papamakarios et al. 2017 (arXiv 1705.07057). The inverse is (sigmoid(y) − α)/(1 − 2α), which may
    lie outside of [0, 1] by up to α/(1 − 2α).

    Args:
        alpha: within [0, ½); 0 sends the pixels 0 and 1 to ∓∞.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        if not 0 <= alpha < 0.5:
            raise ConfigError(f"alpha = {alpha} of the logit is outside [0, ½).")
        self.alpha = alpha

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        inside = 1 - 2 * self.alpha
        log_p, log_q = (self.alpha + inside * x).log(), (self.alpha + inside * (1 - x)).log()
        return log_p - log_q, sum_event(math.log(inside) - log_p - log_q)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        inside = 1 - 2 * self.alpha
        x = (torch.sigmoid(y) - self.alpha) / inside
        return x, sum_event(F.logsigmoid(y) + F.logsigmoid(-y) - math.log(inside))

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class ActNorm(Bijection):
    """y = exp(s) ⊙ x + b, per channel; log |det| = H·W · Σ s

    Activation normalization, Kingma & Dhariwal 2018 (arXiv 1807.03039), section 3.1: the first `forward` in training
    mode sets s and b so that its output has mean 0 and variance 1 in every channel; from then on they are ordinary
    parameters. A channel that is constant in that batch keeps s = 0. Before, the map is the identity.

    Args:
        channels: C, of x [B, C, …].
    """

    initialised: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))
        # A copy on the host: reading the buffer at every forward would wait for the device.
        self._initialised = False

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.training and not self._initialised:
            self._initialise(x)
        log_scale = _per_channel(self.log_scale, x)
        return x * log_scale.exp() + _per_channel(self.shift, x), self._log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale = _per_channel(self.log_scale, y)
        return (y - _per_channel(self.shift, y)) * torch.exp(-log_scale), -self._log_det(y)

    def _log_det(self, x: Tensor) -> Tensor:
        return _repeat(self.log_scale.sum() * _positions(x), x)

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        mean, variance = _moments(x)
        varies = variance > torch.finfo(variance.dtype).eps * (1 + mean.square())
        self.log_scale.copy_(torch.where(varies, -0.5 * variance.log(), 0))
        self.shift.copy_(-mean * self.log_scale.exp())
        self.initialised.fill_(True)
        self._initialised = True

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._initialised = bool(self.initialised)


class BatchNorm(Bijection):
    """y = exp(γ) ⊙ (x − m) / √(v + ε) + β, per channel; log |det| = H·W · Σ (γ − ½ log(v + ε))

    Dinh et al. 2017 (arXiv 1605.08803), section 3.7 and appendix E; Papamakarios et al. 2017 (arXiv 1705.07057),
    appendix B. `forward` in training mode takes m and v from the batch, and the determinant treats them as constants
    (each sample contributes only 1/B); in evaluation mode and in `inverse` they are running averages. So the two
    directions are inverse to each other in evaluation mode only.

    Args:
        channels: C, of x [B, C, …].
        momentum: weight of the newest batch in the running averages.
        eps: ε
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.log_gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = _moments(x)
            with torch.no_grad():
                self.mean.lerp_(mean, self.momentum)
                self.variance.lerp_(variance, self.momentum)
        log_scale = self.log_gamma - 0.5 * (variance + self.eps).log()
        y = (x - _per_channel(mean, x)) * _per_channel(log_scale.exp(), x) + _per_channel(self.beta, x)
        return y, _repeat(log_scale.sum() * _positions(x), x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale = self.log_gamma - 0.5 * (self.variance + self.eps).log()
        x = (y - _per_channel(self.beta, y)) * _per_channel(torch.exp(-log_scale), y) + _per_channel(self.mean, y)
        return x, -_repeat(log_scale.sum() * _positions(y), y)


class InvertibleConv1x1(Bijection):
    """y = W x at every position,   W = P L (U + diag(s)),   log |det| = H·W · Σ log |s|

    Kingma & Dhariwal 2018 (arXiv 1807.03039), eqs. 9 to 11: L is unit lower triangular, U strictly upper triangular;
    the permutation P and the signs of s are fixed, so W is never singular. W starts as a rotation.

    Args:
        channels: C, of x [B, C, …]; features [B, C] too.
    """

    order: Tensor
    back: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))
        permutation, lower, upper = torch.linalg.lu(rotation)
        s, dtype = upper.diagonal(), torch.get_default_dtype()
        self.register_buffer("order", permutation.argmax(1))  # P v = v[order]
        self.register_buffer("back", permutation.argmax(0))
        self.register_buffer("sign", s.sign().to(dtype))
        self.log_s = nn.Parameter(s.abs().log().to(dtype))
        self.lower = nn.Parameter(lower.tril(-1).to(dtype))
        self.upper = nn.Parameter(upper.triu(1).to(dtype))

    def weight(self) -> Tensor:
        """W, [C, C]"""
        lower, upper = self._factors()
        return (lower @ upper)[self.order]

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y = self.weight() @ x.flatten(2) if x.dim() > 2 else x @ self.weight().T
        return y.reshape(x.shape), _repeat(self.log_s.sum() * _positions(x), x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        columns = y.transpose(0, 1).flatten(1)[self.back]  # [C, B·H·W]
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        x = columns.reshape(y.transpose(0, 1).shape).transpose(0, 1)
        return x, -_repeat(self.log_s.sum() * _positions(y), y)

    def _factors(self) -> tuple[Tensor, Tensor]:
        """L, and U + diag(s)"""
        lower = self.lower.tril(-1) + torch.eye(len(self.log_s), dtype=self.log_s.dtype, device=self.log_s.device)
        return lower, self.upper.triu(1) + torch.diag(self.sign * self.log_s.exp())


def _per_channel(value: Tensor, x: Tensor) -> Tensor:
    """[C] → [C, 1, …], with as many dimensions as an event of x."""
    return value.reshape(-1, *[1] * (x.dim() - 2))


def _positions(x: Tensor) -> int:
    """H·W of x [B, C, H, W]; 1 of features."""
    return math.prod(x.shape[2:])


def _repeat(value: Tensor, x: Tensor) -> Tensor:
    """One log-determinant for every sample, [B]."""
    return value.expand(len(x))


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel, [C]."""
    rest = [axis for axis in range(x.dim()) if axis != 1]
    variance, mean = torch.var_mean(x, dim=rest, correction=0)
    return mean, variance
