"""Binarized MNIST as fixed by Larochelle: the data set of most published likelihoods.

Larochelle & Murray 2011, "The Neural Autoregressive Distribution Estimator": every pixel was drawn
once from a Bernoulli distribution with the grey value as its mean; 50,000 / 10,000 / 10,000 images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from genbench.data.dataset import Dataset, to_float32
from genbench.data.files import DataFile, cached, ensure
from genbench.errors import DataError
from genbench.registry import register

__all__ = ["binarized_mnist"]

ADDRESS = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/binarized_mnist_{}.amat"
FILES = {
    split: DataFile(f"binarized_mnist/binarized_mnist_{split}.amat", ADDRESS.format(split), md5)
    for split, md5 in {
        "train": "db28b1a6ae0fe70cbd3da91acf46e477",
        "valid": "bf37822a04e94123630de6a7dfd9c9ef",
        "test": "14e41ae11040adba6ab8cb291eda0dd8",
    }.items()
}
PIXELS = 28 * 28


@register("dataset", "binmnist")
def binarized_mnist(root: Path) -> Dataset:
    """[N, 1, 28, 28] of 0 and 1. Raises DataError for files that are missing or damaged."""
    paths = {split: ensure(root, file) for split, file in FILES.items()}
    arrays = cached(
        root,
        "binmnist",
        list(paths.values()),
        lambda: {split: _read_amat(path) for split, path in paths.items()},
    )
    sizes = "/".join(str(len(arrays[split])) for split in ("train", "valid", "test"))
    return Dataset(
        name="binmnist",
        train=torch.from_numpy(arrays["train"]),
        valid=torch.from_numpy(arrays["valid"]),
        test=torch.from_numpy(arrays["test"]),
        to_float=to_float32,
        binary=True,
        protocol={"binarization": "fixed (Larochelle)", "split": sizes},
    )


def _read_amat(path: Path) -> NDArray[np.uint8]:
    """Lines of 784 digits with spaces between them."""
    characters = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    digits = characters[(characters == ord("0")) | (characters == ord("1"))] - ord("0")
    if not len(digits) or len(digits) % PIXELS:
        raise DataError(f"{path}: {len(digits)} pixels are not a whole number of {PIXELS}-pixel images")
    images: NDArray[np.uint8] = digits.reshape(-1, 1, 28, 28)
    return images
