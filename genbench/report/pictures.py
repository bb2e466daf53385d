"""The pictures of a report: those that runs and sweeps have drawn, and curves over seeds.

All of them lie in one folder: `names` are those that are taken, and what is found or drawn adds its own.
"""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from genbench.engine.task import STAGE_TITLES
from genbench.figures.curves import MAX_CURVES, Band, Chart, overlaid_curves, stacked_curves
from genbench.identity import words
from genbench.naming import untaken
from genbench.report.groups import Group, Result
from genbench.report.leading import best
from genbench.report.reading import Problem, Run, homes
from genbench.report.statistics import FEWEST, confidence_interval

__all__ = ["Picture", "compared_curves", "cover", "own_curves", "own_pictures", "sweep_pictures", "thumbnail"]

THUMBNAIL = 240  # pixels: twice the width at which it is shown


@dataclass(frozen=True)
class Picture:
    """What a page shows and a file of the report holds: drawn here (`png`), or of a run (`source`)."""

    name: str
    caption: str
    size: tuple[int, int]
    png: bytes = field(default=b"", repr=False)
    source: Path | None = None

    def content(self) -> bytes:
        return self.source.read_bytes() if self.source else self.png


def _found(path: Path, name: str, caption: str, names: set[str], problems: list[Problem]) -> Picture | None:
    """A picture file; one that cannot be read is named in `problems`."""
    try:
        with Image.open(path) as image:
            image.verify()  # a run may be writing it
            return Picture(_file_name(name, names), caption, image.size, source=path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        problems.append(Problem(path, f"cannot be read: {error}"))
        return None


def _file_name(words: str, names: set[str]) -> str:
    plain = re.sub(r"[^\w.]+", "-", words).strip("-").lower()
    return f"{untaken(plain, names)}.png"


# What runs have drawn


def own_pictures(run: Run, key: str, names: set[str], problems: list[Problem]) -> list[Picture]:
    """All of the run with the section `key`: its cover first, then those after training, then earlier ones."""
    first = run.path / str(run.summary["cover"])
    paths = [path for folder in ("figures", "samples") for path in (run.path / folder).glob("*.png")]
    paths.sort(key=lambda path: (path != first, not path.stem.endswith("-end"), path.stem))
    pictures = []
    for path in paths:
        what, _, stage = path.stem.rpartition("-")
        words = [what, STAGE_TITLES[stage]] if stage in STAGE_TITLES else [path.stem]
        caption = ", ".join(words).replace("-", " ")
        pictures.append(_found(path, f"{key}-{path.parent.name}-{path.stem}", caption, names, problems))
    return [picture for picture in pictures if picture]


def cover(run: Run, pictures: Sequence[Picture]) -> Picture | None:
    """Of a run's pictures the one that shows best what was learned, once it is there."""
    path = run.path / str(run.summary["cover"])
    return next((picture for picture in pictures if picture.source == path), None)


def thumbnail(picture: Picture) -> bytes:
    """A small PNG of it."""
    with Image.open(io.BytesIO(picture.content())) as stored:
        image = stored.convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX, reducing_gap=1.0)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def sweep_pictures(runs: Sequence[Run], names: set[str], problems: list[Problem]) -> dict[str, list[Picture]]:
    """What sweeps have drawn beside these runs or beside their experiments, by the title of the family."""
    found: dict[str, list[Picture]] = {}
    for directory in homes(runs):
        for path in sorted(directory.glob("sweep-*.png")):
            what = path.stem.removeprefix("sweep-").replace("-", " ")
            caption = f"{what}: all runs of a sweep together"
            if picture := _found(path, f"{directory.name}-{path.stem}", caption, names, problems):
                with Image.open(path) as image:
                    found.setdefault(str(image.info.get("Family", "")), []).append(picture)
    return found


# Curves


def own_curves(one: Group, key: str, names: set[str]) -> Iterator[Picture]:
    """The learning curves of a group of which no run is done: a run that is done has drawn its own."""
    if one.done:
        return
    charts: list[Chart] = []
    for title, metrics in one.first.summary["curves"].items():
        bands = [band for metric in metrics[:MAX_CURVES] if (band := _band(metric, one.others, metric)) is not None]
        charts += [(title, bands, ())] if any(len(band.steps) > 1 for band in bands) else []
    if charts:
        yield _drawn(f"{key}-curves", "so far", stacked_curves(charts, one.title), names)


def compared_curves(results: Sequence[Result], names: set[str]) -> Iterator[Picture]:
    """Quantities of several groups over training, on one chart for each protocol."""
    charts: dict[str, list[Result]] = {}
    number = itertools.count(1)
    for row in results:
        if row.quantity.better and any(len(run.curves.get(row.quantity.name, [])) > 1 for run in row.runs):
            key = json.dumps([row.group.family.title, row.quantity.name, sorted(row.protocol.items())])
            charts.setdefault(key, []).append(row)
    for found in charts.values():
        rows = best(found)
        quantity = rows[0].quantity
        size = -(-len(rows) // -(-len(rows) // MAX_CURVES))  # equal parts
        for start in range(0, len(rows), size) if len(rows) > 1 else ():
            part = rows[start : start + size]
            labels = _labels([row.group for row in part])
            bands = [_band(name, row.runs, quantity.name) for name, row in zip(labels, part, strict=True)]
            data = rows[0].protocol.get("dataset", "")
            figure = overlaid_curves([band for band in bands if band], quantity.title, _published(part), data)
            name = f"{rows[0].group.family.title}-{quantity.name}-{next(number)}"
            of_all = f" (the best {len(rows)} of {len(found):,})" if len(rows) < len(found) else ""
            titles = ", ".join(row.group.title for row in part)
            yield _drawn(name, f"{quantity.title} over training{of_all}: {titles}", figure, names)


def _published(rows: Sequence[Result]) -> list[tuple[str, float]]:
    """(label, value) where they are those of one experiment: of several, no line would say whose it is."""
    told = [row for row in rows if row.comparisons]
    if len({row.group.experiment for row in told}) != 1:
        return []
    whose = f"{told[0].group.experiment}, " if len(rows) > 1 else ""
    found = {f"{whose}{c.reference.source}": c.reference.value for row in told for c in row.comparisons}
    return list(found.items())[:2]


def _labels(groups: Sequence[Group]) -> list[str]:
    """What tells groups apart."""
    keys = dict.fromkeys(key for one in groups for key in one.first.changes)
    differing = {key for key in keys if len({str(one.first.changes.get(key)) for one in groups}) > 1}
    told = [zip(one.first.changes, words(one.first.changes), strict=True) for one in groups]
    changes = [", ".join(word for key, word in pairs if key in differing) for pairs in told]
    if len({one.experiment for one in groups}) == 1:
        names = [own or one.experiment for one, own in zip(groups, changes, strict=True)]
    else:
        names = [one.experiment + (f" ({own})" if own else "") for one, own in zip(groups, changes, strict=True)]
    return names


def _band(label: str, runs: Sequence[Run], metric: str) -> Band | None:
    """A metric over the steps that all of the runs have logged that have logged it at all."""
    curves = [{point.step: point.value for point in run.curves[metric]} for run in runs if metric in run.curves]
    if not curves:
        return None
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    if not steps:
        return None
    values = np.array([[curve[step] for step in steps] for curve in curves], dtype=np.float64)
    low, high = confidence_interval(values) if len(curves) >= FEWEST else (None, None)
    return Band(label, np.array(steps, dtype=np.float64), values.mean(axis=0), low, high)


def _drawn(name: str, caption: str, figure: Figure, names: set[str]) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    with Image.open(buffer) as image:
        return Picture(_file_name(name, names), caption, image.size, png=buffer.getvalue())
