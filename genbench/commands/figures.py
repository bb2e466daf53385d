"""`genbench-figures`: pictures of finished runs, from their checkpoints, without training.

genbench-figures redraw outputs/vae-mnist5k/*seed=1-…        every final picture again
genbench-figures animate outputs/dirac-w1-3/*seed=1-…        a Dirac-GAN's trajectory, or samples on their way through
                                                             a planar flow, as a GIF
genbench-figures sample outputs/pixelcnn-mnist5k/*seed=1-…   new samples in one picture; with --format png, npz or pt
                                                             as files for other tools, any number of them
genbench-figures sweep outputs/divergence-w1                 runs together, as at the end of a sweep
genbench-figures sweep outputs/dirac-*                       Dirac-GANs without and with averaging, in pairs
genbench-figures planar-maps                                 what single planar maps do to a normal distribution
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from matplotlib.backend_bases import FigureCanvasBase
from rich.progress import Progress

from genbench import sweeps
from genbench.arguments import whole_number
from genbench.atomic import replacing
from genbench.bijections.planar import Planar
from genbench.config import LARGEST_SEED
from genbench.engine.task import Animates, Samples
from genbench.errors import ConfigError, Unsupported
from genbench.export import FORMATS, export
from genbench.figures.flows import planar_maps
from genbench.figures.grids import image_grid
from genbench.loaded import LoadedRun
from genbench.output import command
from genbench.run import draw_curves, make_logbook
from genbench.tasks.plane import PlaneTask
from genbench.terminal import console

__all__ = ["main"]

# Means and variances of the planar maps of report 000, Q3.2.
MAPS_OF_W = ((0.0, 0.1), (0.0, 0.5), (0.0, 1.0), (5.0, 0.1))
MEANS_OF_U, VARIANCES_OF_U = (0.0, 2.0, 5.0), (0.1, 0.5, 1.0)
MAP_SAMPLES = 10_000
PICTURES = ("png", "pdf", "svg")
SEED = whole_number(0, LARGEST_SEED)


def main(arguments: list[str] | None = None) -> None:
    """Command line of `genbench-figures`."""
    parser = argparse.ArgumentParser(
        "genbench-figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    redraw = commands.add_parser("redraw", help="draw every final picture of a run again")
    redraw.add_argument("run", type=Path, help="a run directory")
    redraw.add_argument("--format", choices=PICTURES, default="png", help="of the files (default: %(default)s)")
    redraw.set_defaults(action=_redraw)
    gif = "write a Dirac-GAN's trajectory, or samples on their way through a flow, as a GIF"
    animate = commands.add_parser("animate", help=gif)
    animate.add_argument("run", type=Path, help="a run directory")
    animate.set_defaults(action=_animate)
    sample = commands.add_parser("sample", help="draw new samples from a finished run")
    sample.add_argument("run", type=Path, help="a run directory, or a packed model")
    sample.add_argument("--count", type=whole_number(1), default=100, help="how many (default: %(default)s)")
    sample.add_argument("--seed", type=SEED, help="random seed (default: 1; of files that of the run's scores)")
    sample.add_argument("--label", type=int, help="of one class, if the model is class-conditional")
    sample.add_argument(
        "--format", choices=(*FORMATS, *PICTURES[1:]), help="samples as files, or the picture's format"
    )
    sample.add_argument("--out", type=Path, help="the picture, or the directory of the files (default: in the run)")
    sample.set_defaults(action=_sample)
    sweep = commands.add_parser("sweep", help="draw finished runs together")
    sweep.add_argument("experiments", type=Path, nargs="+", help="directories of experiments")
    sweep.set_defaults(action=_sweep)
    maps = commands.add_parser("planar-maps", help="what single random planar maps do to a normal distribution")
    maps.add_argument("--out", type=Path, default=Path("planar-maps.png"), help="the picture (default: %(default)s)")
    maps.add_argument("--seed", type=SEED, default=1, help="random seed of maps and samples (default: %(default)s)")
    maps.set_defaults(action=_planar_maps)
    options = parser.parse_args(arguments)
    with command("genbench-figures"):
        options.action(options)


def _redraw(options: argparse.Namespace) -> None:
    run = LoadedRun(options.run).done()
    task = run.task()
    logbook = make_logbook(run.checked(), run.directory, task)
    logbook.title = run.title
    logbook.read()
    logbook.measurements = run.measurements()
    for name, figure in task.figures("end", logbook).items():
        print(logbook.save_figure(name, figure, "end", options.format))
    if path := draw_curves(task, logbook, options.format):
        print(path)


def _animate(options: argparse.Namespace) -> None:
    run = LoadedRun(options.run)
    task, name = run.task(), run.config["name"]
    if not isinstance(task, Animates):
        raise Unsupported(f"{name} has no animation\n  choose a Dirac-GAN or a planar flow")
    run.directory.figures.mkdir(exist_ok=True)
    path = run.directory.figures / "trajectory.gif"
    task.animate(path, name)
    print(path)


def _sample(options: argparse.Namespace) -> None:
    run = LoadedRun(options.run)
    name = run.config["name"]
    task: Any = run.task(with_data=False)
    if not isinstance(task, Samples):
        raise Unsupported(f"{name} draws no samples\n  choose a model of images, or a flow")
    of_class = "" if options.label is None else f"-class{options.label}"
    if options.format in FORMATS:
        run.done()
        out = options.out or run.directory.samples / f"{options.count}{of_class}-{options.format}"
        with _progress() as told:
            print(export(run, task, options.count, options.seed, options.format, out, told, options.label))
        return
    form = _picture_format(options.out, options.format)
    seed = 1 if options.seed is None else options.seed
    with _progress() as told:
        samples = task.sample(options.count, seed, told, options.label)
    path = options.out or run.directory.samples / f"new-seed{seed}{of_class}.{form}"
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = "" if options.label is None else f" of class {options.label}"
    title = f"{name}: {options.count} samples{shown}, seed {seed}"
    columns = math.ceil(math.sqrt(options.count))
    if isinstance(task, PlaneTask):
        figure = task.picture_of(samples, title)
    else:
        figure = image_grid(samples, math.ceil(options.count / columns), columns, title)
    with replacing(path) as file:
        figure.savefig(file, format=form)
    print(path)


@contextmanager
def _progress() -> Iterator[Callable[[float], None]]:
    """A bar that is told which share of the samples is drawn."""
    with Progress(console=console(error=True), transient=True) as bar:
        job = bar.add_task("sampling", total=1.0)
        yield lambda share: bar.update(job, completed=share)


def _picture_format(out: Path | None, asked: str | None = None) -> str:
    """The one that was asked for, or that of the suffix of `out`, or png.

    Raises ConfigError where no picture can be written to `out`: before it is drawn.
    """
    if out and out.is_dir():
        raise ConfigError(f"{out} is a directory", "name a file with --out")
    form = asked or (out.suffix.removeprefix(".").lower() if out else "") or "png"
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if form not in known:
        raise ConfigError(
            f"{out}: no picture can be written as {form!r}", f"choose a suffix from: {', '.join(known)}"
        )
    return form


def _sweep(options: argparse.Namespace) -> None:
    runs = sorted(path for directory in options.experiments for path in directory.glob("*") if path.is_dir())
    found = list(sweeps.draw(runs))
    for path in found:
        if isinstance(path, Path):
            print(path)
    for error in found:
        if isinstance(error, ConfigError):
            raise error
    if not found:
        where = ", ".join(map(str, options.experiments))
        raise ConfigError(f"nothing to draw together in {where}", "name one like outputs/divergence-w1")


def _planar_maps(options: argparse.Namespace) -> None:
    """f(z) = z + û tanh(wᵀz), z ~ N(0, I), for random w and u (report 000, Q3.2)."""
    form = _picture_format(options.out)
    generator = torch.Generator().manual_seed(options.seed)
    spread = list(itertools.product(MEANS_OF_U, VARIANCES_OF_U))
    samples = torch.empty(len(MAPS_OF_W), len(spread), MAP_SAMPLES, 2)
    for row, (mean_w, variance_w) in enumerate(MAPS_OF_W):
        for column, (mean_u, variance_u) in enumerate(spread):
            z, noise = torch.randn(MAP_SAMPLES, 2, generator=generator), torch.randn(2, 2, generator=generator)
            planar = Planar(2)
            with torch.no_grad():
                planar.w.copy_(mean_w + variance_w**0.5 * noise[0])
                planar.u.copy_(mean_u + variance_u**0.5 * noise[1])
                planar.b.zero_()
                samples[row, column] = planar(z)[0]
    rows = [f"w ~ N({mean:g}, {variance:g})" for mean, variance in MAPS_OF_W]
    columns = [f"u ~ N({mean:g}, {variance:g})" for mean, variance in spread]
    title = f"One planar map of N(0, I), w and u drawn with seed {options.seed}"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure = planar_maps(samples, rows, columns, title)
    with replacing(options.out) as file:
        figure.savefig(file, format=form)
    print(options.out)


if __name__ == "__main__":
    main()
