"""Images from anywhere, scored as those of a GAN, so that models trained elsewhere join the tables."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from genbench import provenance, registry
from genbench.atomic import write_text
from genbench.data.dataset import SPLITS
from genbench.data.loading import load
from genbench.data.preparation import of_eight_bits
from genbench.engine.device import describe, resolve
from genbench.engine.measurement import Measurement
from genbench.engine.rundir import SCHEMA, RunDirectory, writable
from genbench.errors import ConfigError
from genbench.metrics import inception, transformers
from genbench.metrics.features import Extractor, Features
from genbench.metrics.fidelity import RealFeatures
from genbench.metrics.real_features import real_features
from genbench.tasks.gan.scored import of_network, scored

__all__ = ["read", "score"]

NAME = re.compile(r"[^\w.+-]+", re.ASCII)


def score(
    images: Path,
    dataset: str,
    split: str,
    out: Path,
    name: str | None = None,
    count: int | None = None,
    networks: Sequence[str] = (),
) -> Path:
    """FID, KID, precision and recall of images against a split of a data set, as a run directory that reports read.

    Args:
        images: a folder of PNG files, or an .npz; see `read`.
        dataset: such as cifar10; of grey or coloured images of 256 levels.
        split: train, valid or test.
        out: the output root.
        name: what the images are called; default: as the folder or file.
        count: how many real images; default: all of the split.
        networks: in whose features they are compared, too; names of `transformers.LABELS`.

    Raises:
        ConfigError: for images that cannot be read or compared, and an unknown data set, split or network.
        DataError: if the data set or the weights of a network are missing.
    """
    pixels = read(images)
    writable(out, remedy="choose another --out")
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}", f"choose from: {', '.join(SPLITS)}")
    if unknown := [name for name in networks if name not in transformers.LABELS]:
        raise ConfigError(f"unknown network {unknown[0]!r}", f"choose from: {', '.join(transformers.LABELS)}")
    root, device = Path(os.environ.get("GENBENCH_DATA", "data")), resolve("auto")
    data = load(_unbinarized(dataset), root)
    real = data.split(split)
    if real.dtype != torch.uint8 or data.binary or real.dim() != 4:
        raise ConfigError(f"{dataset} holds no images of 256 levels", "choose mnist, cifar10 or svhn")

    def compared(extractor: Extractor) -> tuple[Features, RealFeatures]:
        cache = root / ".cache" / "fidelity"
        reference = real_features(extractor, real, data.name, split, len(real) if count is None else count, cache)
        return extractor.features(pixels.split(500)), reference

    others = {name: transformers.Transformer(name, device) for name in networks}
    metrics = scored("test/", *compared(inception.Inception(inception.find_weights(root, None), device)))
    for network, extractor in others.items():
        metrics |= of_network(network, *compared(extractor))
    place = images.resolve()
    title = NAME.sub("_", name or (place.name if place.is_dir() else place.stem)).strip("_") or "images"
    against = {"dataset": dataset, "split": split} | ({"reference": str(count)} if count else {})
    settings = against | {
        "networks": sorted(others),
        "images": hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:16],
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    with RunDirectory(out / title / f"{dataset}-{split}-{key}") as run:
        _write(run, title, metrics, data.conditions, describe(device), against, settings)
    return run.path


def read(path: Path) -> Tensor:
    """[N, C, H, W] of bytes, C being 1 or 3, from the PNG files of a folder, in the order of their names, or from
    `images` [N, H, W, C] (or `arr_0`) of an .npz file.

    Raises ConfigError where there are fewer than two, or not all of them are of one size.
    """
    if path.is_dir():
        return _stacked([_picture(file) for file in sorted(path.glob("*.png"))], path)
    try:
        with path.open("rb") as file, np.load(file) as stored:  # NumPy refuses to unpickle
            names = [name for name in ("images", "arr_0") if name in stored]
            array = stored[names[0]] if names else None
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there", "name a folder of PNG files, or an .npz") from None
    except Exception as error:  # a foreign file may raise anything
        raise ConfigError(f"{path} cannot be read: {error}", "name a folder of PNG files, or an .npz") from error
    if array is None or array.dtype != np.uint8 or array.ndim != 4:
        raise ConfigError(f"{path} holds no `images` of bytes, [N, H, W, C]", "store them so, or as PNG files")
    return _stacked(list(array), path)


def _unbinarized(dataset: str) -> dict[str, Any]:
    """Settings of a data set whose images have 256 levels, where it can have them."""
    parameters = registry.parameters(registry.lookup("dataset", dataset))
    return {"name": dataset, **({"binarized": False} if "binarized" in parameters else {})}


def _picture(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            eight = of_eight_bits(image)
            return np.asarray(eight.convert("L" if eight.mode in ("1", "L") else "RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ConfigError(f"{path} is no readable picture: {error}", "remove or replace it") from error


def _stacked(images: list[np.ndarray], path: Path) -> Tensor:
    if len(images) < 2:
        raise ConfigError(f"{path} holds {len(images)} images", "scores need at least two; PNG files end in .png")
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise ConfigError(f"{path} holds images of several sizes: {sorted(shapes)[:3]}", "make them equal")
    array = np.stack(images)
    array = array[..., None] if array.ndim == 3 else array
    if array.shape[3] not in (1, 3):
        raise ConfigError(f"{path} holds images of {array.shape[3]} channels", "store 1 or 3")
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def _write(
    run: RunDirectory,
    title: str,
    metrics: dict[str, Measurement],
    common: dict[str, str],
    device: str,
    against: dict[str, str],
    settings: dict[str, Any],
) -> None:
    from genbench.tasks.gan.image_gan import ImageGan

    where = {"step": 0, "epoch": 0.0, "time": 0.0}
    rows = [where | {"metric": name, "value": found.value} for name, found in metrics.items()]
    entries = {
        name: {"final": {"value": found.value, "step": 0}}
        | found.to_summary()
        | {"protocol": common | dict(found.protocol)}
        for name, found in metrics.items()
    }
    summary = {
        "schema": SCHEMA,
        "name": title,
        "seed": 0,
        "title": title,
        "changes": against,
        "settings": settings,
        "family": dataclasses.asdict(ImageGan.family),
        "quantities": [dataclasses.asdict(quantity) for quantity in ImageGan.quantities],
        "curves": {},
        "cover": "",
        "device": device,
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "note": "images from elsewhere: scored, not trained here",
        "status": "done",
        "step": 0,
        "epoch": 0.0,
        "shortened": False,
        "metrics": entries,
        "reference": [],
        "wall_seconds": 0.0,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    write_text(run.metrics, "".join(json.dumps(row) + "\n" for row in rows))
    run.write_summary(summary)
    run.set_status("done", 0)
