"""Planar and radial maps, Rezende & Mohamed 2015 (arXiv 1505.05770), eqs. 10 to 14 and appendix A.

Both determinants are sums of positive terms, so that their logarithm needs neither an absolute value nor an epsilon
and remains exact where they are close to zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genbench.bijections.base import Bijection, softplus
from genbench.errors import ConfigError

__all__ = ["Planar", "PlanarStack", "Radial", "constrain", "determinant"]

# A planar map starts near the identity (small u); its bend (at wᵀz + b = 0) lies within the base and is as sharp as
# targets are narrow. With U(±1/√D) for all three, flows of 32 maps end in local optima more often.
W_SPREAD, U_SPREAD, B_SPREAD = 3.0, 0.1, 2.0
NEAR_IDENTITY = 0.1  # how far a context of order 1 moves an amortized map's vectors, of length about 1

NEWTON_STEPS = 2  # after bisection; each doubles the correct digits


class Planar(Bijection):
    """f(z) = z + û tanh(wᵀz + b),   det = 1 + tanh′(wᵀz + b) wᵀû

    The map is one-to-one if wᵀû > −1. û = u + (m(wᵀu) − wᵀu) w/‖w‖² with m(x) = softplus(x) − 1 ensures this, since
    wᵀû = m(wᵀu).

    û grows like 1/‖w‖ as w vanishes, without a limit. If ‖w‖ is below the rounding unit, û = u: the map shifts by
    u tanh(b), all values and gradients are finite, and the determinant is still exact.

    Args:
        features: D, of x [B, D].
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.w = initial((features,), features, W_SPREAD)
        self.u = initial((features,), features, U_SPREAD)
        self.b = initial((), features, B_SPREAD)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u, slope = constrain(self.w, self.u)
        h = torch.tanh(x @ self.w + self.b)
        return x + h[:, None] * u, determinant(h, slope).log()

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Exact, by bisection of a + c tanh(a) = t in the scalar a = wᵀx + b, with c = wᵀû and t = wᵀy + b.

        First derivatives with respect to y and the parameters are exact, second derivatives are not. If c is close
        to −1, f is as flat as a³ at a = 0, and f⁻¹ there is accurate to the cube root of the rounding unit.
        """
        u, slope = constrain(self.w, self.u)
        h = _solve(y @ self.w + self.b, slope).tanh()
        return y - h[:, None] * u, -determinant(h, slope).log()


class PlanarStack(Bijection):
    """K planar maps in sequence: Compose of K Planar, with all constraints and determinants computed at once.

    Args:
        features: D, of x [B, D].
        layers: K
        context: size of a context vector that a linear layer maps to each sample's own w, u and b, as in an
            amortized posterior (Rezende & Mohamed 2015, section 4.2), starting near the identity; 0 for none.
    """

    def __init__(self, features: int, layers: int, context: int = 0) -> None:
        super().__init__()
        self.features, self.layers = features, layers
        if context:
            self.amortized = nn.Linear(context, layers * (2 * features + 1))
            nn.init.normal_(self.amortized.weight, 0.0, NEAR_IDENTITY / math.sqrt(features * context))
            self._start_at_the_identity()
            return
        self.w = initial((layers, features), features, W_SPREAD)
        self.u = initial((layers, features), features, U_SPREAD)
        self.b = initial((layers,), features, B_SPREAD)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        w, u, b, slope = self._maps(context)
        heights = []
        for w_k, u_k, b_k in zip(w.unbind(-2), u.unbind(-2), b.unbind(-1), strict=True):
            h = torch.tanh((x * w_k).sum(-1) + b_k)
            x = torch.addcmul(x, h.unsqueeze(-1), u_k)
            heights.append(h)
        return x, determinant(torch.stack(heights, -1), slope).log().sum(-1)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Exact, see `Planar.inverse`."""
        w, u, b, slope = self._maps(context)
        heights = []
        for k in reversed(range(self.layers)):
            w_k, u_k = w[..., k, :], u[..., k, :]
            h = _solve((y * w_k).sum(-1) + b[..., k], slope[..., k]).tanh()
            y = torch.addcmul(y, h.unsqueeze(-1), u_k, value=-1)
            heights.append(h)
        return y, -determinant(torch.stack(heights[::-1], -1), slope).log().sum(-1)

    @torch.no_grad()
    def _start_at_the_identity(self) -> None:
        """The identity for a context of zeros: û = 0 if u is parallel to w and softplus(wᵀu) = 1."""
        w = torch.randn(self.layers, self.features) / math.sqrt(self.features)
        u = math.log(math.e - 1) * w / w.square().sum(-1, keepdim=True)
        self.amortized.bias.copy_(torch.cat([w, u, torch.zeros(self.layers, 1)], dim=-1).flatten())

    @torch.no_grad()
    def path(self, x: Tensor) -> list[Tensor]:
        """x and its image after each layer of `forward`: K + 1 tensors [B, D]. For maps without a context."""
        w, u, b, _ = self._maps(None)
        points = [x]
        for k in range(self.layers):
            h = torch.tanh(points[-1] @ w[k] + b[k])
            points.append(points[-1] + h[:, None] * u[k])
        return points

    def _maps(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """w and û, [K, D] or [B, K, D]; b and 1 + wᵀû, [K] or [B, K]."""
        if hasattr(self, "amortized"):
            if context is None:
                raise ConfigError("PlanarStack was built for a context and got none.")
            sizes = [self.features, self.features, 1]
            raw = self.amortized(context).view(len(context), self.layers, sum(sizes))
            w, u, b = raw.split(sizes, dim=-1)
            b = b.squeeze(-1)
        else:
            w, u, b = self.w, self.u, self.b
        u, slope = constrain(w, u)
        return w, u, b, slope


def initial(shape: Sequence[int], features: int, spread: float) -> nn.Parameter:
    """U(±spread/√D)"""
    bound = spread / math.sqrt(features)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def constrain(w: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """û, [..., D], and 1 + wᵀû > 0, [...], of w and u, [..., D]."""
    wu, norm2 = (w * u).sum(-1), w.square().sum(-1)
    usable = norm2 > torch.finfo(norm2.dtype).eps ** 2
    # The inner `where` keeps the division, and so the gradient, finite in the branch not taken.
    step = torch.where(usable, softplus(wu) - 1 - wu, 0) / torch.where(usable, norm2, 1)
    return u + step.unsqueeze(-1) * w, torch.where(usable, softplus(wu), 1 + wu)


def determinant(h: Tensor, slope: Tensor) -> Tensor:
    """1 + (1 − h²) m for h = tanh(a), m = slope − 1, as a sum of positive terms: no cancellation for m near −1."""
    h2 = h.square()
    return h2 + (1 - h2) * slope


def _solve(t: Tensor, slope: Tensor) -> Tensor:
    """The root a of a + (slope − 1) tanh(a) = t, [B]; it increases in a, as slope > 0."""
    with torch.no_grad():
        info = torch.finfo(t.dtype)
        low, high = t - (slope - 1).abs(), t + (slope - 1).abs()
        for _ in range(8 - round(math.log2(info.eps))):  # a fixed number: no synchronization with the device
            middle = low + (high - low) / 2
            below = middle + (slope - 1) * middle.tanh() < t
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        a = low + (high - low) / 2
        for _ in range(NEWTON_STEPS):
            step = (a + (slope - 1) * a.tanh() - t) / determinant(a.tanh(), slope).clamp(min=info.tiny)
            a = (a - step).clamp(low, high)
        derivative = determinant(a.tanh(), slope).clamp(min=info.tiny)
    # Adds 0, with the derivative of the implicit function theorem: ∂a = (∂t − tanh(a) ∂slope) / derivative.
    residual = t - (slope - 1) * a.tanh()
    return a + (residual - residual.detach()) / derivative


class Radial(Bijection):
    """f(z) = z + β̂ (z − z₀) / (α + r),   r = ‖z − z₀‖   (eq. 14)

    det = (1 + β̂h)^(D−1) (1 + β̂h + β̂h′r),   h = 1/(α + r).

    One-to-one where β̂ > −α: β̂ = −α + softplus(β), and α = softplus(α′) > 0 (appendix A.2). With s = α + β̂ the two
    factors are (r + s)/(r + α) and (r² + 2αr + αs)/(r + α)². The inverse is the root of r² + (s − R)r − αR = 0,
    R = ‖y − z₀‖ = r(r + s)/(r + α).

    Args:
        features: D, of x [B, D]. Parameters start at U(±1/√D).
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.center = nn.Parameter(torch.empty(features))
        self.raw_alpha = nn.Parameter(torch.empty(()))
        self.raw_beta = nn.Parameter(torch.empty(()))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(features), 1 / math.sqrt(features))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        alpha, s = softplus(self.raw_alpha), softplus(self.raw_beta)
        delta = x - self.center
        r = torch.linalg.vector_norm(delta, dim=1)
        y = self.center + delta * ((r + s) / (r + alpha))[:, None]
        return y, self._log_det(r, alpha, s)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        alpha, s = softplus(self.raw_alpha), softplus(self.raw_beta)
        delta = y - self.center
        radius = torch.linalg.vector_norm(delta, dim=1)
        # Of the two forms of the root, the one without cancellation.
        half, root = s - radius, ((s - radius).square() + 4 * alpha * radius).sqrt()
        r = torch.where(half > 0, 2 * alpha * radius / (half.abs() + root), (half.abs() + root) / 2)
        x = self.center + delta * ((r + alpha) / (r + s))[:, None]
        return x, -self._log_det(r, alpha, s)

    def _log_det(self, r: Tensor, alpha: Tensor, s: Tensor) -> Tensor:
        features = len(self.center)
        across = (r + s).log() - (r + alpha).log()
        return (features - 1) * across + (r * (r + 2 * alpha) + alpha * s).log() - 2 * (r + alpha).log()
