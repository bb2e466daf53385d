"""`genbench-evaluate`: finished runs measured again under another protocol, without training.

genbench-evaluate outputs/vae-binmnist-L100/*seed=1-… task.importance_samples=5000
genbench-evaluate outputs/cifar10-jsd-2/*seed=1-… task.final_samples=50000 task.fid_split=test --seeds 1,2,3
genbench-evaluate --images DIR --against cifar10:train       images from anywhere: a folder of PNG files, or an .npz

What was measured is a file in the run's `evaluations/`, and stands in reports beside the run's own values.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.table import Column, Table

from genbench.config import LARGEST_SEED
from genbench.errors import ConfigError
from genbench.evaluate import evaluate
from genbench.foreign_images import score
from genbench.loaded import LoadedRun
from genbench.numerals import number
from genbench.output import command
from genbench.terminal import console

__all__ = ["main"]

OF_IMAGES = ("against", "reference", "networks", "name", "out")
"""Options that runs have no use for."""


def main(arguments: list[str] | None = None) -> None:
    """Command line of `genbench-evaluate`."""
    parser = argparse.ArgumentParser(
        "genbench-evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="RUN… [KEY=VALUE…]", help="run directories, and what is changed")
    parser.add_argument("--seeds", type=_seeds, default=(), help="of the evaluation's random numbers, such as 1,2,3")
    parser.add_argument("--images", type=Path, help="a folder of PNG files, or an .npz of bytes [N, H, W, C]")
    parser.add_argument("--against", help="the data set and its split, such as cifar10:train")
    parser.add_argument("--reference", type=int, help="how many real images (default: all of the split)")
    parser.add_argument("--networks", help="further feature networks: dinov2-vit-b-14,clip-vit-b-32, …")
    parser.add_argument("--name", help="what the images are called in reports (default: as the folder)")
    parser.add_argument("--out", type=Path, help="for images: the root of their directory (default: outputs)")
    options = parser.parse_args(arguments)
    with command("genbench-evaluate"):
        if options.images is not None:
            _images(options)
        else:
            _runs(options)


def _seeds(word: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in word.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError("whole numbers with commas between them") from None
    if len(set(found)) < len(found) or not all(0 <= seed <= LARGEST_SEED for seed in found):
        raise argparse.ArgumentTypeError(f"different numbers, 0 to {LARGEST_SEED}")
    return found


def _runs(options: argparse.Namespace) -> None:
    given = [f"--{name}" for name in OF_IMAGES if getattr(options, name) is not None]
    if given:
        raise ConfigError(
            f"{', '.join(given)}: for --images alone", "for runs, give KEY=VALUE, such as task.fid_split=test"
        )
    # A run directory's name has an equals sign in it, too, but is there.
    paths = [Path(word) for word in options.words if "=" not in word or Path(word).exists()]
    words = [word for word in options.words if Path(word) not in paths]
    if not paths:
        raise ConfigError("no run is named", "name run directories, such as outputs/vae-mnist5k/*")
    runs = [LoadedRun(path).done() for path in paths]  # all of them, before the first is measured
    for run in runs:
        path = evaluate(run, words, options.seeds)
        _show(run, json.loads(path.read_text(encoding="utf-8")))
        print(path)


def _show(run: LoadedRun, found: dict[str, object]) -> None:
    numbers = (Column(title, justify="right", no_wrap=True) for title in ("then", "now", "s.e."))
    table = Table(
        Column("metric", no_wrap=True),
        *numbers,
        Column("changed", overflow="fold"),
        box=None,
        title=str(run.summary["title"]),
    )
    usual = {key: value for entry in run.metrics.values() for key, value in entry.get("protocol", {}).items()}
    metrics = found["metrics"]
    assert isinstance(metrics, dict)
    for name, entry in metrics.items():
        own = run.metrics.get(name, {})
        before = own.get("protocol", usual)  # what was not measured before does not repeat what holds of all
        differs = [f"{key} {value}" for key, value in entry["protocol"].items() if before.get(key) != value]
        values = (number(source.get("final", {}).get("value"), digits=6) for source in (own, entry))
        table.add_row(name, *values, number(entry.get("standard_error")), ", ".join(differs))
    console().print(table)


def _images(options: argparse.Namespace) -> None:
    if options.words or options.seeds:
        raise ConfigError("--images stands alone", "leave out runs, overrides and --seeds")
    if not options.against or ":" not in options.against:
        raise ConfigError("--against names a data set and its split", "such as --against cifar10:train")
    name, _, split = options.against.partition(":")
    networks = [word for word in (options.networks or "").split(",") if word]
    out = options.out or Path("outputs")
    print(score(options.images, name, split, out, options.name, options.reference, networks))


if __name__ == "__main__":
    main()
