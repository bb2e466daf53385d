"""SVHN, Street View House Numbers (Netzer et al. 2011), format 2: digits cropped to 32 × 32, the official files.

As with CIFAR-10, nothing is held out from training, and the test images serve as valid and as test. The further
531,131 easier images ("extra") are not used.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from genbench.data.dataset import Dataset, unit_interval
from genbench.data.files import DataFile, ensure
from genbench.registry import register

__all__ = ["svhn"]

ADDRESS = "http://ufldl.stanford.edu/housenumbers/"
FILES = {
    split: DataFile(f"SVHN/{split}_32x32.mat", f"{ADDRESS}{split}_32x32.mat", md5)
    for split, md5 in {
        "train": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test": "eb5a983be6a315427106f1b164d9cef3",
    }.items()
}


@register("dataset", "svhn")
def svhn(root: Path) -> Dataset:
    """[N, 3, 32, 32] of bytes in RGB with labels: 73,257 / 26,032 / 26,032, where valid and test are the same.

    Raises DataError for files that are missing or damaged.
    """
    paths = {split: ensure(root, file) for split, file in FILES.items()}
    # Not cached: photographs hardly compress, so reading a cache would be as slow as reading these files.
    train_images, train_labels = _read_mat(paths["train"])
    test_images, test_labels = _read_mat(paths["test"])
    return Dataset(
        name="svhn",
        train=train_images,
        valid=test_images,
        test=test_images,
        to_float=unit_interval,
        binary=False,
        protocol={
            "binarization": "none (RGB)",
            "split": f"{len(train_images)} train; valid and test are the official {len(test_images)} test images",
        },
        labels={"train": train_labels, "valid": test_labels, "test": test_labels},
    )


def _read_mat(path: Path) -> tuple[Tensor, Tensor]:
    """MATLAB's `X` [height, width, channel, N] and `y` [N, 1], where class 10 is the digit 0."""
    from scipy.io import loadmat  # a quarter of a second to import: only where needed

    content = loadmat(path)
    # In MATLAB's layout the first index varies fastest, so reversing all axes copies nothing; torch then copies four
    # times as fast as NumPy.
    images = torch.from_numpy(content["X"].T).transpose(2, 3).contiguous()
    return images, torch.from_numpy(content["y"]).flatten().long() % 10
