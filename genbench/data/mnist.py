"""MNIST (LeCun et al. 1998), the official files: in grey, or binarized dynamically."""

from __future__ import annotations

import gzip
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

ADDRESSES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
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
    images, labels = (
        _read(root, "train-images-idx3-ubyte").unsqueeze(1),
        _read(root, "train-labels-idx1-ubyte").long(),
    )
    split = len(images) - VALIDATION
    used = min(split, train_images or split)
    return Dataset(
        name="mnist",
        train=images[:used],
        valid=images[split:],
        test=_read(root, "t10k-images-idx3-ubyte").unsqueeze(1),
        to_float=unit_interval,
        binary=False,
        protocol={"binarization": "none (grey)", "split": f"{used}/10000/10000, validation: the last of train"},
        labels={
            "train": labels[:used],
            "valid": labels[split:],
            "test": _read(root, "t10k-labels-idx1-ubyte").long(),
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


def _read(root: Path, name: str) -> Tensor:
    """An IDX file as a tensor of bytes, from the plain file or else from the published .gz, which is not unpacked."""
    relative = f"MNIST/raw/{name}"
    if (root / relative).is_file():
        content = ensure(root, DataFile(relative, f"{ADDRESSES[0]}{name}.gz", MD5[name])).read_bytes()
    else:
        first, *others = (f"{address}{name}.gz" for address in ADDRESSES)
        packed = ensure(root, DataFile(f"{relative}.gz", first, PACKED_MD5[name], tuple(others)))
        content = gzip.decompress(packed.read_bytes())
    # Two zeros, the type (8: bytes), the number of dimensions, and each as a big-endian number; then the values.
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, offset=4).tolist()
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 * (1 + dimensions)).reshape(shape).copy())
