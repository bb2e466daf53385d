"""MNIST in grey (LeCun et al. 1998), the official files read and downloaded by torchvision."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

from torchvision.datasets.mnist import MNIST, read_image_file, read_label_file

from genbench.data.dataset import Dataset, unit_interval
from genbench.data.files import DataFile, ensure
from genbench.registry import register

__all__ = ["mnist"]

VALIDATION = 10_000  # the last images of the official training set

# md5 of the unpacked files; torchvision checks only the packed ones, while downloading.
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
PACKED_MD5 = {name.removesuffix(".gz"): md5 for name, md5 in MNIST.resources}


@register("dataset", "mnist")
def mnist(root: Path) -> Dataset:
    """[N, 1, 28, 28] of bytes with labels: 50,000 / 10,000 / 10,000.

    Raises DataError for files that are missing or damaged.
    """
    paths = {name: _unpacked(root, name) for name in MD5}
    images = read_image_file(str(paths["train-images-idx3-ubyte"])).unsqueeze(1)
    labels = read_label_file(str(paths["train-labels-idx1-ubyte"]))
    split = len(images) - VALIDATION
    return Dataset(
        name="mnist",
        train=images[:split],
        valid=images[split:],
        test=read_image_file(str(paths["t10k-images-idx3-ubyte"])).unsqueeze(1),
        to_float=unit_interval,
        binary=False,
        protocol={"binarization": "none (grey)", "split": "50000/10000/10000, validation: the last of train"},
        labels={
            "train": labels[:split],
            "valid": labels[split:],
            "test": read_label_file(str(paths["t10k-labels-idx1-ubyte"])),
        },
    )


def _unpacked(root: Path, name: str) -> Path:
    """The verified IDX file, from the published .gz if only that is there or can be downloaded."""
    relative = f"MNIST/raw/{name}"
    url = f"{MNIST.mirrors[0]}{name}.gz"
    path = root / relative
    if not path.is_file():
        packed = ensure(root, DataFile(f"{relative}.gz", url, PACKED_MD5[name]))
        part = path.with_name(f".{name}.{os.getpid()}.part")
        with gzip.open(packed) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target)
        part.replace(path)
    return ensure(root, DataFile(relative, url, MD5[name]))
