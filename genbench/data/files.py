"""Data files: downloaded if missing, verified, and parsed into a compact cache."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genbench.atomic import replacing
from genbench.data.download import digest_of, fetch
from genbench.errors import DataError

__all__ = ["DataFile", "cached", "ensure", "store"]

Arrays = dict[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class DataFile:
    """A file of a data set: where it lies under the data root, its address and md5, and further addresses."""

    path: str
    url: str
    md5: str
    mirrors: tuple[str, ...] = ()


def ensure(root: Path, file: DataFile) -> Path:
    """The path of the verified file, downloaded if it is missing.

    Raises DataError, naming file, address and target path, if it is missing and cannot be downloaded, or damaged.
    """
    path = root / file.path
    if not path.is_file():
        _download(path, file)
    found = digest_of(path, "md5")
    if found != file.md5:
        raise DataError(
            f"{path} is damaged: its md5 checksum is {found}, not {file.md5}\n"
            f"  delete it; it is downloaded anew from {file.url}"
        )
    return path


def _download(path: Path, file: DataFile) -> None:
    try:
        fetch((file.url, *file.mirrors), path, "md5", file.md5)
    except OSError as error:
        raise DataError(
            f"{path.name} is not at {path} and cannot be downloaded from {error}\n"
            f"  download it elsewhere and put it at {path}, or set data_root (or $GENBENCH_DATA) to where it lies"
        ) from error


def cached(
    root: Path, name: str, sources: Sequence[Path], parse: Callable[[], Arrays], compressed: bool = True
) -> Arrays:
    """`parse()`, cached until the `sources` change. Photographs hardly compress: `compressed` costs time only.

    If the root is not writable or the cache is damaged, `parse` runs again.
    """
    path = root / ".cache" / f"{name}.npz"
    stamp = np.array([number for source in sources for number in _stamp(source)], dtype=np.int64)
    # A damaged archive may raise anything, such as zlib.error or NotImplementedError: parse again.
    with contextlib.suppress(Exception), path.open("rb") as file, np.load(file) as stored:
        if np.array_equal(stored["stamp"], stamp):
            return {key: _unpack(stored, key) for key in stored["keys"].tolist()}
    arrays = parse()
    _store(path, stamp, arrays, np.savez_compressed if compressed else np.savez)
    return arrays


def _stamp(source: Path) -> tuple[int, int]:
    status = source.stat()
    return status.st_size, status.st_mtime_ns


def _store(path: Path, stamp: NDArray[np.int64], arrays: Arrays, save: Callable[..., None]) -> None:
    packed: dict[str, NDArray[Any]] = {"stamp": stamp, "keys": np.array(list(arrays))}
    for key, array in arrays.items():
        packed[f"{key}:shape"] = np.array(array.shape)
        packed[key] = np.packbits(array) if array.size > 1 and array.max() <= 1 else array
    store(path, save, packed)


def store(path: Path, save: Callable[..., None], arrays: dict[str, NDArray[Any]]) -> None:
    """Write a `.npz` by np.savez or np.savez_compressed atomically; do nothing if the directory is not writable."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            save(file, **arrays)


def _unpack(stored: np.lib.npyio.NpzFile, key: str) -> NDArray[np.uint8]:
    shape, array = tuple(stored[f"{key}:shape"]), stored[key]
    return array if array.shape == shape else np.unpackbits(array, count=int(np.prod(shape))).reshape(shape)
