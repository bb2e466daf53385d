"""FID's arithmetic beside torch-fidelity's: `python -m benchmarks.distance`.

Both compare the same features, 5000 of 2048 numbers, with the same reference: its statistics are known to both, as
they are from the second evaluation of a run on.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from benchmarks.common import WIDTH, print_table, ratios, rounds_parser
from genbench.metrics import fidelity

IMAGES, FEATURES = 5000, 2048


def features(seed: int) -> Tensor:
    """Correlated and not negative, as Inception's are."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(FEATURES, FEATURES, generator=torch.Generator().manual_seed(0)) / FEATURES**0.5
    return torch.relu(torch.randn(IMAGES, FEATURES, generator=generator) @ basis + 0.05 * seed)


def timed(function: Callable[[], float]) -> tuple[float, float]:
    begin = time.perf_counter()
    value = function()
    return time.perf_counter() - begin, value


def main(words: Sequence[str] | None = None) -> None:
    options = rounds_parser(__doc__, rounds=5).parse_args(words)
    real = features(0)
    theirs, own = fid_features_to_statistics(real), fidelity.statistics(real)
    root_seconds, _ = timed(lambda: own.root[0, 0].item())

    def plain(generated: Tensor) -> float:
        return fid_statistics_to_metric(fid_features_to_statistics(generated), theirs, verbose=False)[KEY_METRIC_FID]

    times: dict[str, list[float]] = {"torch-fidelity": [], "genbench": []}
    worst = 0.0
    for seed in range(1, options.rounds + 1):
        generated = features(seed)
        seconds, expected = timed(lambda: plain(generated))  # noqa: B023
        times["torch-fidelity"].append(seconds)
        seconds, found = timed(lambda: fidelity.frechet_distance(fidelity.statistics(generated), own))  # noqa: B023
        times["genbench"].append(seconds)
        worst = max(worst, abs(found / expected - 1))
    low, middle, high = ratios(times["torch-fidelity"], times["genbench"])
    rows = [(name, f"{statistics.median(each):.2f}") for name, each in times.items()]
    console = Console(width=WIDTH)
    print_table(console, f"FID of {IMAGES} features against a known reference", ("", "seconds"), rows)
    console.print(
        f"ratio {middle:.2f} ({low:.2f} to {high:.2f}); values agree to {worst:.1g}; "
        f"once in a run, the reference's square root: {root_seconds:.2f} s",
        highlight=False,
    )


if __name__ == "__main__":
    main()
