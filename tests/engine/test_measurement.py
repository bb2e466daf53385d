"""Values with their errors, and when two of them may be compared."""

from __future__ import annotations

import math

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
    assert verdict(published, value, PROTOCOL, shortened) == expected


@pytest.mark.parametrize("shortened", [False, True])
def test_a_value_of_another_protocol_is_neither_reached_nor_missed(shortened: bool) -> None:
    published = Reference("eval/fid", 10.0, "a paper", better="lower", protocol={"n_generated": "50000"})
    for value in (1.0, 99.0):
        assert verdict(published, value, PROTOCOL, shortened) == "other protocol"
    assert verdict(published, None, {}, shortened) == "not measured"
    assert verdict(published, 1.0, PROTOCOL | {"n_generated": "50000"}, shortened) == "reached"
