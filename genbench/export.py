"""Samples of a trained model as files, for other tools."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from genbench import identity
from genbench.atomic import replacing, write_text
from genbench.engine.task import Progress, Samples, unseen
from genbench.errors import ConfigError
from genbench.loaded import LoadedRun
from genbench.metrics.features import to_bytes

__all__ = ["FORMATS", "Format", "export"]

Format = Literal["png", "npz", "pt"]
FORMATS: tuple[Format, ...] = ("png", "npz", "pt")
MANIFEST = "manifest.json"
PARTS = ".parts"


def export(
    run: LoadedRun,
    task: Samples,
    count: int,
    seed: int | None,
    form: Format,
    out: Path,
    progress: Progress = unseen,
    label: int | None = None,
) -> Path:
    """Write exactly `count` samples into the directory `out`, and go on where an earlier call was interrupted.

    Images are bytes, the same ones that scores are computed from: PNG files 000000.png, …, or `samples.npz` with
    `images` [N, H, W, C], or `samples.pt`, a tensor [N, C, H, W]. Points are float32 [N, D], as `points` or a tensor.
    `manifest.json` says what they are. The default seed is that of the images whose scores the run reports. A
    class-conditional model draws them of one class, if `label` says so.

    Raises ConfigError if `out` holds something else, for points as PNG files, and for a class that is not known.
    """
    images = len(task.parts.dataset.shape) == 3
    if form == "png" and not images:
        raise ConfigError("points are no pictures", "choose --format npz or pt")
    seed = task.scoring_seed if seed is None else seed
    settings = {
        "experiment": run.config["name"],
        "run": run.directory.path.name,
        "fingerprint": identity.fingerprint(run.checked()),
        "step": run.summary.get("step"),
        "seed": seed,
        "count": count,
        "chunk": task.chunk,  # rounding may depend on it
        "format": form,
        "shape": list(task.parts.dataset.shape),
        "values": "bytes, round(255 x)" if images else "float32",
    }
    if label is not None:
        task.labels(1, seed, label)  # an unknown class leaves nothing behind
        settings["label"] = label
    done = _begin(out, settings)
    writer = _write_pngs if form == "png" else _write_part
    for number, chunk in enumerate(task.chunks(count, seed, progress, done, label), start=done):
        writer(out, number * task.chunk, to_bytes(chunk) if images else chunk.float())
        _note(out, settings, number + 1)
    if form != "png":
        _join(out, form, images)
    return out


def _begin(out: Path, settings: dict[str, Any]) -> int:
    """The chunks that are there already. Raises ConfigError if the directory holds something else."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is no directory", "choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    if all(path.name.startswith(f".{MANIFEST}.") for path in out.iterdir()):  # at most what a killed process left
        _note(out, settings, 0)  # whose the first chunk is, while it is written
        return 0
    try:
        found = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        done = int(found.pop("chunks"))
    except (OSError, ValueError, KeyError, AttributeError):
        raise ConfigError(f"{out} is not empty, and holds no samples of genbench", "choose another --out") from None
    if found != settings:
        raise ConfigError(f"{out} holds other samples", "choose another --out")
    return done


def _note(out: Path, settings: dict[str, Any], chunks: int) -> None:
    write_text(out / MANIFEST, json.dumps(settings | {"chunks": chunks}, indent=2) + "\n")


def _write_pngs(out: Path, first: int, images: torch.Tensor) -> None:
    for number, image in enumerate(images, start=first):
        Image.fromarray(_as_picture(image.numpy())).save(out / f"{number:06d}.png", compress_level=1)


def _as_picture(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[C, H, W] → [H, W, 3], or [H, W] where there is one channel."""
    return image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))


def _write_part(out: Path, first: int, samples: torch.Tensor) -> None:
    (out / PARTS).mkdir(exist_ok=True)
    np.save(out / PARTS / f"{first:09d}.npy", samples.numpy())


def _join(out: Path, form: Format, images: bool) -> None:
    path, parts = out / f"samples.{form}", sorted((out / PARTS).glob("*.npy"))
    if parts and not path.exists():  # of parts that were joined, some may be gone already
        whole = np.concatenate([np.load(part) for part in parts])
        arrays: Any = {"images": whole.transpose(0, 2, 3, 1)} if images else {"points": whole}
        with replacing(path) as file:
            torch.save(torch.from_numpy(whole), file) if form == "pt" else np.savez(file, **arrays)
    shutil.rmtree(out / PARTS, ignore_errors=True)
