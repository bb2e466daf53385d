"""The pictures of a report: drawn over seeds, and those that runs hold already, scaled to what a page needs."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError

from genbench import registry
from genbench.engine.task import DrawsSweeps
from genbench.errors import ConfigError
from genbench.figures.report import MAX_CURVES, Band, divergence_and_fid, overlaid_curves
from genbench.figures.style import divergence_name
from genbench.report.families import CURVES, Family
from genbench.report.groups import Group, Member
from genbench.report.reading import Problem
from genbench.report.results import Result
from genbench.report.statistics import LEAST, bootstrap_interval

__all__ = ["Gallery", "Picture", "galleries"]

WIDE, HALF, SMALL = 1000, 640, 420
"""Greatest widths in pixels: of a picture by itself, of one of two, of one of many."""

COLOURS = 96


@dataclass(frozen=True)
class Picture:
    """A PNG with what it shows."""

    name: str
    caption: str
    png: bytes = field(repr=False)
    size: tuple[int, int]


@dataclass
class Gallery:
    """Pictures to be looked at side by side."""

    title: str
    note: str
    pictures: list[Picture]
    columns: int = 1


Drawing = Callable[[], "Picture | Gallery | None"]


def galleries(
    family: Family, groups: Sequence[Group], results: Sequence[Result], problems: list[Problem]
) -> Iterator[Gallery]:
    """All of a family's; pictures that cannot be read are named in `problems`."""
    own = [group for group in groups if group.family == family and group.members]
    yield from _curves(family, results)
    if family.key == "gan":
        yield from _divergence_and_fid(results)
    if family.key == "divergence":
        yield from _sweeps(own, problems)
    if family.key == "dirac":
        yield from _pairs(own, problems)
    taken = _Taken(own, problems)
    if family.key == "plane":
        yield from taken.gallery("Flows beside their targets", "", "figures/densities-*-end.png", WIDE, 1)
        note = "learned density beside the target; the lowest seed of each"
        yield from taken.gallery("Single flows beside their targets", note, "figures/density-end.png", HALF, 2)
    elif family.key not in ("dirac", "divergence"):
        note = "the same noise at each stage: before, half way and after training; the lowest seed of each"
        yield from taken.gallery("From the same noise", note, "figures/stages-end.png", HALF, 2)
        note = "after training; a seed draws the same noise for all models with equal latents"
        yield from taken.gallery("Samples side by side", note, "samples/generated-end.png", SMALL, 4)
        yield from taken.gallery("Latent manifolds", "", "figures/manifold-end.png", SMALL, 4)


# Drawn here


def _curves(family: Family, results: Sequence[Result]) -> Iterator[Gallery]:
    pictures: list[Picture] = []
    titles = CURVES | {quantity.metric: quantity.title for quantity in family.quantities}
    for metric in family.curves:
        quantity = titles.get(metric, metric)
        for data, rows in _charts(family, metric, results):
            size = -(-len(rows) // -(-len(rows) // MAX_CURVES))  # equal parts
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                bands = [band for row in part if (band := _band(_label(row), row.members, metric)) is not None]
                if bands:
                    figure = overlaid_curves(bands, quantity, _published(part, metric), data)
                    names = ", ".join(row.experiment for row in part)
                    caption = f"{quantity} over training steps: {names}"
                    pictures.append(_picture(f"{family.key}-{metric}-{len(pictures)}", caption, figure))
    if pictures:
        note = "mean over seeds; the band is the 95 % bootstrap interval from three seeds on"
        yield Gallery("Curves", note, pictures, 2)


def _charts(family: Family, metric: str, results: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
    """(title, rows that may share an axis): one for each protocol."""
    drawn = [row for row in results if row.group and any(metric in member.curves for member in row.members)]
    exact = [row for row in drawn if row.quantity.metric == metric]
    # A metric that no table has is judged as the group's others are, their number of samples aside.
    have = {row.group.key for row in exact if row.group}
    others = {row.group.key: row for row in reversed(drawn) if row.group and row.group.key not in have}
    charts: dict[str, list[Result]] = {}
    for row in [*exact, *others.values()]:
        charts.setdefault(json.dumps(row.protocol, sort_keys=True), []).append(row)
    for rows in charts.values():
        protocol = rows[0].protocol
        title = " ".join(protocol[key] for key in ("dataset", "target") if key in protocol)
        title += f", {protocol['binarization']}" if "binarization" in protocol else ""
        yield title, rows


def _published(rows: Sequence[Result], metric: str) -> list[tuple[str, float]]:
    """(label, value), where they are those of one experiment: of several, no line would say whose it is."""
    told = [row for row in rows if row.quantity.metric == metric and row.comparisons]
    if len({row.experiment for row in told}) != 1:
        return []
    whose = f"{told[0].experiment}, " if len(rows) > 1 else ""
    found = {f"{whose}{c.reference.source}": c.reference.value for row in told for c in row.comparisons}
    return list(found.items())[:2]


def _label(row: Result) -> str:
    """Short enough for a margin."""
    changes = row.group.changes if row.group else {}
    words = ", ".join([row.experiment, *(f"{key.rpartition('.')[2]} {after}" for key, (_, after) in changes.items())])
    return words if len(words) <= 34 else f"{words[:33]}…"


def _band(label: str, members: Sequence[Member], metric: str) -> Band | None:
    """Over the steps that all seeds have logged."""
    curves = [
        {point.step: point.value for point in member.curves[metric]} for member in members if metric in member.curves
    ]
    if not curves:
        return None
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = np.array([[curve[step] for step in steps] for curve in curves], dtype=np.float64)
    if not steps:
        return None
    low, high = bootstrap_interval(values) if len(curves) >= LEAST else (None, None)
    return Band(label, np.array(steps, dtype=np.float64), values.mean(axis=0), low, high)


def _divergence_and_fid(results: Sequence[Result]) -> Iterator[Gallery]:
    pictures: list[Picture] = []
    for row in results:
        if row.quantity.metric != "eval/fid" or row.group is None or not row.members:
            continue
        group, curves = row.group, row.members[0].curves
        names = [name[5:] for name in curves if name.startswith("eval/") and f"train/{name[5:]}" in curves]
        fid = _band("FID", row.members, "eval/fid")
        divergence = _band("divergence", row.members, f"train/{names[0]}") if names else None
        if fid is None or divergence is None or not np.isfinite(fid.mean).any():
            continue
        k = int(np.nanargmin(fid.mean))
        best, final = (float(fid.steps[k]), float(fid.mean[k])), float(fid.mean[-1])
        symbol = divergence_name(names[0])
        figure = divergence_and_fid(divergence, fid, symbol, best, final, _label(row))
        caption = (
            f"{group.title}: {symbol} and FID over generator steps; FID ends {final - best[1]:.2f} above its best"
        )
        pictures.append(_picture(f"{group.experiment}-fid-{len(pictures)}", caption, figure))
    if pictures:
        yield Gallery(
            "Divergence and FID", "the gap from final to best FID is what report 000 calls instability", pictures, 2
        )


def _sweeps(groups: Sequence[Group], problems: list[Problem]) -> Iterator[Gallery]:
    rows: dict[str, list[tuple[dict[str, Any], dict[str, float]]]] = {}
    for group in groups:
        if "…" not in group.theta:
            for member in group.members:
                finals = {name: value for name in member.metrics if (value := member.value(name)) is not None}
                rows.setdefault(f"{group.experiment} {group.changed}".strip(), []).append((member.run.config, finals))
    pictures = []
    for title, found in rows.items():
        task: Any = registry.lookup("task", found[0][0]["task"]["name"])
        try:
            drawn = task.sweep_figures(found) if isinstance(task, DrawsSweeps) else {}
        except ConfigError as error:
            problems.append(Problem(groups[0].members[0].run.path.parent, str(error).splitlines()[0]))
            continue
        for symbol, figure in drawn.items():
            pictures.append(_picture(f"{title}-{symbol}", f"{title}: estimate beside truth over θ", figure))
    if pictures:
        yield Gallery("Estimate beside truth", "", pictures, 2)


# Taken from runs


def _pairs(groups: Sequence[Group], problems: list[Problem]) -> Iterator[Gallery]:
    """Dirac-GANs that differ in the generator's average alone."""
    found: dict[str, dict[bool, Group]] = {}
    for group in groups:
        rest = {key: value for key, value in group.settings.items() if key not in ("task.ema", "name")}
        found.setdefault(repr(sorted(rest.items())), {})[group.settings.get("task.ema") is not None] = group
    pictures = []
    for pair in found.values():
        if len(pair) == 2:
            taken = _Taken([pair[False], pair[True]], problems)
            pictures += taken.pictures("figures/trajectory-end.png", SMALL)
    if pictures:
        yield Gallery(
            "Without and with averaging", "in pairs: without, then with the generator’s average", pictures, 4
        )


class _Taken:
    """Pictures that the groups' runs hold already, of the lowest seed of each."""

    def __init__(self, groups: Sequence[Group], problems: list[Problem]) -> None:
        self.groups = groups
        self.problems = problems

    def gallery(self, title: str, note: str, pattern: str, width: int, columns: int) -> Iterator[Gallery]:
        pictures = self.pictures(pattern, width)
        if pictures:
            yield Gallery(title, note, pictures, columns)

    def pictures(self, pattern: str, width: int) -> list[Picture]:
        found = []
        for group in self.groups:
            if group.suite:
                continue  # its run is there by itself
            member = min(group.members, key=lambda member: member.seed)
            for path in sorted(member.run.path.glob(pattern)):
                try:
                    png, size = _scaled(path, width)
                except (OSError, UnidentifiedImageError, ValueError) as error:
                    self.problems.append(Problem(path, f"cannot be read: {error}"))
                    continue
                name = f"{group.experiment}-{path.stem}-{member.run.path.name}"
                found.append(Picture(_slug(name), f"{group.title}, seed {member.seed}", png, size))
        return found


def _picture(name: str, caption: str, figure: Figure) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    with Image.open(buffer) as image:
        png, size = _encoded(image.convert("RGB"))
    return Picture(_slug(name), caption, png, size)


def _scaled(path: Path, width: int) -> tuple[bytes, tuple[int, int]]:
    with Image.open(path) as stored:
        image = stored.convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    return _encoded(image)


def _encoded(image: Image.Image) -> tuple[bytes, tuple[int, int]]:
    """A palette makes charts a third as large; grids of small grey or coloured images hardly show it."""
    buffer = io.BytesIO()
    image.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, "PNG")
    return buffer.getvalue(), image.size


def _slug(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name).strip("-").lower()
