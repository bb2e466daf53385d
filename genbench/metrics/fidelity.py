"""Distances of generated from real images in a network's features: FID, KID, precision, recall; Inception Score.

Network and formulas are torch-fidelity's, so values agree with that library.

- FID: Heusel et al. 2017 (arXiv 1706.08500); KID: Bińkowski et al. 2018 (1801.01401);
- precision and recall: Kynkäänniemi et al. 2019 (1904.06991), there with VGG's features;
- density and coverage: Naeem et al. 2020 (2002.09797), for any features;
- Inception Score: Salimans et al. 2016 (1606.03498).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genbench.engine.device import double
from genbench.metrics.features import ROUNDING, Features

__all__ = [
    "SCORES",
    "RealFeatures",
    "Statistics",
    "density_coverage",
    "drawn",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "precision_recall",
    "protocol",
    "rows",
    "scores",
    "statistics",
]

SCORES = ("fid", "kid", "precision", "recall", "inception_score")
SEED = 2020  # torch-fidelity's: for rows, KID's subsets and the order of IS's splits
POOL_ROWS = 10_000  # most real images to keep features of, and most images of each kind for precision and recall
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
BLOCK = 1000  # rows of distances at a time
NEIGHBOURHOOD = 3  # precision and recall: a ball reaches to the third neighbour
DENSITY_NEIGHBOURHOOD = 5  # density and coverage, as Naeem et al. choose it
IS_SPLITS = 10  # of the Inception Score


@dataclass(frozen=True)
class Statistics:
    """Mean [D] and covariance [D, D] of `count` feature vectors, float64; D is 2048 of Inception."""

    mu: Tensor
    sigma: Tensor
    count: int

    @cached_property
    def root(self) -> Tensor:
        """Σ^½, [D, D]: symmetric, and computed once."""
        values, vectors = torch.linalg.eigh(self.sigma)
        root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        return root


def statistics(pool: Tensor) -> Statistics:
    """Mean and covariance of features [N, D] in float64, on their device or, if it has no float64, on the CPU.

    Raises ValueError for fewer than two rows, which have no covariance.
    """
    _at_least_two(len(pool))
    chunks = pool.split(1000)  # converted in chunks, as float64 takes twice the memory
    mu = torch.stack([double(chunk).sum(0) for chunk in chunks]).sum(0) / len(pool)
    sigma = torch.zeros(len(mu), len(mu), dtype=mu.dtype, device=mu.device)
    for chunk in chunks:
        centred = double(chunk) - mu
        sigma.addmm_(centred.T, centred)
    return Statistics(mu, sigma / (len(pool) - 1), len(pool))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½): FID (Heusel et al. 2017, eq. 6).

    Σ_a Σ_b has the eigenvalues of the symmetric Σ_b^½ Σ_a Σ_b^½, which are real and, up to rounding, not negative;
    Σ_b^½ is cached in b. The bias is positive and grows as the number of images falls: compare equal numbers only.
    """
    root = b.root
    shared = torch.linalg.eigvalsh(root @ a.sigma @ root).clamp(min=0).sqrt().sum()
    difference = a.mu - b.mu
    return float(difference @ difference + a.sigma.trace() + b.sigma.trace() - 2 * shared)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """KID (Bińkowski et al. 2018): the unbiased MMD² of features [N, D] and [M, D] under (x·y / D + 1)³.

    The mean over 100 random subsets of 1000 images, or fewer if there are not as many.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    size = _subset_size(len(a), len(b))
    found = kid_features_to_metric(
        a.cpu(), b.cpu(), kid_subsets=KID_SUBSETS, kid_subset_size=size, rng_seed=SEED, verbose=False
    )
    return float(found[KEY_METRIC_KID_MEAN])


def precision_recall(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """The shares of `generated` inside the manifold of `real`, and the reverse (Kynkäänniemi et al. 2019).

    Features [N, D] and [M, D]. A manifold is a union of balls that reach to the third neighbour, so it depends
    on the number of images: equally many of each, at most 10,000, are drawn.
    """
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    size = _pool_size(len(generated), len(real))
    found = prc_features_to_metric(
        drawn(generated, size).cpu(),
        drawn(real, size).cpu(),
        prc_neighborhood=_neighbourhood(size),
        prc_batch_size=BLOCK,  # with save_cpu_ram
        save_cpu_ram=True,
        verbose=False,
    )
    return found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]


def density_coverage(generated: Tensor, real: Tensor, k: int = DENSITY_NEIGHBOURHOOD) -> tuple[float, float]:
    """In how many balls around real images a generated one lies, over k; and the share of balls in which one lies.

    Naeem et al. 2020 (arXiv 2002.09797), section 3, of features [M, D] and [N, D]. A ball reaches to the k-th
    neighbour among the real images; `k` is less where there are not as many.

    If both are of one distribution, the expected density is 1, and the expected coverage is
    1 − (N − 1) … (N − k) / ((N + M − 1) … (N + M − k)): about 1 − 2⁻ᵏ for equally many. A density may exceed 1.
    """
    generated, real = double(generated), double(real)
    k = min(k, len(real) - 1)
    inside, covered = 0, 0
    for block in real.split(BLOCK):
        # The nearest real image is the image itself.
        radii = torch.cdist(block, real).kthvalue(k + 1).values
        within = torch.cdist(block, generated) < radii[:, None]
        inside += int(within.sum())
        covered += int(within.any(1).sum())
    return inside / (k * len(generated)), covered / len(real)


def inception_score(logits: Tensor) -> float:
    """exp E_x KL(p(y|x) ‖ p(y)) of logits [N, K] (Salimans et al. 2016).

    The mean over 10 splits, or N if there are fewer images.
    """
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

    found = isc_features_to_metric(logits.cpu(), splits=_splits(len(logits)), rng_seed=SEED)
    return float(found[KEY_METRIC_ISC_MEAN])


@dataclass(frozen=True)
class RealFeatures:
    """Features of real images that the scores compare with.

    Attributes:
        statistics: of all `statistics.count` images.
        pool: [min(count, 10000), D], on the CPU: features of all these images, or of 10,000 drawn by `rows`.
        name, split: of the data set.
        chosen: which images of the split.
        network: what `Extractor.protocol` says.
        layer: whose output the features are.
    """

    statistics: Statistics
    pool: Tensor
    name: str
    split: str
    chosen: str
    network: Mapping[str, str]
    layer: str


def rows(total: int, count: int) -> NDArray[np.int64]:
    """`count` of `total` rows: all of them in order, or `RandomState(2020).choice(total, count, replace=False)`."""
    return np.arange(total) if count == total else np.random.RandomState(SEED).choice(total, count, replace=False)


def scores(generated: Features, real: RealFeatures, which: Collection[str] = SCORES) -> dict[str, float]:
    """The scores named by `which`, but no inception_score without logits.

    Raises ValueError for unknown names and for fewer than two images.
    """
    _known(which)
    _at_least_two(len(generated))
    found = {}
    if "fid" in which:
        found["fid"] = frechet_distance(statistics(generated.pool), real.statistics)
    if "kid" in which:
        found["kid"] = kernel_distance(generated.pool, real.pool)
    if "precision" in which or "recall" in which:
        pair = dict(zip(("precision", "recall"), precision_recall(generated.pool, real.pool), strict=True))
        found |= {name: value for name, value in pair.items() if name in which}
    if "inception_score" in which and generated.logits is not None:
        found["inception_score"] = inception_score(generated.logits)
    return found


def protocol(generated: Features, real: RealFeatures, which: Collection[str] = SCORES) -> dict[str, str]:
    """The settings that `scores` of the same arguments depend on besides the images."""
    _known(which)
    n, m = len(generated), len(real.pool)
    said = {
        "n_generated": str(n),
        "n_reference": str(real.statistics.count),
        "reference_split": f"{real.name} {real.split}",
        "reference_rows": real.chosen,
        **real.network,
        "rounding": ROUNDING,
    }
    if "kid" in which:
        said["kid"] = f"{KID_SUBSETS} subsets of {_subset_size(n, m)}, out of {n} generated and {m} real images"
    if "precision" in which or "recall" in which:
        size = _pool_size(n, m)
        said["precision_recall"] = f"{size} images of each, neighbourhood {_neighbourhood(size)}, {real.layer}"
    if "inception_score" in which:
        there = generated.logits is not None
        said["inception_score"] = f"{_splits(n)} splits" if there else "unavailable: weights without classifier head"
    return said


def _known(which: Collection[str]) -> None:
    if unknown := sorted(set(which) - set(SCORES)):
        raise ValueError(f"unknown score {unknown[0]!r}; scores: {', '.join(SCORES)}")


def _at_least_two(count: int) -> None:
    if count < 2:
        raise ValueError(f"a distribution needs at least two images, got {count}")


# Sizes that shrink with the number of images, for `protocol` and the scores.
def _pool_size(n: int, m: int) -> int:
    return min(POOL_ROWS, n, m)


def _subset_size(n: int, m: int) -> int:
    return min(KID_SUBSET_SIZE, n, m)


def _neighbourhood(size: int) -> int:
    return min(NEIGHBOURHOOD, size - 1)


def _splits(n: int) -> int:
    return min(IS_SPLITS, n)


def drawn(features: Tensor, count: int) -> Tensor:
    if count == len(features):
        return features
    return features[torch.from_numpy(rows(len(features), count)).to(features.device)]
