"""What sweeps of thousands of jobs cost: their files, starting them, and reading what they left.

    python -m benchmarks.scale [--runs 500,1000,2000] [--shape seeds]

Two tiny runs are trained, a game of two players and a VAE. Their directories are then repeated with other seeds and
settings, each named, hashed and described as a run of its own; what no report reads (checkpoints, event files) and
pictures are links to one file. `genbench-report` reads them in a process of its own, and a sweep that asks for the
runs of the game finds all of them done.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.console import Console

from benchmarks.common import WIDTH, print_table
from genbench import identity
from genbench.compose import composer, configuration, experiment
from genbench.config import to_dict
from genbench.engine.rundir import RunDirectory
from genbench.run import run_directory

GAME = ("experiment=dirac-jsd-1", "trainer.max_steps=20")
VAE = (
    "experiment=vae-mnist5k",
    "trainer.epochs=null",
    "trainer.max_steps=20",
    "trainer.evaluate_every=10",
    "model.width=16",
    "model.depth=1",
    "model.latent_dim=2",
    "task.importance_samples=2",
)
SHAPES = ("seeds", "settings", "mixed")
WRITTEN = ("config.yaml", "summary.json", "status.json", "metrics.jsonl")
"""Files that each run has of its own."""


@dataclass(frozen=True)
class Cost:
    """Of a process that has ended."""

    seconds: float
    cpu_seconds: float
    memory: float
    """The most that it held at a time, in MiB."""

    printed: str

    @property
    def columns(self) -> tuple[str, str, str]:
        return f"{self.seconds:.1f}", f"{self.cpu_seconds:.1f}", f"{self.memory:,.0f}"


@dataclass(frozen=True)
class Size:
    """Of one run directory."""

    files: int
    inodes: int
    bytes: int


def size(run: Path) -> Size:
    paths = [run, *run.rglob("*")]
    files = [path for path in paths if path.is_file()]
    return Size(len(files), len(paths), sum(path.stat().st_size for path in files))


# A process begins with the memory of the one that started it as the most that it ever had: this one is small.
STARTER = """
import json, resource, subprocess, sys, time
begin = time.monotonic()
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([time.monotonic() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss], file)
sys.exit(code)
"""


def cost(words: Sequence[str], directory: Path) -> Cost:
    """Of `python …` in a directory. Raises CalledProcessError if it fails."""
    with tempfile.NamedTemporaryFile("r") as measured:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        command = [sys.executable, "-c", STARTER, measured.name, sys.executable, *words]
        done = subprocess.run(
            command,
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            check=True,
        )
        seconds, cpu_seconds, memory = json.load(measured)
    return Cost(seconds, cpu_seconds, memory / (2**20 if sys.platform == "darwin" else 2**10), done.stdout)


def train(words: Sequence[str], directory: Path) -> Path:
    """A real run, and where it is."""
    cost(["-m", "genbench.train", *words], directory)
    (run,) = (directory / "outputs").glob(f"{words[0].partition('=')[2]}/*/")
    return run


def repeat(template: Path, words: Sequence[str], outputs: Path) -> Path:
    """The directory of the run that `words` compose, with what `template` measured."""
    config = configuration(*words, f"output_root={outputs}")
    run = RunDirectory(run_directory(config))
    shutil.copytree(template, run.path, copy_function=_copy)
    changes = identity.changes(config, experiment(config.name))
    written = {
        "seed": config.seed,
        "title": identity.title(config, changes),
        "changes": changes,
        "settings": identity.settings(config),
        "command": " ".join(["genbench", *words]),
    }
    run.write_config(to_dict(config))
    run.write_summary(run.read_summary() | written)
    return run.path


def _copy(source: str, target: str) -> None:
    if Path(source).name in WRITTEN:
        shutil.copyfile(source, target)
    else:
        os.link(source, target)


def jobs(shape: str) -> Iterator[tuple[str, ...]]:
    """Overrides of endlessly many runs: of the game under other seeds, with ten seeds of each learning rate, or as
    many of the VAE, whose every run has a setting of its own."""
    for number in range(10**9):
        game = (*GAME, f"seed={number + 2}")
        if shape == "seeds":
            yield game
        elif shape == "settings":
            yield *GAME, f"seed={number % 10 + 2}", f"optimizer.lr={0.1 + 0.0001 * (number // 10):g}"
        else:
            yield game if number % 2 else (*VAE, f"optimizer.lr={0.001 + 0.000001 * (number // 2):g}", "seed=2")


def build(templates: Mapping[str, Path], asked: Iterator[tuple[str, ...]], count: int, outputs: Path) -> None:
    """`count` more runs."""
    with composer():
        for job in islice(asked, count):
            repeat(templates[job[0]], job, outputs)


def reading(root: Path, templates: Mapping[str, Path], shape: str, counts: Sequence[int]) -> Iterator[Sequence[str]]:
    """Rows of what a report of more and more runs costs."""
    asked, there = jobs(shape), 0
    for count in counts:
        build(templates, asked, count - there, root / shape)
        there = count
        target = root / f"report-{shape}"
        used = cost(["-m", "genbench.commands.report", shape, "--out", target.name], root)
        written, page = size(target), (target / "index.html").stat().st_size
        figures = (written.bytes / 2**20, page / 2**20)
        yield f"{shape}, {count:,} runs", *used.columns, f"{written.files:,}", *(f"{each:,.1f}" for each in figures)


def skipping(root: Path, counts: Sequence[int]) -> Iterator[Sequence[str]]:
    """Rows of what a sweep costs whose jobs are all done: to compose, check and find them, and its table."""
    for count in counts:
        words = ["-m", *GAME, f"seed=range(2,{count + 2})", "output_root=seeds"]
        used = cost(["-m", "genbench.train", *words], root)
        if f"{count} of {count} jobs done" not in used.printed:
            raise RuntimeError(used.printed)
        yield f"{count:,} jobs", *used.columns


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="500,1000,2000", help="how many (default: %(default)s)")
    parser.add_argument("--shapes", nargs="*", default=SHAPES, choices=SHAPES, help="of the sweeps (default: all)")
    options = parser.parse_args(words)
    counts = sorted(map(int, options.runs.split(",")))
    console = Console(width=WIDTH)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        templates = {words[0]: train(words, root) for words in (GAME, VAE)}
        sizes = [(run.parent.name, size(run)) for run in templates.values()]
        rows: list[Sequence[str]] = [
            (run, f"{found.files}", f"{found.inodes}", f"{found.bytes:,}") for run, found in sizes
        ]
        print_table(console, "one run directory", ("", "files", "inodes", "bytes"), rows)
        columns = ("", "seconds", "CPU seconds", "memory, MiB")
        for shape in options.shapes:
            rows = list(reading(root, templates, shape, counts))
            print_table(console, "genbench-report", (*columns, "files", "MiB", "page, MiB"), rows)
        if "seeds" in options.shapes:
            print_table(console, "a sweep that is done already", columns, list(skipping(root, counts)))


if __name__ == "__main__":
    main()
