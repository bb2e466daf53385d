"""What TensorBoard shows of a run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import custom_scalars, hparams, text

from genbench.engine.events import EventFile, as_left, event_files, picture
from genbench.engine.measurement import Quantity

__all__ = ["Board", "Point"]

BEST = "best/"
"""How the name of the curve begins that shows the best value so far."""

FINAL, LAST = "Final ", "Last "
"""How the columns of results begin in the HParams tab: what is measured at the end, and the last value of the curve
whose best value is a metric. TensorBoard sorts columns by name, capital letters first, and shows the first five."""

Point = tuple[str, float, int]
"""A metric, its value, and the step."""


class Board:
    """The event files of a run: curves, pictures, texts, and a row of the HParams tab.

    A metric becomes a curve with its second value, since TensorBoard would draw the first alone as a dot on a chart
    of its own. What is measured once belongs in a text and in the HParams tab.

    Args:
        directory: where the files lie. TensorBoard names a run by its directory, so it is the run's own.
        kind: how the names of curves begin. TensorBoard draws curves of one name on one axis, whatever their runs
            train, and the JSD of points is not that of images.
        family: heading of the charts.
        charts: contrasting curves by title, each on one chart as soon as one of them is a curve.
        judged: the metric whose best value so far is a curve, too: TensorBoard takes the last value for a result.
    """

    def __init__(
        self,
        directory: Path,
        kind: str,
        family: str,
        charts: Mapping[str, Sequence[str]],
        judged: Quantity | None,
    ) -> None:
        self._directory, self._kind, self._family = directory, kind, family
        self._charts, self._judged = charts, judged
        self._events: EventFile | None = None
        self._earlier: dict[str, tuple[int, int]] = {}  # event files of earlier sessions: length, checksum
        self._start_again()

    def _start_again(self) -> None:
        self._waiting: dict[str, Point | None] = {}  # the first value of a metric that has no second; None: a curve
        self._shown: list[str] = []  # titles of charts
        self._best = math.nan

    # Opening, closing, going back

    def open(self, files: Mapping[str, tuple[int, int]], clock: float, points: Iterable[Point]) -> bool:
        """Go on from what `state_dict` returned, with all `points` so far; drop what was written since.

        False if some of it was no longer there: then the curves, and they alone, are drawn again.
        """
        kept = as_left(files, self._directory)
        self._earlier = dict(files) if kept else {}
        for path in event_files(self._directory):
            if path.name not in self._earlier:
                path.unlink()
        self._events = EventFile(self._directory, clock)
        self._start_again()
        for point in points:
            for summary, step in self._drawn(point):
                if not kept:
                    self._events.summary(summary, step)
        return kept

    def state_dict(self) -> dict[str, Any]:
        """What `open` goes on from, all of it on disk when this returns."""
        events = self._opened
        return {"events": self._earlier | {events.path.name: events.on_disk()}, "clock": events.clock}

    @property
    def _opened(self) -> EventFile:
        assert self._events, "the board is not open"
        return self._events

    def flush(self) -> None:
        """Let TensorBoard see what was logged."""
        self._opened.flush()

    def close(self) -> None:
        if self._events:
            self._events.close()
        self._events = None

    # Curves and charts

    def scalar(self, point: Point) -> None:
        for summary, step in self._drawn(point):
            self._opened.summary(summary, step)

    def _drawn(self, point: Point) -> Iterator[tuple[Any, int | None]]:
        """Summaries, with their steps, that a new value gives rise to."""
        metric = point[0]
        if metric not in self._waiting:
            self._waiting[metric] = point
            return
        first, self._waiting[metric] = self._waiting[metric], None
        for _, value, step in [first, point] if first else [point]:
            yield _scalar(self._tag(metric), value), step
            if self._judged and metric == self._judged.name:
                self._best = value if self._judged.is_better(value, self._best) else self._best
                yield _scalar(BEST + self._tag(metric), self._best), step
        new = [title for title, metrics in self._charts.items() if metric in metrics and title not in self._shown]
        if new:
            self._shown += new
            yield self._layout(), None

    def _tag(self, metric: str) -> str:
        return f"{self._kind}/{metric}"

    def _layout(self) -> Any:
        """The charts. TensorBoard takes the last layout that a run wrote.

        Each chart has a category of its own: of a category that is not the first run's, TensorBoard 2.21 shows only
        the charts of the first run that has it.
        """
        categories: dict[str, dict[str, list[Any]]] = {}
        for title in filter(self._shown.__contains__, self._charts):
            tags = [re.escape(self._tag(metric)) + "$" for metric in self._charts[title]]
            categories[f"{self._family}: {title}"] = {title: ["Multiline", tags]}
        return custom_scalars(categories)

    # Everything else

    def picture(self, tag: str, png: bytes, step: int) -> None:
        self._opened.summary(picture(tag, png), step)

    def text(self, tag: str, markdown: str) -> None:
        self._opened.summary(text(tag, markdown))

    def hyperparameters(self, settings: Mapping[str, Any], finals: Mapping[str, float]) -> None:
        """A row of the HParams tab, in this very run (`SummaryWriter.add_hparams` would start another).

        Which columns there are is not said: TensorBoard would take the columns of one run for all. So it looks for
        them in all runs, and shows those first in which runs differ. Results are columns among the settings, since
        it takes metrics from curves alone.
        """
        columns = {key: _plain(value) for key, value in settings.items() if value is not None}
        curve = self._judged.name if self._judged else None
        for metric, value in finals.items():
            columns[(LAST if metric == curve else FINAL) + self._tag(metric)] = value
        _, start, end = hparams(columns, {})
        self._opened.summary(start)
        self._opened.summary(end)


def _scalar(tag: str, value: float) -> Any:
    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def _plain(value: Any) -> float | str:
    """What TensorBoard shows well: it would write true as 1.000."""
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else json.dumps(value)
