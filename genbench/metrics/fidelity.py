"""How close generated images are to real ones in the eyes of Inception: FID, KID, precision, recall, Inception Score.

Network and formulas are torch-fidelity's, so values agree with that library; images stay tensors on the device.

- FID: Heusel et al. 2017 (arXiv 1706.08500); KID: Bińkowski et al. 2018 (1801.01401);
- precision and recall: Kynkäänniemi et al. 2019 (1904.06991), here on Inception's features;
- Inception Score: Salimans et al. 2016 (1606.03498).
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genbench.data.files import store
from genbench.engine.device import double, float64_device, inference_layout, repeatable
from genbench.errors import ConfigError, DataError

__all__ = [
    "SCORES",
    "Extractor",
    "Features",
    "Inception",
    "Reference",
    "Statistics",
    "find_weights",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "precision_recall",
    "protocol",
    "reference",
    "rows",
    "scores",
    "statistics",
    "to_bytes",
]

SCORES = ("fid", "kid", "precision", "recall", "inception_score")

NETWORK = "torch-fidelity inception-v3-compat (TensorFlow 2015-12-05)"
RESIZE = "bilinear to 299x299, TensorFlow 1 style (corners not aligned, no antialiasing)"
ROUNDING = "clamp to [0, 1], then the byte nearest to 255 x"
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"

SEED = 2020  # torch-fidelity's own: of rows, KID's subsets and the order of IS's splits
BATCH_SIZE = 32  # images that go through Inception at once; only rounding depends on it
POOL_ROWS = 10_000  # real images whose features are kept, and images of each kind for precision and recall, at most
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
NEIGHBOURHOOD = 3  # precision and recall: a ball reaches to the third neighbour
SPLITS = 10  # of the Inception Score


def to_bytes(images: Tensor) -> Tensor:
    """[N, C, H, W] floats in [0, 1] → uint8: clamped, then the nearest byte, `round(255 x)`, half to even.

    The inverse of bytes / 255, exactly. NaN counts as black.
    """
    return (images.float().nan_to_num(nan=0.0).clamp(0, 1) * 255).round().to(torch.uint8)


def find_weights(data_root: Path, chosen: Path | None) -> Path | None:
    """The file of Inception's weights: `chosen`, else one under `data_root`/inception, else None: to be downloaded.

    A file with the classifier head is preferred to one without. Raises DataError if `chosen` is not there.
    """
    if chosen is not None:
        if not chosen.expanduser().is_file():
            raise DataError(
                f"there are no Inception weights at {chosen}\n"
                f"  set metrics.inception_weights to where {WEIGHTS} lies, or unset it to let it be found"
            )
        return chosen.expanduser()
    found = (data_root / "inception").glob("weights-inception-2015-12-05*.pth")
    return min(found, key=lambda path: (path.name != WEIGHTS, path.name), default=None)


@dataclass(frozen=True)
class Features:
    """What Inception sees in N images, float32 where it sees them (50,000 images are 410 MB, with logits 610 MB).

    Attributes:
        pool: [N, 2048], the last pooling layer.
        logits: [N, 1008] of the classifier without its bias; None if the weights have no classifier head.
    """

    pool: Tensor
    logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pool)


class Extractor(Protocol):
    """What turns images into features: `Inception`."""

    weights_id: str
    device: torch.device

    def features(self, batches: Iterable[Tensor]) -> Features: ...


class Inception:
    """torch-fidelity's `inception-v3-compat` on a device, frozen.

    Attributes:
        device: where it computes.
        weights_id: the first 12 digits of the SHA-256 of the weights' file.
        has_classifier: there are logits. A file without the classifier head has NaN in its place.
    """

    def __init__(self, weights: Path | None, device: torch.device) -> None:
        """`weights` as `find_weights` returns it; None downloads them to where torch-fidelity would.

        Raises DataError if they cannot be downloaded or read.
        """
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # seconds to import

        path = _download() if weights is None else weights
        try:
            content = path.read_bytes()
            # torch-fidelity unpickles whatever the file holds: here it is known to hold nothing but tensors.
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            finite = {key: bool(tensor.isfinite().all()) for key, tensor in state.items()}
            if bad := [key for key, good in finite.items() if not good and not key.startswith("fc.")]:
                raise ValueError(f"{bad[0]} is not finite")
            self.has_classifier = all(finite.values())
            layers = ["2048", "logits_unbiased"] if self.has_classifier else ["2048"]
            with torch.random.fork_rng(devices=[]):  # the layers are initialized at random before they are loaded
                network = FeatureExtractorInceptionV3(
                    "inception-v3-compat", layers, feature_extractor_weights_path=io.BytesIO(content)
                )
        except Exception as error:  # a file that is something else may raise anything
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise DataError(
                f"{path} is not a readable file of Inception weights: {reason}\n"
                f"  delete it, or set metrics.inception_weights to where {WEIGHTS} lies"
            ) from error
        self.device = device
        self.weights_id = hashlib.sha256(content).hexdigest()[:12]
        # Features of another layout differ by rounding only (1e-5).
        self._network = network.to(device, memory_format=inference_layout(device)).eval().requires_grad_(False)

    def features(self, batches: Iterable[Tensor]) -> Features:
        """Of uint8 images [N, 3, H, W], or [N, 1, H, W] taken as grey, in batches of any size, on any device.

        Raises ValueError for images of another type or shape, and if there are none.
        """
        parts: list[tuple[Tensor, ...]] = []
        for batch in batches:
            if batch.dtype != torch.uint8 or batch.dim() != 4 or batch.shape[1] not in (1, 3):
                raise ValueError(f"expected uint8 images [N, 3 or 1, H, W], got {batch.dtype} {list(batch.shape)}")
            parts += [self._forward(chunk) for chunk in batch.split(BATCH_SIZE) if len(chunk)]
        if not parts:
            raise ValueError("there are no images")
        return Features(*(torch.cat(layer) for layer in zip(*parts, strict=True)))

    def _forward(self, images: Tensor) -> tuple[Tensor, ...]:
        # A score must not depend on the GPU it was measured on. Modes are set around this call only, since `batches`
        # may be a generator that computes in between.
        with torch.no_grad(), repeatable():
            layers: tuple[Tensor, ...] = self._network(images.to(self.device).expand(-1, 3, -1, -1))
        return layers


def _download() -> Path:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), progress=False)
        # No network, no such address, no space; a connection that breaks off.
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise DataError(
                f"{WEIGHTS} is not at {path} and cannot be downloaded from {URL_INCEPTION_V3}: {error}\n"
                f"  download it elsewhere and put it into inception/ under data_root (or $GENBENCH_DATA),"
                f" or set metrics.inception_weights=PATH"
            ) from error
    return path


@dataclass(frozen=True)
class Statistics:
    """Mean [2048] and covariance [2048, 2048] of `count` feature vectors, float64."""

    mu: Tensor
    sigma: Tensor
    count: int

    @cached_property
    def root(self) -> Tensor:
        """Σ^½, [2048, 2048]: symmetric, and computed once."""
        values, vectors = torch.linalg.eigh(self.sigma)
        root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        return root


def statistics(pool: Tensor) -> Statistics:
    """Of features [N, D], in float64 where they lie, or on the CPU where their device has no float64.

    Raises ValueError for fewer than two: they have no covariance.
    """
    _at_least_two(len(pool))
    chunks = pool.split(1000)  # in float64 they are twice as large: not all at once
    mu = torch.stack([double(chunk).sum(0) for chunk in chunks]).sum(0) / len(pool)
    sigma = torch.zeros(len(mu), len(mu), dtype=mu.dtype, device=mu.device)
    for chunk in chunks:
        centred = double(chunk) - mu
        sigma.addmm_(centred.T, centred)
    return Statistics(mu, sigma / (len(pool) - 1), len(pool))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½): FID (Heusel et al. 2017, eq. 6).

    The eigenvalues of Σ_a Σ_b are those of the symmetric Σ_b^½ Σ_a Σ_b^½, where they can neither be negative nor
    complex but for rounding; Σ_b^½ is kept for the next a. Biased upwards, the more so the fewer the images: compare
    equal counts only.
    """
    root = b.root
    shared = torch.linalg.eigvalsh(root @ a.sigma @ root).clamp(min=0).sqrt().sum()
    difference = a.mu - b.mu
    return float(difference @ difference + a.sigma.trace() + b.sigma.trace() - 2 * shared)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """KID (Bińkowski et al. 2018): the unbiased MMD² of features [N, D] and [M, D] under (x·y / D + 1)³.

    The mean over 100 random subsets of 1000, or of as many as there are.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    size = _subset_size(len(a), len(b))
    found = kid_features_to_metric(
        a.cpu(), b.cpu(), kid_subsets=KID_SUBSETS, kid_subset_size=size, rng_seed=SEED, verbose=False
    )
    return float(found[KEY_METRIC_KID_MEAN])


def precision_recall(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """The shares of `generated` inside the manifold of `real`, and the reverse (Kynkäänniemi et al. 2019).

    Features [N, D] and [M, D]. A manifold is a union of balls that reach to the third neighbour, so it grows with
    the number of images: equally many of each, at most 10,000, are drawn.
    """
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    size = _pool_size(len(generated), len(real))
    found = prc_features_to_metric(
        _drawn(generated, size).cpu(),
        _drawn(real, size).cpu(),
        prc_neighborhood=_neighbourhood(size),
        prc_batch_size=1000,  # with save_cpu_ram: blocks of 1000 rows of distances instead of all at once
        save_cpu_ram=True,
        verbose=False,
    )
    return found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]


def inception_score(logits: Tensor) -> float:
    """exp E_x KL(p(y|x) ‖ p(y)) of logits [N, K] (Salimans et al. 2016).

    The mean over 10 splits, or N if there are fewer images.
    """
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

    found = isc_features_to_metric(logits.cpu(), splits=_splits(len(logits)), rng_seed=SEED)
    return float(found[KEY_METRIC_ISC_MEAN])


@dataclass(frozen=True)
class Reference:
    """Real images, as the scores need them.

    Attributes:
        statistics: of all `statistics.count` images.
        pool: [min(count, 10000), 2048], on the CPU: the features of these, or of 10,000 drawn by `rows`.
        name, split: of the data set.
        chosen: which images of the split.
        weights_id: of the network that saw them.
    """

    statistics: Statistics
    pool: Tensor
    name: str
    split: str
    chosen: str
    weights_id: str


def rows(total: int, count: int) -> NDArray[np.int64]:
    """`count` of `total` rows: all of them in order, or `RandomState(2020).choice(total, count, replace=False)`."""
    return np.arange(total) if count == total else np.random.RandomState(SEED).choice(total, count, replace=False)


def reference(
    inception: Extractor, images: Tensor, name: str, split: str, count: int, cache_dir: Path | None
) -> Reference:
    """Statistics and features of `count` of the uint8 images [N, 3 or 1, H, W], the rows drawn by `rows`.

    They are kept in `cache_dir` (116 MB for 10,000 images; None: not kept) under a hash of the images themselves,
    the weights and all else they depend on. A damaged file and a directory that cannot be written to are no errors:
    then they are computed. Raises ConfigError if there are not so many images.
    """
    total = len(images)
    if not 2 <= count <= total:
        raise ConfigError(
            f"{count} reference images of {name}, split {split}, were asked for; it has {total}",
            f"ask for 2 to {total}",
        )
    chosen = f"all {total}" if count == total else f"RandomState({SEED}).choice({total}, {count}, replace=False)"
    used = images if count == total else images[torch.from_numpy(rows(total, count)).to(images.device)]
    origin = {
        "name": name,
        "split": split,
        "rows": chosen,
        "pool_rows": POOL_ROWS,
        "weights": inception.weights_id,
        "shape": list(used.shape),
        "images": hashlib.sha256(used.cpu().contiguous().numpy().data).hexdigest(),
    }
    key = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()
    path = cache_dir / f"{name}-{split}-{count}-{key[:12]}.npz" if cache_dir else None
    if (found := _restore(path, key, count, float64_device(inception.device))) is None:
        pool = inception.features([used]).pool
        found = statistics(pool), _drawn(pool, min(count, POOL_ROWS)).cpu()
        _store(path, key, *found)
    return Reference(*found, name=name, split=split, chosen=chosen, weights_id=inception.weights_id)


def _restore(path: Path | None, key: str, count: int, device: torch.device) -> tuple[Statistics, Tensor] | None:
    # A damaged archive may raise anything: whatever it is, compute again. NumPy refuses to unpickle.
    with contextlib.suppress(Exception):
        if path is not None:
            with np.load(path) as stored:
                if stored["key"].item() == key:
                    # Copied to where PyTorch lays its own tensors, so that products round as they did.
                    mu, sigma = (torch.tensor(stored[name], device=device) for name in ("mu", "sigma"))
                    return Statistics(mu, sigma, count), torch.from_numpy(stored["pool"])
    return None


def _store(path: Path | None, key: str, found: Statistics, pool: Tensor) -> None:
    if path is not None:
        arrays = {"mu": found.mu, "sigma": found.sigma, "pool": pool}
        store(path, np.savez, {"key": np.array(key)} | {name: each.cpu().numpy() for name, each in arrays.items()})


def scores(generated: Features, reference: Reference, which: Collection[str] = SCORES) -> dict[str, float]:
    """Those of `SCORES` that `which` names and that there are: without logits there is no inception_score.

    Raises ValueError for another name, and for fewer than two images.
    """
    _known(which)
    _at_least_two(len(generated))
    found = {}
    if "fid" in which:
        found["fid"] = frechet_distance(statistics(generated.pool), reference.statistics)
    if "kid" in which:
        found["kid"] = kernel_distance(generated.pool, reference.pool)
    if "precision" in which or "recall" in which:
        pair = dict(zip(("precision", "recall"), precision_recall(generated.pool, reference.pool), strict=True))
        found |= {name: value for name, value in pair.items() if name in which}
    if "inception_score" in which and generated.logits is not None:
        found["inception_score"] = inception_score(generated.logits)
    return found


def protocol(generated: Features, reference: Reference, which: Collection[str] = SCORES) -> dict[str, str | int]:
    """How `scores` of the same arguments measures: whatever a value depends on beside the images."""
    _known(which)
    n, m = len(generated), len(reference.pool)
    said: dict[str, str | int] = {
        "n_generated": n,
        "n_reference": reference.statistics.count,
        "reference_split": f"{reference.name} {reference.split}",
        "reference_rows": reference.chosen,
        "inception": NETWORK,
        "inception_weights": reference.weights_id,
        "resize": RESIZE,
        "rounding": ROUNDING,
    }
    if "kid" in which:
        said["kid"] = f"{KID_SUBSETS} subsets of {_subset_size(n, m)}, out of {n} generated and {m} real images"
    if "precision" in which or "recall" in which:
        size = _pool_size(n, m)
        said["precision_recall"] = f"{size} images of each, neighbourhood {_neighbourhood(size)}, Inception pool"
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


# Sizes that shrink when there are fewer images: said by `protocol`, used by the scores.
def _pool_size(n: int, m: int) -> int:
    return min(POOL_ROWS, n, m)


def _subset_size(n: int, m: int) -> int:
    return min(KID_SUBSET_SIZE, n, m)


def _neighbourhood(size: int) -> int:
    return min(NEIGHBOURHOOD, size - 1)


def _splits(n: int) -> int:
    return min(SPLITS, n)


def _drawn(features: Tensor, count: int) -> Tensor:
    if count == len(features):
        return features
    return features[torch.from_numpy(rows(len(features), count)).to(features.device)]
