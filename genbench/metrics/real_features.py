"""Features of real images, computed once and cached on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genbench.data.dataset import Dataset
from genbench.data.files import store
from genbench.engine.device import float64_device
from genbench.errors import ConfigError
from genbench.metrics.features import Extractor, library_version
from genbench.metrics.fidelity import POOL_ROWS, SEED, RealFeatures, Statistics, drawn, rows, statistics

__all__ = ["check_reference", "real_features"]


def check_reference(dataset: Dataset, count: int | None) -> None:
    """Raise ConfigError unless `count` images of the training set, or all, can be what FID compares with."""
    if dataset.binary or dataset.train.dtype != torch.uint8:
        raise ConfigError(
            f"FID compares images of 256 levels, and those of {dataset.name} are not",
            "set task.fid_samples=null task.final_samples=null, or choose grey images or photographs",
        )
    if count is not None and count > len(dataset.train):
        raise ConfigError(
            f"task.fid_reference={count}, but {dataset.name} has {len(dataset.train)} training images",
            "ask for fewer, or for all: task.fid_reference=null",
        )


def real_features(
    extractor: Extractor, images: Tensor, name: str, split: str, count: int, cache_dir: Path | None
) -> RealFeatures:
    """Statistics and features of `count` of the uint8 images [N, 3 or 1, H, W], the rows drawn by `rows`.

    They are cached in `cache_dir` (116 MB for 10,000 images; not if None) under a hash of the images, the weights,
    torch-fidelity's version and all other inputs. If the file is damaged or the directory is not writable, they are
    computed. Raises ConfigError if there are too few images.
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
        "weights": extractor.weights_id,
        "library": library_version(),
        "shape": list(used.shape),
        "images": hashlib.sha256(used.cpu().contiguous().numpy().data).hexdigest(),
    }
    key = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()
    path = cache_dir / f"{name}-{split}-{count}-{key[:12]}.npz" if cache_dir else None
    if (found := _restore(path, key, count, float64_device(extractor.device))) is None:
        pool = extractor.features([used]).pool
        found = statistics(pool), drawn(pool, min(count, POOL_ROWS)).cpu()
        _store(path, key, *found)
    said = dict(extractor.protocol)
    return RealFeatures(*found, name=name, split=split, chosen=chosen, network=said, layer=extractor.layer)


def _restore(path: Path | None, key: str, count: int, device: torch.device) -> tuple[Statistics, Tensor] | None:
    # A damaged archive may raise anything: compute again. NumPy refuses to unpickle.
    with contextlib.suppress(Exception):
        if path is not None:
            with path.open("rb") as file, np.load(file) as stored:
                if stored["key"].item() == key:
                    # Copied to PyTorch's own, aligned memory, so that products round as for computed features.
                    mu, sigma = (torch.tensor(stored[name], device=device) for name in ("mu", "sigma"))
                    return Statistics(mu, sigma, count), torch.from_numpy(stored["pool"])
    return None


def _store(path: Path | None, key: str, found: Statistics, pool: Tensor) -> None:
    if path is not None:
        arrays = {"mu": found.mu, "sigma": found.sigma, "pool": pool}
        store(path, np.savez, {"key": np.array(key)} | {name: each.cpu().numpy() for name, each in arrays.items()})
