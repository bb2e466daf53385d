"""The image files of a folder: their classes, their hashes, and the split that each belongs to."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from genbench.data.download import digest_of
from genbench.data.files import cached
from genbench.errors import DataError

__all__ = ["SEED", "SHARES", "ImageFile", "Listing", "hash_of", "in_threads", "read", "shown", "split_of"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
JUNK = "__MACOSX"  # what archives of macOS hold beside the files; other junk is hidden
SEED = 2020
SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
SECONDS_BETWEEN_LINES = 5

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class ImageFile:
    """An image file: its class, the name of its folder, empty where there are none; and the SHA-256 of its bytes."""

    path: Path
    label: str
    digest: bytes

    @property
    def split(self) -> str:
        return split_of(self.digest)


def split_of(digest: bytes) -> str:
    """The split of an image: u = SHA-256("2020" + digest) / 2²⁵⁶, train for u < 0.8, valid for u < 0.9, else test.

    The digest is the SHA-256 of its file.
    """
    u = int.from_bytes(hashlib.sha256(str(SEED).encode() + digest).digest(), "big") / 2**256
    return "train" if u < SHARES["train"] else "valid" if u < SHARES["train"] + SHARES["valid"] else "test"


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        records: the images, each once, by split and hash.
        copies: how many files have the same bytes as one of them, and are left out.
        unreadable: files that may not be read.
    """

    records: list[ImageFile]
    copies: int
    unreadable: list[Path]

    @property
    def contents(self) -> str:
        """Eight hexadecimal digits that change with the bytes or the class of any file, not with names or places."""
        return hash_of(part for record in self.records for part in (record.digest, os.fsencode(record.label)))[:8]


def read(root: Path, folder: Path) -> Listing:
    """Look through a folder. Hashes are cached under the root until names, sizes or times of files change.

    Raises DataError unless there are images, and all in one place: in the folder, or in folders there.
    """
    try:
        found = _find(folder)
        labels = {path: label for path, label in found if os.access(path, os.R_OK)}
        paths = list(labels)
        names = hash_of(os.fsencode(path.absolute()) for path in paths)
        digests = cached(root, f"images/hashes-{names[:16]}", paths, lambda: {"digests": _digests(paths)})["digests"]
    except OSError as error:
        raise DataError(f"{shown(Path(error.filename or folder))} cannot be read: {error.strerror}") from error
    records: dict[bytes, ImageFile] = {}
    for path, digest in zip(paths, map(bytes, digests), strict=True):
        records.setdefault(digest, ImageFile(path, labels[path], digest))
    splits = list(SHARES)
    ordered = sorted(records.values(), key=lambda record: (splits.index(record.split), record.digest))
    return Listing(ordered, len(paths) - len(ordered), [path for path, _ in found if path not in labels])


def _find(folder: Path) -> list[tuple[Path, str]]:
    """Image files in alphabetical order, each with its class."""
    remedy = "\n  set dataset.path to a folder of PNG, JPEG or WebP files, or to one with a folder for each class"
    if not folder.is_dir():
        raise DataError(f"{shown(folder)} {'is not a folder' if folder.exists() else 'does not exist'}{remedy}")
    files, classes = _entries(folder)
    found = [(file, "") for file in files]
    for directory in classes:
        files, deeper = _entries(directory)
        found += [(file, directory.name) for file in files]
        for below in deeper:
            if _entries(below)[0]:
                raise DataError(f"images lie too deep, in {shown(below)}{remedy}")
    if not found:
        raise DataError(f"{shown(folder)} holds no images{remedy}")
    if len({label == "" for _, label in found}) > 1:
        raise DataError(f"images lie both in {shown(folder)} and in folders there{remedy}")
    return found


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Image files and folders in it, without hidden ones."""
    with os.scandir(folder) as scan:
        seen = sorted((entry for entry in scan if entry.name[0] != "." and entry.name != JUNK), key=lambda e: e.name)
    files = [Path(entry) for entry in seen if entry.name.lower().endswith(SUFFIXES) and entry.is_file()]
    return files, [Path(entry) for entry in seen if entry.is_dir()]


def _digests(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """[N, 32]"""
    found = b"".join(in_threads(lambda path: bytes.fromhex(digest_of(path, "sha256")), paths, "hashed"))
    return np.frombuffer(found, np.uint8).reshape(len(paths), -1)


def hash_of(parts: Iterable[bytes]) -> str:
    """Hexadecimal SHA-256 of a sequence."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def shown(path: Path) -> str:
    """A path that can be printed: its name need not be text."""
    return os.fsencode(path).decode(errors="replace")


def in_threads(function: Callable[[T], R], items: Sequence[T], done: str) -> Iterator[R]:
    """The function of every item, in order; a line every few seconds tells how many are done."""
    told = time.monotonic()
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for number, result in enumerate(pool.map(function, items)):
            yield result
            if time.monotonic() - told > SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                print(f"{number + 1} of {len(items)} images {done}")
    finally:
        pool.shutdown(cancel_futures=True)
