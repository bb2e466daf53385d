"""MNIST (LeCun et al. 1998), the official files: in grey, or binarized dynamically."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from genbench.data.dataset import Dataset, bernoulli, unit_interval
from genbench.data.files import DataFile, ensure
from genbench.registry import Range, register

__all__ = ["IdxFiles", "TrainImages", "dynamically_binarized", "dynamically_binarized_mnist", "grey", "mnist"]

TrainImages = Annotated[int, Range(minimum=1, maximum=50_000)]  # of the official training set, the rest validates
VALIDATION = 10_000  # the last images of the official training set
SEED = 2020

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@dataclass(frozen=True)
class IdxFiles:
    """Four files of the format and shape of MNIST, as torchvision arranges them.

    Attributes:
        directory: where they lie under the data root.
        addresses: of directories that hold them as `.gz`.
        md5, packed_md5: by name, of the plain files and of the published `.gz`.
    """

    directory: str
    addresses: tuple[str, ...]
    md5: dict[str, str]
    packed_md5: dict[str, str]

    def read(self, root: Path, name: str) -> Tensor:
        """A file as a tensor of bytes, from the plain file or else from the published .gz, which is not unpacked."""
        first, *others = (f"{address}{name}.gz" for address in self.addresses)
        plain = DataFile(f"{self.directory}/{name}", first, self.md5[name])
        if (root / plain.path).is_file():
            content = ensure(root, plain).read_bytes()
        else:
            packed = DataFile(f"{plain.path}.gz", first, self.packed_md5[name], tuple(others))
            content = gzip.decompress(ensure(root, packed).read_bytes())
        # Two zeros, the type (8: bytes), the number of dimensions, each as a big-endian number; then the values.
        dimensions = content[3]
        shape = np.frombuffer(content, ">u4", dimensions, offset=4).tolist()
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 * (1 + dimensions)).reshape(shape).copy())


MNIST = IdxFiles(
    "MNIST/raw",
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
    {
        TRAIN_IMAGES: "6bbc9ace898e44ae57da46a324031adb",
        TRAIN_LABELS: "a25bea736e30d166cdddb491f175f624",
        TEST_IMAGES: "2646ac647ad5339dbf082846283269ea",
        TEST_LABELS: "27ae3e4e09519cfbb04c329615203637",
    },
    {
        TRAIN_IMAGES: "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        TRAIN_LABELS: "d53e105ee54ea40749a09fcbcd1e9432",
        TEST_IMAGES: "9fb629c4189551a2d022fa330f9573f3",
        TEST_LABELS: "ec29112dd5afa0611ce80d1b7f02629c",
    },
)


@register("dataset", "mnist")
def mnist(root: Path, *, train_images: TrainImages | None = None) -> Dataset:
    """[N, 1, 28, 28] of bytes with labels: 50,000 / 10,000 / 10,000, or only the first `train_images` to train on.

    Raises DataError for files that are missing or damaged.
    """
    return grey("mnist", MNIST, root, train_images)


def grey(name: str, files: IdxFiles, root: Path, train_images: int | None) -> Dataset:
    """The data set `name` of these files in grey, with the split of `mnist`. Raises DataError."""
    images, labels = files.read(root, TRAIN_IMAGES).unsqueeze(1), files.read(root, TRAIN_LABELS).long()
    split = len(images) - VALIDATION
    used = len(images[:split][:train_images])
    return Dataset(
        name=name,
        train=images[:used],
        valid=images[split:],
        test=files.read(root, TEST_IMAGES).unsqueeze(1),
        to_float=unit_interval,
        binary=False,
        protocol={"binarization": "none (grey)", "split": f"{used}/10000/10000, validation: the last of train"},
        labels={
            "train": labels[:used],
            "valid": labels[split:],
            "test": files.read(root, TEST_LABELS).long(),
        },
    )


@register("dataset", "binmnist-dynamic")
def dynamically_binarized_mnist(root: Path) -> Dataset:
    """MNIST with training pixels drawn from their grey values at every use of an image.

    Salakhutdinov & Murray 2008, "On the quantitative analysis of deep belief networks". Likelihoods are one or
    two nats higher than on the fixed binarization of `binmnist`, and not comparable with it. Validation and test
    images are drawn once. Raises DataError for files that are missing or damaged.
    """
    return dynamically_binarized(replace(mnist(root), name="binmnist-dynamic"))


def dynamically_binarized(grey: Dataset) -> Dataset:
    """A grey data set with training pixels drawn at every use, those of the other splits once."""
    random = np.random.RandomState(SEED)  # its stream never changes (NEP 19)
    return replace(
        grey,
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
    return 255 * torch.from_numpy(bernoulli(grey.numpy(), random))
