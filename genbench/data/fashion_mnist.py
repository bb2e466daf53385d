"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747), the official files: articles of clothing.

Format, shape and numbers of images are those of MNIST, and so are the split and the binarization here.
"""

from __future__ import annotations

from pathlib import Path

from genbench.data.dataset import Dataset
from genbench.data.mnist import (
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    IdxFiles,
    TrainImages,
    dynamically_binarized,
    grey,
)
from genbench.registry import register

__all__ = ["fashion_mnist"]

FASHION_MNIST = IdxFiles(
    "FashionMNIST/raw",
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    {
        TRAIN_IMAGES: "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        TRAIN_LABELS: "9018921c3c673c538a1fc5bad174d6f9",
        TEST_IMAGES: "8181f5470baa50b63fa0f6fddb340f0a",
        TEST_LABELS: "15d484375f8d13e6eb1aabb0c3f46965",
    },
    {
        TRAIN_IMAGES: "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        TRAIN_LABELS: "25c81989df183df01b3e8a0aad5dffbe",
        TEST_IMAGES: "bef4ecab320f06d8554ea6380940ec79",
        TEST_LABELS: "bb300cfdad3c16e7a12a480ee83cd310",
    },
)


@register("dataset", "fashion-mnist")
def fashion_mnist(root: Path, *, binarized: bool = False, train_images: TrainImages | None = None) -> Dataset:
    """[N, 1, 28, 28] of bytes with labels: 50,000 / 10,000 / 10,000, or only the first `train_images` to train on.

    `binarized` as in `binmnist-dynamic`: training pixels are drawn from their grey values at every use, those of the
    other splits once. Raises DataError for files that are missing or damaged.
    """
    images = grey("fashion-mnist", FASHION_MNIST, root, train_images)
    return dynamically_binarized(images) if binarized else images
