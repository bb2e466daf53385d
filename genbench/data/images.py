"""Images of your own: a folder of PNG, JPEG and WebP files, or of one folder for each class.

What identifies the data set is what the files hold, and the folders that are classes; not where they lie, nor what
the files are called. Each image goes to training, validation or test by a hash of its file, so that images which
are added later move no other one: what a model was never trained on stays so.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray

from genbench.data import folder as folders
from genbench.data.dataset import Dataset, bernoulli, to_float32, unit_interval
from genbench.data.files import cached
from genbench.data.folder import SEED, SHARES, ImageFile, Listing, hash_of, in_threads, shown
from genbench.data.preparation import MODES, VERSION, preparation, prepare
from genbench.engine.memory import check_memory
from genbench.errors import ConfigError, DataError
from genbench.registry import Contents, Matching, OneOf, PositiveInt, Text, register

__all__ = ["images"]

FEWEST = 2  # images of a split: fewer have no standard error
UNREADABLE = 0.01  # share of files up to which unreadable ones are left out
SHOWN = 5  # files that a message names


def _contents(root: Path, settings: Mapping[str, Any]) -> str:
    return folders.read(root, _folder(settings["path"])).contents


def _folder(path: str | None) -> Path:
    if path is None:
        raise ConfigError("dataset=images is for a folder of your own", "set dataset.path to it")
    return Path(path)


@register("dataset", "images")
def images(
    root: Path,
    *,
    path: Text | None = None,
    size: PositiveInt = 32,
    channels: Annotated[int, OneOf(1, 3)] = 3,
    binarized: bool = False,
    contents: Annotated[str, Matching(r"[0-9a-f]{8}", "eight hexadecimal digits"), Contents("path", _contents)]
    | None = None,
) -> Dataset:
    """[N, C, S, S] of bytes, or of 0 and 1, with labels where there are folders: 80 / 10 / 10 %, by `split_of`.

    Of files with the same bytes one is kept, under the first class. Files that cannot be read are left out and named.
    `binarized` pixels are drawn once with their grey values as means. Prepared images are cached in
    root/.cache/images. Raises DataError for a folder without enough images, with more than 1 % of unreadable ones, or
    that does not hold `contents`; ConfigError for more images than fit into memory.
    """
    if binarized and channels != 1:
        raise ConfigError("binarized images are grey", "set dataset.channels=1, or dataset.binarized=false")
    folder = _folder(path)
    listing = folders.read(root, folder)
    if contents not in (None, listing.contents):
        raise DataError(
            f"{shown(folder)} holds other images than dataset.contents={contents}: those of {listing.contents}"
            "\n  put the former images back, or leave dataset.contents out for a run on those that are there"
        )
    check_memory(
        (2 if binarized else 1) * len(listing.records) * channels * size**2,
        f"{len(listing.records)} images of {channels} × {size} × {size}",
        "choose a smaller dataset.size, or fewer images",
    )
    pixels, kept = _pixels(root, folder, listing, size, channels)
    counts = Counter(record.split for record in kept)
    if min(counts[split] for split in SHARES) < FEWEST:
        sizes = ", ".join(f"{counts[split]} for {split}" for split in SHARES)
        raise DataError(
            f"{shown(folder)}: {len(kept)} images are too few: the split by content leaves {sizes}"
            f"\n  every split needs at least {FEWEST}: add images"
        )
    ends = np.cumsum([counts[split] for split in SHARES])[:-1]
    stored = bernoulli(pixels, np.random.RandomState(SEED)) if binarized else pixels
    train, valid, test = (torch.from_numpy(part) for part in np.split(stored, ends))
    return Dataset(
        name="images",
        train=train,
        valid=valid,
        test=test,
        to_float=to_float32 if binarized else unit_interval,
        binary=binarized,
        protocol={
            "images": listing.contents,
            "preparation": preparation(size, channels),
            "binarization": f"fixed (RandomState({SEED}))"
            if binarized
            else f"none ({'grey' if channels == 1 else MODES[channels]})",
            "split": f"{len(train)}/{len(valid)}/{len(test)} by content",
        },
        **_classes(kept, ends),
    )


def _classes(records: Sequence[ImageFile], ends: NDArray[np.int64]) -> dict[str, Any]:
    """`labels` and `class_names` of the data set, in alphabetical order; empty where there are no classes."""
    numbers = {label: number for number, label in enumerate(sorted({record.label for record in records}))}
    if list(numbers) == [""]:
        return {}
    labels = torch.tensor([numbers[record.label] for record in records])
    return {
        "labels": dict(zip(SHARES, labels.tensor_split(torch.from_numpy(ends)), strict=True)),
        "class_names": tuple(shown(Path(label)) for label in numbers),
    }


def _pixels(
    root: Path, folder: Path, listing: Listing, size: int, channels: int
) -> tuple[NDArray[np.uint8], list[ImageFile]]:
    """Prepared images [N, C, S, S] and their records; says which are left out.

    Raises DataError where too many files cannot be read.
    """
    records = listing.records
    reasons = dict.fromkeys(listing.unreadable, "no permission")
    total = len(records) + len(reasons)

    def parse() -> dict[str, NDArray[np.uint8]]:
        pixels = np.empty((len(records), channels, size, size), np.uint8)
        readable = np.zeros(len(records), np.uint8)
        count = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are odd but can be read
            prepared = in_threads(partial(_prepared, size=size, channels=channels), records, "prepared")
            for number, image in enumerate(prepared):
                if isinstance(image, str):
                    reasons[records[number].path] = image
                    _check_unreadable(folder, reasons, total)
                else:
                    pixels[count], readable[number] = image, 1
                    count += 1
        return {"pixels": pixels[:count], "readable": readable}

    _check_unreadable(folder, reasons, total)
    key = hash_of([f"{size} {channels} {VERSION}".encode(), *(record.digest for record in records)])
    arrays = cached(root, f"images/{key[:16]}", [], parse, compressed=False)
    kept = [record for record, readable in zip(records, arrays["readable"], strict=True) if readable]
    for record in {*records}.difference(kept):
        reasons.setdefault(record.path, "damaged")
    if reasons:
        print(f"{shown(folder)}: {len(reasons)} of {total} files cannot be read and are left out: {_listed(reasons)}")
    if listing.copies:
        print(f"{shown(folder)}: {listing.copies} copies of other files are left out")
    return arrays["pixels"], kept


def _prepared(record: ImageFile, size: int, channels: int) -> NDArray[np.uint8] | str:
    """Pixels [C, S, S], or why there are none."""
    try:
        return prepare(record.path, size, channels)
    except Exception as error:  # Pillow raises almost anything for a damaged file
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            raise  # it says nothing of the file, which another time can be read
        return str(error).partition(" '")[0] or type(error).__name__


def _check_unreadable(folder: Path, reasons: Mapping[Path, str], total: int) -> None:
    if len(reasons) > UNREADABLE * total:
        raise DataError(
            f"{shown(folder)}: more than {UNREADABLE:.0%} of {total} files cannot be read: {_listed(reasons)}"
            "\n  mend or remove them"
        )


def _listed(reasons: Mapping[Path, str]) -> str:
    first = [f"{shown(path)} ({reason})" for path, reason in sorted(reasons.items())[:SHOWN]]
    return ", ".join(first) + (" …" if len(reasons) > SHOWN else "")
