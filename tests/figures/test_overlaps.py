"""In no picture does a text or a legend lie on data or on another text, or leave the picture, which fits a page."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.path import Path as Outline
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from genbench import figures
from genbench.engine.task import STAGE_TITLES
from genbench.figures import (
    classes,
    curves,
    dirac,
    divergences,
    flows,
    grids,
    plane,
    posteriors,
    receptive,
    study,
    walks,
)
from genbench.figures.curves import Band

# --- what a picture shows, in pixels ----------------------------------------------------------------------

SLACK = 2.0  # pixels of a text's box without ink, at each side
STEP = 4.0  # pixels between the points of a line or a surface


@dataclass
class Drawn:
    """Texts and legends with their outlines, and points [N, 2] of everything that stands for data."""

    words: list[tuple[str, Outline]] = field(default_factory=list)
    data: list[tuple[str, np.ndarray]] = field(default_factory=list)


def outline(text: Text, renderer: Any) -> Outline:
    """The box around a text, rotated as the text is: around its centre, which rotation leaves where it is."""
    box = Text.get_window_extent(text, renderer)  # an annotation's own would contain its leader
    angle = text.get_rotation()
    text.set_rotation(0)
    upright = Text.get_window_extent(text, renderer)
    text.set_rotation(angle)
    across, up = max(upright.width / 2 - SLACK, 1), max(upright.height / 2 - SLACK, 1)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    corners = np.array([(-across, -up), (across, -up), (across, up), (-across, up)]) @ [(cos, sin), (-sin, cos)]
    middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    return Outline(np.concatenate([corners, corners[:1]]) + middle, closed=True)


def dense(vertices: np.ndarray) -> np.ndarray:
    """Points along a line [N, 2], at most STEP pixels apart; it ends where it is not finite."""
    finite = np.isfinite(vertices).all(axis=1)
    parts = [vertices[finite]]
    for start, end, whole in zip(vertices, vertices[1:], finite[1:] & finite[:-1], strict=False):
        if whole:
            shares = np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / STEP))[:, None]
            parts.append((1 - shares) * start + shares * end)
    return np.concatenate(parts)


def surface(box: Bbox) -> np.ndarray:
    sides = ((box.x0, box.x1), (box.y0, box.y1))
    x, y = (np.linspace(low, high, 2 + int(abs(high - low) / STEP)) for low, high in sides)
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def of_line(line: Line2D, dpi: float) -> np.ndarray:
    vertices = line.get_transform().transform(line.get_xydata())
    points = [dense(vertices)] if line.get_linestyle() not in ("None", "none", "") else []
    if line.get_marker() not in ("None", "none", "", None):
        radius = line.get_markersize() / 2 * dpi / 72
        angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
        ring = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        marks = vertices[np.isfinite(vertices).all(axis=1)]
        points += [marks, (marks[:, None] + ring).reshape(-1, 2)]
    return np.concatenate(points) if points else np.empty((0, 2))


def of_collection(collection: Collection, axes: Axes) -> np.ndarray:
    if isinstance(collection, Poly3DCollection):
        return np.empty((0, 2))  # a plane through the picture
    if isinstance(collection, QuadMesh):
        return surface(axes.bbox)  # a colour bar
    if isinstance(collection, PathCollection):
        return np.asarray(collection.get_offset_transform().transform(np.ma.filled(collection.get_offsets(), np.nan)))
    assert isinstance(collection, (LineCollection, PolyCollection, ContourSet)), type(collection)
    transform = collection.get_transform()
    lines = [dense(transform.transform(path.vertices)) for path in collection.get_paths() if len(path.vertices)]
    return np.concatenate([np.empty((0, 2)), *lines])


def of_axes(axes: Axes, dpi: float) -> Iterator[tuple[str, np.ndarray]]:
    for line in axes.lines:
        yield f"line {line.get_label()}", of_line(line, dpi)
    for collection in axes.collections:
        yield type(collection).__name__, of_collection(collection, axes)
    for patch in axes.patches:
        yield "bar", surface(patch.get_window_extent())
    if axes.images:
        yield "image", surface(axes.bbox)


def look(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> Drawn:
    seen = Drawn()
    write, explain = Text.draw, Legend.draw
    within: list[Legend] = []

    def draw_text(text: Text, renderer: Any) -> None:
        write(text, renderer)
        if text.get_visible() and text.get_text().strip() and not within:
            seen.words.append((text.get_text(), outline(text, renderer)))

    def draw_legend(legend: Legend, renderer: Any) -> None:
        within.append(legend)
        explain(legend, renderer)
        within.pop()
        box = legend.get_window_extent(renderer).padded(-SLACK)
        seen.words.append(("legend", Outline(box.corners()[[0, 1, 3, 2, 0]], closed=True)))

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", draw_text)
        patch.setattr(Legend, "draw", draw_legend)
        figure.canvas.draw()
    for axes in figure.axes:
        left, bottom, right, top = axes.bbox.padded(1).extents
        for name, points in of_axes(axes, figure.dpi):
            x, y = points.T
            inside = (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
            seen.data.append((name, points[inside]))
    return seen


def assert_clear(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = look(figure, monkeypatch)
    assert seen.words and any(len(points) for _, points in seen.data)
    page = figure.bbox
    for name, words in seen.words:
        box = words.get_extents()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1, f"{name!r} leaves the picture"
        for what, points in seen.data:
            assert not words.contains_points(points).any(), f"{name!r} lies on {what}"
    for (first, a), (second, b) in combinations(seen.words, 2):
        assert not a.intersects_path(b), f"{first!r} lies on {second!r}"


# --- every picture, and hard cases ------------------------------------------------------------------------

Case = Callable[[], Figure]

TITLE = "experiment-of-some-length max_steps=2000, seed=1"
STEPS = np.arange(0.0, 20_001.0, 1000.0)
RANDOM = np.random.default_rng(0)


def band(label: str, start: float, end: float, spread: float | None = None) -> Band:
    mean = end + (start - end) * np.exp(-STEPS / 4000)
    return Band(label, STEPS, mean, *(() if spread is None else (mean - spread, mean + spread)))


def images(*shape: int) -> np.ndarray:
    return RANDOM.random(shape)


def normal(extent: float = 5.0, cells: int = 60) -> np.ndarray:
    x, y = np.meshgrid(*2 * [np.linspace(-extent, extent, cells)])
    return np.exp(-0.5 * (x**2 + y**2)) / (2 * np.pi)


def turns(decay: float = 0.99, steps: int = 400) -> np.ndarray:
    t = np.arange(steps)
    return decay ** t[:, None] * np.stack([np.cos(0.1 * t), np.full(steps, 0.3), np.sin(0.1 * t)], axis=1)


def last_frame(animate: Callable[[Path], None], module: ModuleType) -> Figure:
    """The picture that an animation ends with, without the file."""
    ended: list[Figure] = []

    def write(path: Path, figure: Figure, frames: Iterator[float], dpi: float) -> None:
        figure.set_dpi(dpi)
        assert all(seconds > 0 for seconds in frames)
        ended.append(figure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "write_gif", write)
        animate(Path("unused.gif"))
    (figure,) = ended
    return figure


def history(count: int, objective: str = "distance to the equilibrium") -> Figure:
    chosen = {
        "optimizer.lr": list(10 ** RANDOM.uniform(-4, -1, count)),
        "loss": [["squared_hellinger", "relativistic", "w1"][k % 3] for k in range(count)],
        "regularizer": [["none", "r1"][k % 2] for k in range(count)],
        "model.width": [8 * (1 + k % 8) for k in range(count)],
    }
    return study.study_history(np.arange(count), RANDOM.random(count), False, objective, chosen, {"optimizer.lr"})


def collapse(bounds: dict[str, tuple[float, float]], epochs: int = 12, latents: int = 49) -> Figure:
    kl = [(float(epoch), 20.0 / epoch) for epoch in range(1, epochs + 1)]
    active = [(float(epoch), latents) for epoch in range(1, epochs + 1)]
    return posteriors.collapse_panel(kl, active, latents, bounds, TITLE)


def bounds(first: float, last: float, gap: float) -> dict[str, tuple[float, float]]:
    return {"half way": (first - gap, first), "after training": (last - gap, last)}


THETA = np.linspace(0, 2, 9)
FIELD = np.arange(28) + 28 * np.arange(28)[:, None] < 14 * 28 + 14

LINE, POINT = (-np.inf, np.inf), (0.0, 0.0)

CASES: dict[str, list[Case]] = {
    "classes.class_bars": [
        lambda: classes.class_bars([0.1] * 10 + [0.0], [0.1] * 10 + [0.0], TITLE),
        lambda: classes.class_bars([0.005] * 201, [0.005] * 201, TITLE),
        lambda: classes.class_bars([0.0] * 10 + [1.0], [0.1] * 10 + [0.0], f"{TITLE}: classes of generated images"),
    ],
    "curves.overlaid_curves": [
        lambda: curves.overlaid_curves([band("valid/elbo", -500, -100, 2)], "ELBO (nats)", [("truth", -99.0)], TITLE),
        lambda: curves.overlaid_curves([band(f"run {k}", -500, -100 - k) for k in range(6)], "ELBO (nats)"),
        lambda: curves.overlaid_curves(
            [Band("valid/elbo", np.array([400.0]), np.array([-100.0]))], "ELBO", (), TITLE
        ),
        lambda: curves.overlaid_curves([band("an experiment with a long name", -1e5, -9e4)], "ELBO (nats)"),
        lambda: curves.overlaid_curves(
            [
                band(f"critic_steps=1, lr=0.0002, coefficient={k}.0, task.updates=simultaneous", -500, -100 - k)
                for k in range(6)
            ],
            "ELBO (nats)",
            [("someone and others, a network of theirs, a bound, binarization not stated", -87.41)],
        ),
    ],
    "curves.stacked_curves": [
        lambda: curves.stacked_curves(
            [
                ("divergence and distance to the equilibrium", [band("train/w1", 1, 1e-5), band("valid", 2, 1)], []),
                ("critic slope ψ0 and generator θ", [band("state/psi0", 0.5, 0), band("state/theta", -1, 0)], []),
                ("KL divergence (nats)", [band("train/kl", 1, 1e-9)], [("published by someone", 0.1)]),
            ],
            TITLE,
        ),
        lambda: curves.stacked_curves([("NLL (nats)", [band("valid/nll", 4, 2.5)], [("truth", 2.45)])] * 5, TITLE),
        lambda: curves.stacked_curves(
            [
                (
                    "evidence lower bound (nats)",
                    [band("train/elbo", -120, -91), band("test/elbo", -94, -93), band("valid/elbo", -130, -94)],
                    [("someone and others, a network of theirs, a bound, binarization not stated", -87.41)],
                )
            ],
            TITLE,
        ),
    ],
    "curves.two_scales": [
        lambda: curves.two_scales(band("JSD, estimated by the critic", 0.6, 0.2), band("FID", 300, 30), TITLE),
        lambda: curves.two_scales(band("W1", 1e5, 1e4), band("FID", 300.001, 300), TITLE),
    ],
    "dirac.animate": [
        lambda: last_frame(lambda path: dirac.animate(turns(), path, "W1", "dirac", LINE, True, 9), dirac),
    ],
    "dirac.pairs_page": [
        lambda: dirac.pairs_page(
            [
                dirac.Pair("JSD, no regularizer", 100 * turns(1.0), turns(), "JSD", POINT, 0.9),
                dirac.Pair(
                    "W1, R1 0.01, seed=2, optimizer.lr=0.001, critic_optimizer.lr=0.002, task.critic_steps=3",
                    turns(),
                    1e-3 * turns(),
                    "W1",
                    LINE,
                    0.998,
                ),
            ],
            "Dirac-GAN",
        )
    ],
    "dirac.trajectory": [
        lambda: dirac.trajectory(turns(), "JSD", TITLE, POINT, True),
        lambda: dirac.trajectory(turns(1.0), "W1", TITLE, LINE, False),
        lambda: dirac.trajectory(1e-3 * turns(), "W1", TITLE, LINE, True),
    ],
    "divergences.divergence_curve": [
        lambda: divergences.divergence_curve(THETA, [THETA, THETA + 0.2], THETA, 0.0, "W1", TITLE),
        lambda: divergences.divergence_curve(THETA, [[np.nan] * 9], [2.0] * 9, 2.0, "squared Hellinger", TITLE),
        lambda: divergences.divergence_curve(THETA, [[np.nan, *THETA[1:]], THETA], THETA, 0.0, "W1"),
    ],
    "flows.animate_flow": [
        lambda: last_frame(
            lambda path: flows.animate_flow(path, 3 * RANDOM.normal(size=(3, 900, 2)), normal(), 5.0, "flow-arcs-k2"),
            flows,
        )
    ],
    "flows.planar_maps": [
        lambda: flows.planar_maps(
            RANDOM.normal(size=(4, 9, 300, 2)),
            [f"w ~ N({k}, 0.1)" for k in range(4)],
            [f"u ~ N({k}, 0.5)" for k in range(9)],
            TITLE,
        ),
        lambda: flows.planar_maps(60 * RANDOM.normal(size=(1, 2, 300, 2)), ["w"], ["a", "b"]),
        lambda: flows.planar_maps(
            RANDOM.normal(size=(1, 9, 50, 2)), ["w ~ N(0, 0.1 I), b = 0"], ["u ~ N(5, 0.1)"] * 9, TITLE
        ),
    ],
    "grids.image_grid": [lambda: grids.image_grid(images(25, 1, 28, 28), 5, 5, f"{TITLE}, after training")],
    "grids.labelled_rows": [
        lambda: grids.labelled_rows(images(4, 10, 3, 32, 32), ["T = 0.85"] * 4, TITLE),
        lambda: grids.labelled_rows(images(5, 10, 1, 28, 28), [f"temperature {k}" for k in range(5)]),
    ],
    "grids.latent_manifold": [
        lambda: grids.latent_manifold(images(25, 1, 28, 28), 5, TITLE),
        lambda: grids.latent_manifold(images(400, 1, 28, 28), 20, TITLE),
    ],
    "grids.reconstructions": [lambda: grids.reconstructions(images(20, 1, 28, 28), images(20, 1, 28, 28), TITLE)],
    "grids.stages": [lambda: grids.stages(dict.fromkeys(STAGE_TITLES.values(), images(25, 1, 8, 8)), TITLE)],
    "grids.traversals": [
        lambda: grids.traversals(
            images(72, 1, 28, 28), ["z100 (var 0.00012)"] * 8, np.linspace(-3, 3, 9).tolist(), TITLE
        )
    ],
    "plane.density_pair": [
        lambda: plane.density_pair(normal(), normal(), 5.0, TITLE),
        lambda: plane.density_pair(normal() / 1e3, normal() / 1e4, 100.0, TITLE),
    ],
    "plane.density_panel": [
        lambda: plane.density_panel([normal()] * 8, ["arcs-samples-k32: 2.301"] * 8, 4, 5.0, TITLE),
        lambda: plane.density_panel([normal()] * 5, ["arcs, target"] * 5, 3, 100.0),
        lambda: plane.density_panel([normal()], ["target"], 4, 5.0),
    ],
    "plane.samples_over_contours": [
        lambda: plane.samples_over_contours(4 * RANDOM.normal(size=(50_000, 2)), normal(), 5.0, TITLE),
        lambda: plane.samples_over_contours(20 * RANDOM.normal(size=(50_000, 2)), normal(), 5.0),
    ],
    "posteriors.collapse_panel": [
        lambda: collapse(bounds(-101, -97, 0.9)),
        lambda: collapse(bounds(-97, -101, 4.0)),
        lambda: collapse(bounds(-100, -100, 0.0), epochs=1, latents=2),
        lambda: collapse(bounds(-100, -100.1, 0.1) | {"later": (-100.0, -100.05)}),  # below its bound, by chance
        lambda: collapse({}, epochs=200),
    ],
    "posteriors.latent_bars": [
        lambda: posteriors.latent_bars(np.ones(20), np.ones(20), 0.01, TITLE),
        lambda: posteriors.latent_bars(np.ones(2), None, 0.01, TITLE),
        lambda: posteriors.latent_bars(np.logspace(0, -7, 100), np.linspace(3, 0, 100), 0.01, TITLE),
    ],
    "receptive.receptive_field": [
        lambda: receptive.receptive_field(FIELD, 14, 14, TITLE),
        lambda: receptive.receptive_field(np.zeros((4, 7)), 0, 6, TITLE),
    ],
    "study.study_history": [lambda: history(30), lambda: history(1)],
    "walks.interpolations": [
        lambda: walks.interpolations(images(3, 11, 3, 32, 32), images(3, 11, 3, 32, 32), np.linspace(0, 1, 11), TITLE)
    ],
    "walks.latent_walk": [
        lambda: walks.latent_walk(images(9, 1, 28, 28), TITLE, ("an automobile", "an airplane")),
        lambda: walks.latent_walk(images(9, 3, 32, 32)),
    ],
    "walks.perturbations": [
        lambda: walks.perturbations(images(10, 5, 3, 32, 32), [0.01] * 10, [128] * 10, [-4, -2, 0, 2, 4], TITLE),
        lambda: walks.perturbations(images(20, 5, 1, 28, 28), [0.0123] * 20, [1] * 20, [-3, -1.5, 0, 1.5, 3]),
    ],
}


def drawing() -> Iterator[str]:
    """Every public function of the package that returns a picture or writes an animation."""
    for module in pkgutil.iter_modules(figures.__path__):
        found = importlib.import_module(f"{figures.__name__}.{module.name}")
        for name in found.__all__:
            function = getattr(found, name)
            if inspect.isfunction(function) and function.__module__ == found.__name__:
                signature = inspect.signature(function)
                if signature.return_annotation == "Figure" or "path" in signature.parameters:
                    yield f"{module.name}.{name}"


def test_every_picture_has_a_case() -> None:
    blank = {"style.new_figure", "animation.write_gif"}  # without content of their own
    assert sorted(set(drawing()) - blank) == sorted(CASES)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{name}-{k}") for name in CASES for k, case in enumerate(CASES[name])]
)
def test_nothing_lies_on_data_or_on_words(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = case()
    assert_clear(figure, monkeypatch)
    assert figure.bbox.width <= 2200
    assert pyplot.get_fignums() == []


# --- and the look at pictures sees what it is there to see ------------------------------------------------


def faulty(fault: str) -> Figure:
    figure = curves.two_scales(band("a", 0, 1), band("b", 0, 1), TITLE)
    axes = figure.axes[0]
    if fault == "legend":
        axes.legend(["a"], loc="upper right")
    elif fault == "words on a point":
        axes.plot([5000], [0.6], "o")
        axes.text(5000, 0.6, "here")
    elif fault == "words on words":
        axes.set_xlabel("training step", labelpad=-10)
    elif fault == "slanting words":
        axes.text(19_000, 0.45, "aslant", rotation=45)
        axes.text(19_000, 0.45, "across", rotation=-45)
    elif fault == "outside":
        figure.text(0.97, 0.02, "to the right")
    return figure


@pytest.mark.parametrize("fault", ["legend", "words on a point", "words on words", "slanting words", "outside"])
def test_faults_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match=r"lies on|leaves the picture"):
        assert_clear(faulty(fault), monkeypatch)
    assert_clear(faulty(""), monkeypatch)
