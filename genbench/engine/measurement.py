"""What a number means: tasks say it once, and every table, picture and comparison takes it from there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from genbench.config import Reference
from genbench.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "DEFINING",
    "TEST",
    "VALIDATION",
    "Better",
    "Family",
    "Measurement",
    "Quantity",
    "agree",
    "headline",
    "mean_over",
    "objective_among",
    "values_of",
    "verdict",
]

Better = Literal["higher", "lower", ""]

TEST = "test/"
"""How the names of quantities begin that are measured on the test split."""

VALIDATION = "valid/"
"""How they begin on the validation split."""

CERTAIN = 4.0
"""Standard errors past a limit from which on a value is called impossible: chance alone goes there once in 30,000."""

DEFINING = ("conditional",)
"""Entries of a protocol that make a value one of another quantity: log p(x|y) is not log p(x)."""

ARROWS: dict[str, str] = {"higher": "↑", "lower": "↓", "": ""}
"""Which way is better."""

FLOAT32 = 1e-6
"""Relative error that arithmetic in float32 leaves in a value."""

FLOAT64 = 1e-12
"""Relative error that sums and differences in float64 leave in a value."""


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
        return ARROWS[self.better]

    def is_better(self, value: float, than: float) -> bool:
        """Whether a value is better than another one, or the first that is a number."""
        return math.isnan(than) or (value > than if self.better == "higher" else value < than)


def headline(quantities: Sequence[Quantity]) -> Quantity | None:
    """The first quantity that is better one way and is not measured on the test split: what to watch in training."""
    return next((each for each in quantities if each.better and not each.name.startswith(TEST)), None)


def objective_among(quantities: Sequence[Quantity], name: str | None = None) -> Quantity:
    """What a sweeper optimizes: the quantity of this name, or the headline.

    A metric of the test split must be named: once it is tuned on, it measures nothing any more. Raises ConfigError
    where there is none, or where neither direction is better.
    """
    judged = {quantity.name: quantity for quantity in quantities if quantity.better}
    found = headline(quantities) if name is None else judged.get(name)
    if found:
        return found
    told = "nothing that is measured during training says what is better" if name is None else f"objective={name}"
    raise ConfigError(f"{told}: no objective", f"set objective=NAME, one of {', '.join(judged) or 'none'}")


@dataclass(frozen=True)
class Measurement:
    """One measured value.

    Attributes:
        standard_error: of the value, over the images or points that it is a mean of: how far the mean over others of
            them would lie. The error by sampling is part of it.
        truth: what it should be, where that is known.
        protocol: what the value depends on besides the model, the data set and what the task says of all its values.
        monte_carlo_error: the standard error by sampling alone, of the same images or points: how far the value would
            lie with other noise. None where no noise is drawn, or where its share is not known.
        least, greatest: what no value lies below or above, but for its error: no NLL lies below the data's entropy.
    """

    value: float
    standard_error: float | None = None
    truth: float | None = None
    protocol: Mapping[str, str] = field(default_factory=dict)
    monte_carlo_error: float | None = None
    least: float | None = None
    greatest: float | None = None

    @property
    def impossible(self) -> bool:
        """It lies past its least or greatest value by more than its error explains: the measurement is wrong."""
        slack = CERTAIN * (self.standard_error or 0.0) + FLOAT32 * max(1.0, abs(self.value))
        too_low = self.least is not None and self.value < self.least - slack
        return too_low or (self.greatest is not None and self.value > self.greatest + slack)

    def scaled(self, factor: float) -> Measurement:
        """The same in another unit: `factor` of it are one of this unit."""

        def times(value: float | None, by: float = factor) -> float | None:
            return None if value is None else value * by + 0.0  # no −0

        errors = times(self.standard_error, abs(factor)), times(self.monte_carlo_error, abs(factor))
        ends = (self.least, self.greatest) if factor > 0 else (self.greatest, self.least)
        least, greatest = map(times, ends)
        return Measurement(
            self.value * factor, errors[0], times(self.truth), self.protocol, errors[1], least, greatest
        )

    def to_summary(self) -> dict[str, Any]:
        """What `summary.json` says of it beside its value."""
        return {name: said for name, said in asdict(self).items() if name != "value" and said is not None}

    @classmethod
    def from_summary(cls, entry: Mapping[str, Any], at: str = "final") -> Measurement:
        """A metric's "final" or "best" value in `summary.json`, NaN where it has none, with what is said of it."""
        value = entry.get(at, {}).get("value")
        names = {field.name for field in fields(cls)} - {"value"}
        said = {name: entry[name] for name in names & entry.keys()}
        return cls(math.nan if value is None else float(value), **said)


def mean_over(
    values: Tensor, protocol: Mapping[str, str] | None = None, variances: Tensor | None = None
) -> Measurement:
    """The mean of at least two independent values [N], in float64, with its standard error.

    `variances` [N] are those of each value by sampling, independently of the others; NaN where they are not known.
    """
    error = values.std().item() / math.sqrt(len(values))
    sampling = math.nan if variances is None else math.sqrt(variances.sum().item()) / len(values)
    known = None if math.isnan(sampling) else sampling
    return Measurement(values.mean().item(), error, protocol=protocol or {}, monte_carlo_error=known)


def values_of(measured: Mapping[str, Measurement]) -> dict[str, float]:
    """The numbers alone."""
    return {name: measurement.value for name, measurement in measured.items()}


def agree(asked: Mapping[str, str], protocol: Mapping[str, str]) -> bool:
    """A value measured under `protocol` may be compared with one that holds for the entries `asked`.

    What is not asked for does not matter, except for entries of DEFINING, which must be the same or missing on both
    sides.
    """
    return all(protocol.get(key) == asked.get(key) for key in {*asked, *DEFINING})


def verdict(reference: Reference, measured: Measurement, shortened: bool = False, diverged: bool = False) -> str:
    """How a measured value compares with a published one.

    Returns:
        "reached": as good, within the tolerance; "missed"; "shortened": missed, with fewer training samples than the
        experiment asks for; "impossible": past what any value can be, whatever was published; "diverged": the last
        value of a training that broke off; "other protocol": not to be compared; "not measured".
    """
    value = measured.value
    if not math.isfinite(value):
        return "not measured"
    if not agree(reference.protocol, measured.protocol):
        return "other protocol"
    if diverged:
        return "diverged"
    if measured.impossible:
        return "impossible"
    shortfall = reference.value - value if reference.better == "higher" else value - reference.value
    # 0.4 is within 0.1 of 0.3, though 0.4 − 0.3 > 0.1 in floating point.
    if shortfall - reference.tolerance <= FLOAT64 * max(abs(reference.value), abs(value)):
        return "reached"
    return "shortened" if shortened else "missed"
