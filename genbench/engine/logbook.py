"""Everything a run logs: `metrics.jsonl`, TensorBoard events, and the final and best of every metric."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import torch

from genbench.atomic import replacing
from genbench.config import Reference, flatten
from genbench.engine.board import Board, Point
from genbench.engine.measurement import TEST, Family, Measurement, Quantity, agree, headline
from genbench.engine.rundir import RunDirectory
from genbench.errors import GenbenchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["Logbook", "before_the_end"]

RESULTS = ("metric", "what it is", "final", "best", "published or exact")
"""Columns of TensorBoard's table of results."""


class Logbook:
    """Append-only logs that go back to where a checkpoint left them, so that a resumed run repeats nothing.

    A checkpoint holds the rows of `metrics.jsonl` themselves, so they are never lost; of the event files it holds
    lengths and checksums, and what was lost there is made again from the rows, pictures aside.

    `quantities` are those whose best value is remembered, `protocol` is what all of the run's measurements depend on;
    `references` are published values. TensorBoard shows the `settings`, curves whose names begin with the `kind` of
    task, and the `charts` under the `family`: contrasting curves by title.
    """

    def __init__(
        self,
        run: RunDirectory,
        title: str,
        *,
        family: Family,
        kind: str,
        quantities: Sequence[Quantity],
        protocol: Mapping[str, str],
        references: Sequence[Reference],
        settings: dict[str, Any],
        charts: Mapping[str, Sequence[str]],
    ) -> None:
        self.run = run
        self.title = title
        self.final: dict[str, dict[str, float]] = {}
        self.best: dict[str, dict[str, float]] = {}
        self.measurements: dict[str, Measurement] = {}
        """The newest of each metric."""

        self._quantities = {quantity.name: quantity for quantity in quantities}
        self._protocol, self._references = dict(protocol), references
        self._settings = settings
        self._curves: dict[str, list[dict[str, float]]] = {}
        self._written = bytearray()  # what metrics.jsonl holds
        self._rows: BinaryIO | None = None
        drawn = {name: [each for each in metrics if not each.startswith(TEST)] for name, metrics in charts.items()}
        self.headline = headline(quantities)
        """What to watch in training, if anything is better or worse."""

        self._board = Board(run.path, kind, family.title, drawn, self.headline)

    # What pictures may ask (engine.task.Record)

    def curve(self, metric: str, over: Literal["epoch", "step"] = "epoch") -> list[tuple[float, float]]:
        return [(point[over], point["value"]) for point in self._curves.get(metric, [])]

    @property
    def final_values(self) -> dict[str, float]:
        """The last finite value of every metric that ended finite."""
        return {name: entry["value"] for name, entry in self.final.items() if entry["value"] is not None}

    def protocol(self, metric: str) -> dict[str, str]:
        """What the metric's value depends on besides the model, as far as it was measured."""
        measured = self.measurements.get(metric)
        return self._protocol | dict(measured.protocol if measured else {})

    def references(self, metric: str) -> list[tuple[str, float]]:
        return [
            (reference.label, reference.value)
            for reference in self._references
            if reference.metric == metric and agree(reference.protocol, self.protocol(metric))
        ]

    def lines(self, metric: str) -> list[tuple[str, float]]:
        """(label, value) of what stands beside a metric: published values, and the truth."""
        measured, quantity = self.measurements.get(metric), self._quantities.get(metric)
        truth = measured.truth if measured else None
        known = [] if truth is None else [(quantity.truth_label if quantity else "truth", truth)]
        return [*self.references(metric), *known]

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Every metric for `summary.json`: final and best value; of a measurement its meaning, too.

        A best value is chosen by itself from so many `evaluations`: the more, the better it looks.
        """
        found: dict[str, dict[str, Any]] = {}
        for name, final in self.final.items():
            found[name] = {"final": final}
            if name in self.best:
                found[name]["best"] = self.best[name] | {"evaluations": len(self._curves[name])}
            if measurement := self.measurements.get(name):
                found[name] |= measurement.to_summary() | {"protocol": self.protocol(name)}
        return found

    # Opening, closing, going back

    def open(self, state: Mapping[str, Any] | None = None) -> list[str]:
        """Go on from what `state_dict` returned, without it from nothing; drop what was logged since.

        Returns what was no longer there and had to be restored, for people to read.
        """
        state = state or {"rows": _packed(b""), "events": {}, "clock": 0.0}
        restored = []
        self._written = bytearray(zlib.decompress(state["rows"].numpy()))
        if not self._go_back():
            restored.append(f"{self.run.metrics} is damaged; restored from the checkpoint")
        self._take_up(self._written)
        self._rows = self.run.metrics.open("ab")
        events = {name: (length, found) for name, (length, found) in state["events"].items()}
        kept = self._board.open(events, state["clock"], self._points())
        if not kept:
            restored.append(
                f"TensorBoard files in {self.run.path} are damaged; "
                "their curves are restored, and the pictures so far are in figures/ and samples/"
            )
        if not kept or not events:
            self._board.text("settings", _table(("setting", "value"), self._shown_settings().items(), self.title))
        return restored

    def _points(self) -> Iterator[Point]:
        for line in self._written.splitlines():
            row = json.loads(line)
            yield row["metric"], math.nan if row["value"] is None else row["value"], row["step"]

    def _go_back(self) -> bool:
        """Give metrics.jsonl its content of that time; False if some of it was no longer there."""
        path, content = self.run.metrics, bytes(self._written)
        found = path.read_bytes() if path.exists() else b""
        if found != content:
            with replacing(path) as file:
                file.write(content)
        return found.startswith(content)

    def close(self) -> None:
        if self._rows:
            self._rows.close()
        self._board.close()
        self._rows = None

    def state_dict(self) -> dict[str, Any]:
        """What `open` goes on from, all of it on disk when this returns or in the state itself."""
        return {"rows": _packed(self._written), **self._board.state_dict()}

    def read(self) -> None:
        """Take up what `metrics.jsonl` holds. Raises GenbenchError if it is damaged."""
        try:
            self._take_up(self.run.metrics.read_bytes() if self.run.metrics.exists() else b"")
        except (ValueError, KeyError, TypeError) as error:
            raise GenbenchError(
                f"{self.run.metrics} is damaged ({error!r})\n"
                f"  delete {self.run.path / 'summary.json'} and start the run again: its last checkpoint has all rows"
            ) from None

    def _take_up(self, rows: bytes | bytearray) -> None:
        self.final, self.best, self._curves = {}, {}, {}
        for line in rows.splitlines():
            row = json.loads(line)
            self._remember(row["metric"], row["value"], row["step"], row["epoch"])

    # Logging

    def has(self, metric: str, step: int) -> bool:
        """Whether the metric was logged at this step."""
        return metric in self.final and self.final[metric]["step"] == step

    def scalars(self, values: dict[str, float], step: int, epoch: float, seconds: float) -> None:
        assert self._rows, "the logbook is not open"
        for metric, value in values.items():
            number = float(value) if math.isfinite(value) else None
            row: dict[str, Any] = {
                "step": step,
                "epoch": round(epoch, 6),
                "time": round(seconds, 3),
                "metric": metric,
                "value": number,
            }
            line = (json.dumps(row) + "\n").encode()
            self._written += line
            self._rows.write(line)
            self._board.scalar((metric, value, step))
            self._remember(metric, number, step, row["epoch"])
        self._rows.flush()
        self._board.flush()

    def _remember(self, metric: str, value: float | None, step: int, epoch: float) -> None:
        point = {"epoch": epoch, "step": step, "value": math.nan if value is None else value}
        self._curves.setdefault(metric, []).append(point)
        entry: dict[str, Any] = {"value": value, "step": step}
        self.final[metric] = entry
        quantity = self._quantities.get(metric)
        if quantity is None or not quantity.better or value is None:
            return
        best = self.best.get(metric)
        if best is None or quantity.is_better(value, best["value"]):
            self.best[metric] = entry

    def figure(self, name: str, figure: Figure, stage: str, step: int) -> None:
        """A picture as `figures/<name>-<stage>.png` and in TensorBoard."""
        path = self.save_figure(name, figure, stage)
        self._board.picture(f"figures/{name}", path.read_bytes(), step)

    def save_figure(self, name: str, figure: Figure, stage: str, form: str = "png") -> Path:
        return _save(self.run.figures / f"{name}-{stage}.{form}", partial(figure.savefig, format=form))

    def image(self, name: str, image: Tensor, stage: str, step: int) -> None:
        """A raw grid [C, H, W] as `samples/<name>-<stage>.png` and in TensorBoard."""
        from torchvision.utils import save_image  # seconds to import: only where images are drawn

        path = _save(self.run.samples / f"{name}-{stage}.png", lambda file: save_image(image, file, format="png"))
        self._board.picture(f"samples/{name}", path.read_bytes(), step)

    def conclude(self) -> None:
        """The run has ended: what TensorBoard shows of its settings and its results."""
        finals = self.final_values
        told = [name for name in self._quantities if name in finals]
        once = [name for name in finals if name not in self._quantities and len(self._curves[name]) == 1]
        curve = self.headline.name if self.headline else ""
        others = [name for name in told if name != curve]
        headline = {name: finals[name] for name in [*others[:1], curve] if name in finals}
        self._board.hyperparameters(self._shown_settings(), headline)
        self._board.text("results", _table(RESULTS, map(self._result, [*told, *once]), self.title))

    def _shown_settings(self) -> dict[str, Any]:
        return {key: value for key, value in flatten(self._settings).items() if value is not None}

    def _result(self, name: str) -> tuple[str, ...]:
        """A row of the table of results."""
        quantity, measured = self._quantities.get(name), self.measurements.get(name)
        error = measured.standard_error if measured else None
        final = f"{self.final[name]['value']:.6g}" + (f" ± {error:.2g}" if error else "")
        evaluated = name in self.best and len(self._curves[name]) > 1
        best = f"{self.best[name]['value']:.6g} at step {self.best[name]['step']}" if evaluated else ""
        beside = "; ".join(f"{label}: {value:.6g}" for label, value in self.lines(name))
        return name, quantity.title if quantity else "", final, best, beside


def _save(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    content = BytesIO()  # some writers need to seek
    write(content)
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as file:
        file.write(content.getbuffer())
    return path


def before_the_end(state: Mapping[str, Any]) -> dict[str, Any]:
    """The `state_dict` of a logbook without what was measured on the test split."""
    rows = zlib.decompress(state["rows"].numpy()).splitlines(keepends=True)
    kept = b"".join(row for row in rows if not json.loads(row)["metric"].startswith(TEST))
    return {**state, "rows": _packed(kept)}


def _packed(rows: bytes | bytearray) -> torch.Tensor:
    """Compressed, as a checkpoint can hold it."""
    return torch.frombuffer(bytearray(zlib.compress(rows, level=1)), dtype=torch.uint8)


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]], title: str) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    cells = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([f"**{title}**", "", *cells])
