"""CIFAR-10 (Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"), the official files.

Published twice with the same images: in plain bytes ("binary version") and as pickles of Python 2 ("python version",
the one that torchvision downloads). The version found under the data root is read.

Nothing is held out from training: generative models of CIFAR-10 are trained on all 50,000 training images, and FID
is measured against those or against the 10,000 test images.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genbench.data.dataset import Dataset, unit_interval
from genbench.data.files import DataFile, ensure
from genbench.errors import DataError
from genbench.registry import register

__all__ = ["cifar10"]

PIXELS = 3 * 32 * 32  # all of red, then green, then blue, each row by row: [3, 32, 32]

Batch = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # images [N, PIXELS] and labels [N]


@dataclass(frozen=True)
class Version:
    """A published form of the data: its archive, the files in it (the test images are the last) and their reader."""

    archive: DataFile
    files: tuple[DataFile, ...]
    reader: Callable[[bytes], Batch]

    def lacks(self, root: Path) -> list[str]:
        """The missing files, as paths under the root."""
        return [file.path for file in self.files if not (root / file.path).is_file()]


@register("dataset", "cifar10")
def cifar10(root: Path) -> Dataset:
    """[N, 3, 32, 32] of bytes in RGB with labels: 50,000 / 10,000 / 10,000, where valid and test are the same.

    Raises DataError for files that are missing or damaged.
    """
    version, contents = _contents(root)  # not cached: the checksums take most of the 0.6 s
    *train, test = (version.reader(content) for content in contents)
    train_images, train_labels = _join(train)
    test_images, test_labels = _join([test])
    return Dataset(
        name="cifar10",
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


def _contents(root: Path) -> tuple[Version, list[bytes]]:
    """The version whose files exist, and what is in them; if none does, an archive's, downloaded if necessary.

    An archive is unpacked into the root, or, if that cannot be written to, only into memory.
    """
    for version in VERSIONS:
        if not version.lacks(root):
            return version, [ensure(root, file).read_bytes() for file in version.files]
    version = next((version for version in VERSIONS if (root / version.archive.path).is_file()), VERSIONS[0])
    try:
        archive = ensure(root, version.archive)
    except DataError as error:
        incomplete = [version for version in VERSIONS if len(version.lacks(root)) < len(version.files)]
        notes = [f"\n  its files are there, except {', '.join(version.lacks(root))}" for version in incomplete]
        raise DataError(f"{error}{''.join(notes)}") from error
    lacking = version.lacks(root)
    members = _members(archive, lacking)
    with contextlib.suppress(OSError):  # no permission, no space
        _unpack(members, root)
    present = (file for file in version.files if file.path not in members)
    members |= {file.path: ensure(root, file).read_bytes() for file in present}
    return version, [members[file.path] for file in version.files]


def _members(archive: Path, paths: list[str]) -> dict[str, bytes]:
    """Only these members of the archive."""
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            source = tar.extractfile(member) if member.name in paths and member.isfile() else None
            if source is not None:
                found[member.name] = source.read()
    if missing := sorted(set(paths) - set(found)):
        raise DataError(f"{archive} does not hold {', '.join(missing)}")
    return found


def _unpack(members: dict[str, bytes], root: Path) -> None:
    """Write the members under the root, each atomically, once there is space for all of them."""
    with tempfile.TemporaryDirectory(prefix=".cifar-10.", dir=root) as directory:
        parts = {path: Path(directory) / str(number) for number, path in enumerate(members)}
        for path, part in parts.items():
            part.write_bytes(members[path])
        for path, part in parts.items():
            (root / path).parent.mkdir(exist_ok=True)
            part.replace(root / path)


def _join(batches: list[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    images = np.concatenate([images for images, _ in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([labels for _, labels in batches])
    return torch.from_numpy(images), torch.from_numpy(labels).long()


def _read_binary(content: bytes) -> Batch:
    """Rows of a label and the pixels, a byte each."""
    rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, 1 + PIXELS)
    return rows[:, 1:], rows[:, 0]


def _read_python(content: bytes) -> Batch:
    """A dictionary with `data`, an array of bytes [N, PIXELS], and `labels`, a list."""
    try:
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()  # Python 2's strings
    except pickle.UnpicklingError as error:
        raise DataError(f"this is no batch of CIFAR-10: {error}") from error
    return batch["data"], np.array(batch["labels"], dtype=np.uint8)


class _ArrayUnpickler(pickle.Unpickler):
    """Makes arrays and plain values. A pickle may call any function by name: this one allows only three."""

    ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
        # A private function that NumPy 2 has moved: taken from how NumPy pickles an array.
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],  # type: ignore[dict-item]
        ("numpy", "ndarray"): np.ndarray,
        # NumPy 2.4.0 to 2.4.4 warn about old pickles, which have 0 and 1 instead of booleans.
        ("numpy", "dtype"): lambda name, align, copy: np.dtype(name, bool(align), bool(copy)),
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def _version(archive: DataFile, directory: str, md5: dict[str, str], reader: Callable[[bytes], Batch]) -> Version:
    files = tuple(DataFile(f"{directory}/{name}", archive.url, value) for name, value in md5.items())
    return Version(archive, files, reader)


ADDRESS = "https://www.cs.toronto.edu/~kriz/"
BINARY_MIRRORS = (
    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/cifar-10-binary.tar.gz",
)
PYTHON_MIRRORS = ("https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",)
VERSIONS = (
    _version(
        DataFile(
            "cifar-10-binary.tar.gz",
            f"{ADDRESS}cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
            BINARY_MIRRORS,
        ),
        "cifar-10-batches-bin",
        {
            "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
            "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
            "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
            "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
            "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
            "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
        },
        _read_binary,
    ),
    _version(
        DataFile(
            "cifar-10-python.tar.gz",
            f"{ADDRESS}cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            PYTHON_MIRRORS,
        ),
        "cifar-10-batches-py",
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
        _read_python,
    ),
)
