"""Values with their errors, and when two of them may be compared."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from genbench.config import Reference
from genbench.engine.measurement import Measurement, agree, mean_over, values_of, verdict


@pytest.mark.parametrize("count", [2, 3, 1000])
def test_a_mean_and_its_standard_error_are_numpys(count: int) -> None:
    values = np.random.default_rng(count).normal(-90.0, 7.0, count)
    found = mean_over(torch.from_numpy(values), {"importance_samples": "5"})
    assert found.value == pytest.approx(values.mean(), rel=1e-12)
    assert found.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(count), rel=1e-12)
    assert (found.truth, found.protocol) == (None, {"importance_samples": "5"})
    assert mean_over(torch.from_numpy(values)).protocol == {}


def test_the_standard_error_is_how_far_means_of_other_samples_lie() -> None:
    samples = torch.randn(2000, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = [mean_over(sample).standard_error for sample in samples]
    assert np.mean([error or math.nan for error in errors]) == pytest.approx(samples.mean(1).std().item(), rel=0.05)


def test_the_numbers_alone() -> None:
    assert values_of({"a": Measurement(1.5, truth=2.0), "b": Measurement(-1.0, 0.1)}) == {"a": 1.5, "b": -1.0}


PROTOCOL = {"dataset": "cifar10", "n_generated": "5000"}


def measured(value: float | None) -> Measurement:
    return Measurement(math.nan if value is None else value, protocol=PROTOCOL)


def test_the_error_by_sampling_is_told_apart_and_part_of_the_standard_error() -> None:
    """Images with values of spread 3, each a mean over two draws of spread 5; with other draws, and other images."""
    generator = torch.Generator().manual_seed(0)

    def measure(images: torch.Tensor) -> Measurement:
        draws = images + 5 * torch.randn(2, 400, dtype=torch.float64, generator=generator)
        return mean_over(draws.mean(0), variances=draws.var(0) / 2)

    def images() -> torch.Tensor:
        return 3 * torch.randn(400, dtype=torch.float64, generator=generator)

    fixed = images()
    same, others = [measure(fixed) for _ in range(2000)], [measure(images()) for _ in range(2000)]
    for found, told in (
        (same, [one.monte_carlo_error for one in same]),
        (others, [one.standard_error for one in others]),
    ):
        spread = np.std([one.value for one in found])
        assert np.sqrt(np.mean(np.square(np.array(told, dtype=np.float64)))) == pytest.approx(spread, rel=0.06)
    assert mean_over(fixed).monte_carlo_error is None
    assert mean_over(fixed, variances=torch.full((400,), math.nan)).monte_carlo_error is None


def test_another_unit() -> None:
    nats = Measurement(-90.0, 0.5, -80.0, {"a": "b"}, 0.1, greatest=0.0)
    assert nats.scaled(-2.0) == Measurement(180.0, 1.0, 160.0, {"a": "b"}, 0.2, least=0.0)
    assert nats.scaled(2.0) == Measurement(-180.0, 1.0, -160.0, {"a": "b"}, 0.2, greatest=0.0)
    assert math.copysign(1.0, nats.scaled(-2.0).least or 0.0) == 1.0
    assert Measurement(3.0).scaled(2.0) == Measurement(6.0)


def test_a_summary_says_all_of_a_measurement() -> None:
    for found in (Measurement(-90.0, 0.5, -80.0, {"a": "b"}, 0.1, -99.0, 0.0), Measurement(2.0)):
        entry = {"final": {"value": found.value, "step": 7}, "best": {"value": -89.0}, **found.to_summary()}
        assert Measurement.from_summary(json.loads(json.dumps(entry))) == found
        assert Measurement.from_summary(entry, "best") == replace(found, value=-89.0)
    assert math.isnan(Measurement.from_summary({}).value)
    assert math.isnan(Measurement.from_summary({"final": {"value": None}}).value)


@pytest.mark.parametrize(
    ("value", "error", "least", "greatest", "expected"),
    [
        (2.5, 0.05, 2.7, None, False),  # four standard errors below the entropy
        (2.4, 0.05, 2.7, None, True),
        (2.9, 0.05, 2.7, None, False),
        (-90.1, 0.1, None, -90.0, False),
        (-89.7, 0.1, None, -90.0, False),
        (-89.0, 0.1, None, -90.0, True),
        (2.0, None, 0.0, 2.0, False),
        (2.0 + 1e-7, None, 0.0, 2.0, False),  # the rounding of float32
        (2.001, None, 0.0, 2.0, True),
        (-0.001, None, 0.0, 2.0, True),
        (5e-8, 0.0, None, 0.0, False),
        (1e9, None, None, None, False),
        (math.nan, 0.1, 0.0, 1.0, False),
    ],
)
def test_what_lies_past_a_limit_by_more_than_its_error_is_impossible(
    value: float, error: float | None, least: float | None, greatest: float | None, expected: bool
) -> None:
    assert Measurement(value, error, least=least, greatest=greatest).impossible is expected


def test_what_is_conditional_on_the_class_is_another_quantity() -> None:
    """Whether that was asked for or not."""
    conditional = {**PROTOCOL, "conditional": "class"}
    assert not agree({}, conditional)
    assert not agree(PROTOCOL, conditional)
    assert agree({"conditional": "class"}, conditional)
    assert not agree({"conditional": "class"}, PROTOCOL)


@pytest.mark.parametrize(
    ("asked", "agreed"),
    [
        ({}, True),
        ({"n_generated": "5000"}, True),
        (PROTOCOL, True),
        ({"n_generated": "50000"}, False),
        ({"dataset": "cifar10", "n_generated": "50000"}, False),
        ({"resize": "bilinear"}, False),  # nothing is known of it
    ],
)
def test_values_agree_where_every_entry_that_is_asked_for_is_the_same(asked: dict[str, str], agreed: bool) -> None:
    assert agree(asked, PROTOCOL) is agreed


@pytest.mark.parametrize(
    ("better", "value", "shortened", "expected"),
    [
        ("higher", 11.0, False, "reached"),  # better than published
        ("higher", 9.75, False, "reached"),  # at the tolerance
        ("higher", 9.7, False, "missed"),
        ("higher", 9.7, True, "shortened"),
        ("higher", 9.75, True, "reached"),  # in fewer steps, too
        ("lower", 9.0, False, "reached"),
        ("lower", 10.25, False, "reached"),
        ("lower", 10.3, False, "missed"),
        ("lower", 10.3, True, "shortened"),
        ("lower", None, False, "not measured"),
        ("lower", None, True, "not measured"),
    ],
)
def test_verdicts(better: str, value: float | None, shortened: bool, expected: str) -> None:
    published = Reference("eval/fid", 10.0, "a paper", tolerance=0.25, better=better)
    assert verdict(published, measured(value), shortened) == expected


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e3, 1e9])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_at_the_tolerance_is_within_it_whatever_the_rounding(scale: float, sign: int) -> None:
    """0.4 − 0.3 is more than 0.1 in floating point."""
    for tenths in range(100):
        reference = sign * tenths * 0.1 * scale
        for better, way in (("lower", 1), ("higher", -1)):
            published = Reference("m", reference, "a paper", tolerance=0.1 * scale, better=better)
            for excess, expected in ((0.1, "reached"), (0.1 + 1e-6, "missed")):
                value = sign * (tenths + 10 * way * sign * excess) * 0.1 * scale
                assert verdict(published, Measurement(value)) == expected, (reference, value)


def test_a_value_that_cannot_be_is_not_reached() -> None:
    """However it was published, and however short the training."""
    published = Reference("test/nll", 2.73, "a report", tolerance=0.05, better="lower")
    for nll, expected in ((2.70, "reached"), (2.65, "reached"), (2.5, "impossible"), (-50.0, "impossible")):
        found = Measurement(nll, 0.02, truth=2.68, least=2.68)
        assert verdict(published, found) == verdict(published, found, shortened=True) == expected
    assert verdict(published, Measurement(2.5, 0.02, truth=2.68)) == "reached"  # a truth that is no limit
    other = replace(published, protocol={"dataset": "sine"})
    assert verdict(other, Measurement(-50.0, 0.02, least=2.68)) == "other protocol"


def test_the_last_value_of_a_training_that_broke_off_is_not_reached() -> None:
    published = Reference("m", 1.0, "a paper", better="lower")
    assert verdict(published, Measurement(0.5), diverged=True) == "diverged"
    assert verdict(published, Measurement(math.nan), diverged=True) == "not measured"
    assert verdict(published, Measurement(math.inf)) == "not measured"


@pytest.mark.parametrize("shortened", [False, True])
def test_a_value_of_another_protocol_is_neither_reached_nor_missed(shortened: bool) -> None:
    published = Reference("eval/fid", 10.0, "a paper", better="lower", protocol={"n_generated": "50000"})
    for value in (1.0, 99.0):
        assert verdict(published, measured(value), shortened) == "other protocol"
    assert verdict(published, Measurement(math.nan), shortened) == "not measured"
    same = Measurement(1.0, protocol=PROTOCOL | {"n_generated": "50000"})
    assert verdict(published, same, shortened) == "reached"
