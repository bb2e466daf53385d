"""What a number means: tasks say it once, and every table, picture and comparison takes it from there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from genbench.config import Reference

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Better", "Family", "Measurement", "Quantity", "agree", "mean_over", "values_of", "verdict"]

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class Family:
    """Models that are trained and judged alike, under one heading."""

    title: str
    likelihood: str = ""
    """Kind of likelihood that its models give: "exact", "bound: ELBO", "none" …; empty where it is no question."""


@dataclass(frozen=True)
class Quantity:
    """A metric as tables and pictures name it.

    Attributes:
        name: of the metric: on what it is measured, a slash, and what.
        unit: such as "nats"; empty for pure numbers.
        better: which way is better; only then a best value is remembered.
        decimals: digits after the point; None for three significant digits.
        truth_label: what the true value is called that stands beside it.
    """

    name: str
    label: str
    unit: str = ""
    better: Better = ""
    decimals: int | None = None
    truth_label: str = "truth"

    @property
    def title(self) -> str:
        """Label and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def arrow(self) -> str:
        """Points to where it is better."""
        return {"higher": "↑", "lower": "↓", "": ""}[self.better]


@dataclass(frozen=True)
class Measurement:
    """One measured value.

    Attributes:
        standard_error: of the value, over the images or points that it is a mean of.
        truth: what it should be, where that is known.
        protocol: what the value depends on besides the model, the data set and what the task says of all its values.
    """

    value: float
    standard_error: float | None = None
    truth: float | None = None
    protocol: Mapping[str, str] = field(default_factory=dict)


def mean_over(values: Tensor, protocol: Mapping[str, str] | None = None) -> Measurement:
    """The mean of at least two independent values [N], in float64, with its standard error."""
    error = values.std().item() / math.sqrt(len(values))
    return Measurement(values.mean().item(), error, protocol=protocol or {})


def values_of(measured: Mapping[str, Measurement]) -> dict[str, float]:
    """The numbers alone."""
    return {name: measurement.value for name, measurement in measured.items()}


def agree(asked: Mapping[str, str], protocol: Mapping[str, str]) -> bool:
    """A value measured under `protocol` may be compared with one that holds for the entries `asked`."""
    return all(protocol.get(key) == value for key, value in asked.items())


def verdict(reference: Reference, value: float | None, protocol: Mapping[str, str], shortened: bool) -> str:
    """How a measured value compares with a published one.

    Returns:
        "reached": as good, within the tolerance; "missed"; "shortened": missed, in fewer training steps than the
        experiment asks for; "other protocol": not to be compared; "not measured".
    """
    if value is None:
        return "not measured"
    if not agree(reference.protocol, protocol):
        return "other protocol"
    shortfall = reference.value - value if reference.better == "higher" else value - reference.value
    if shortfall <= reference.tolerance:
        return "reached"
    return "shortened" if shortened else "missed"
