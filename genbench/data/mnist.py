"""MNIST (LeCun et al. 1998), the official files, read by torchvision: in grey, or binarized dynamically."""

from __future__ import annotations

import gzip
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genbench.data.dataset import Dataset, unit_interval
from genbench.data.files import DataFile, ensure
from genbench.registry import PositiveInt, register

__all__ = ["dynamically_binarized_mnist", "mnist"]

VALIDATION = 10_000  # the last images of the official training set
SEED = 2020

ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
PACKED_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}


@register("dataset", "mnist")
def mnist(root: Path, *, train_images: PositiveInt | None = None) -> Dataset:
    """[N, 1, 28, 28] of bytes with labels: 50,000 / 10,000 / 10,000, or only the first `train_images` to train on.

    Raises DataError for files that are missing or damaged.
    """
    from torchvision.datasets.mnist import read_image_file, read_label_file  # seconds to import: only where needed

    paths = {name: _unpacked(root, name) for name in MD5}
    images = read_image_file(str(paths["train-images-idx3-ubyte"])).unsqueeze(1)
    labels = read_label_file(str(paths["train-labels-idx1-ubyte"]))
    split = len(images) - VALIDATION
    used = min(split, train_images or split)
    return Dataset(
        name="mnist",
        train=images[:used],
        valid=images[split:],
        test=read_image_file(str(paths["t10k-images-idx3-ubyte"])).unsqueeze(1),
        to_float=unit_interval,
        binary=False,
        protocol={"binarization": "none (grey)", "split": f"{used}/10000/10000, validation: the last of train"},
        labels={
            "train": labels[:used],
            "valid": labels[split:],
            "test": read_label_file(str(paths["t10k-labels-idx1-ubyte"])),
        },
    )


@register("dataset", "binmnist-dynamic")
def dynamically_binarized_mnist(root: Path) -> Dataset:
    """MNIST with training pixels drawn from their grey values at every use of an image.

    Salakhutdinov & Murray 2008, "On the quantitative analysis of deep belief networks". Likelihoods are one or
    two nats higher than on the fixed binarization of `binmnist`, and not comparable with it. Validation and test
    images are drawn once. Raises DataError for files that are missing or damaged.
    """
    grey = mnist(root)
    random = np.random.RandomState(SEED)  # its stream never changes (NEP 19)
    return replace(
        grey,
        name="binmnist-dynamic",
        valid=_drawn_once(grey.valid, random),
        test=_drawn_once(grey.test, random),
        to_float=_draw,
        binary=True,
        protocol=grey.protocol | {"binarization": f"dynamic; valid and test drawn once (RandomState({SEED}))"},
    )


def _draw(stored: Tensor) -> Tensor:
    """Pixels that are 1 with probability stored / 255."""
    return torch.bernoulli(unit_interval(stored))


def _drawn_once(grey: Tensor, random: np.random.RandomState) -> Tensor:
    drawn = random.random_sample(tuple(grey.shape)) < grey.numpy() / 255
    return torch.from_numpy(drawn.astype(np.uint8) * 255)


def _unpacked(root: Path, name: str) -> Path:
    """The verified IDX file, unpacked from the published .gz if missing."""
    relative = f"MNIST/raw/{name}"
    url = f"{ADDRESS}{name}.gz"
    path = root / relative
    if not path.is_file():
        packed = ensure(root, DataFile(f"{relative}.gz", url, PACKED_MD5[name]))
        part = path.with_name(f".{name}.{os.getpid()}.part")
        with gzip.open(packed) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target)
        part.replace(path)
    return ensure(root, DataFile(relative, url, MD5[name]))
