"""Everything a run logs: `metrics.jsonl`, TensorBoard events, and the final and best of every metric."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import custom_scalars, hparams

from genbench.atomic import replacing
from genbench.config import Reference, flatten
from genbench.engine.events import EventFile, as_left, event_files, picture
from genbench.engine.measurement import Measurement, Quantity, agree
from genbench.engine.rundir import RunDirectory
from genbench.errors import GenbenchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["TEST", "Logbook", "before_the_end"]

TEST = "test/"
"""How the names of metrics begin that are measured once, at the end."""


class Logbook:
    """Append-only logs that go back to where a checkpoint left them, so that a resumed run repeats nothing.

    A checkpoint holds the rows of `metrics.jsonl` themselves, so they are never lost; of the event files it holds
    lengths and checksums, and what was lost there is made again from the rows, pictures aside.

    `quantities` are those whose best value is remembered, `protocol` is what all of the run's measurements depend on;
    `references` are published values, `settings` the configuration, for TensorBoard's HParams tab; `charts` are
    contrasting curves by title, each on one chart of TensorBoard.
    """

    def __init__(
        self,
        run: RunDirectory,
        title: str,
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
        self._settings, self._charts = settings, charts
        self._curves: dict[str, list[dict[str, float]]] = {}
        self._written = bytearray()  # what metrics.jsonl holds
        self._rows: BinaryIO | None = None
        self._events: EventFile | None = None
        self._earlier: dict[str, tuple[int, int]] = {}  # event files of earlier sessions: length, checksum

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
        self._earlier = {name: (length, found) for name, (length, found) in state["events"].items()}
        kept = as_left(self._earlier, self.run.tensorboard)
        if not kept:
            self._earlier = {}
        for path in event_files(self.run.tensorboard):
            if path.name not in self._earlier:
                path.unlink()
        self._events = EventFile(self.run.tensorboard, state["clock"])
        if not self._earlier and self._charts:
            # One category for all runs: TensorBoard merges equal charts and draws every run into them.
            layout = {title: ["Multiline", list(metrics)] for title, metrics in self._charts.items()}
            self._events.summary(custom_scalars({"contrasts": layout}))
        if not kept:
            restored.append(
                f"TensorBoard files in {self.run.tensorboard} are damaged; their curves are restored, "
                "and the pictures so far are in figures/ and samples/"
            )
            for line in self._written.splitlines():
                row = json.loads(line)
                self._scalar(row["metric"], math.nan if row["value"] is None else row["value"], row["step"])
        return restored

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
        if self._events:
            self._events.close()
        self._rows = self._events = None

    def state_dict(self) -> dict[str, Any]:
        """What `open` goes on from, all of it on disk when this returns or in the state itself."""
        assert self._events, "the logbook is not open"
        events = self._earlier | {self._events.path.name: self._events.on_disk()}
        return {"rows": _packed(self._written), "events": events, "clock": self._events.clock}

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
        assert self._rows and self._events, "the logbook is not open"
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
            self._scalar(metric, value, step)
            self._remember(metric, number, step, row["epoch"])
        self._rows.flush()
        self._events.flush()

    def _scalar(self, metric: str, value: float, step: int) -> None:
        assert self._events, "the logbook is not open"
        self._events.summary(Summary(value=[Summary.Value(tag=metric, simple_value=value)]), step)

    def _remember(self, metric: str, value: float | None, step: int, epoch: float) -> None:
        point = {"epoch": epoch, "step": step, "value": math.nan if value is None else value}
        self._curves.setdefault(metric, []).append(point)
        entry: dict[str, Any] = {"value": value, "step": step}
        self.final[metric] = entry
        better = self._quantities[metric].better if metric in self._quantities else ""
        if not better or value is None:
            return
        best = self.best.get(metric)
        if best is None or (value > best["value"] if better == "higher" else value < best["value"]):
            self.best[metric] = entry

    def figure(self, name: str, figure: Figure, stage: str, step: int) -> None:
        """A picture as `figures/<name>-<stage>.png` and in TensorBoard."""
        assert self._events, "the logbook is not open"
        path = self.save_figure(name, figure, stage)
        self._events.summary(picture(f"figures/{name}", path.read_bytes()), step)

    def save_figure(self, name: str, figure: Figure, stage: str, form: str = "png") -> Path:
        return _save(self.run.figures / f"{name}-{stage}.{form}", partial(figure.savefig, format=form))

    def image(self, name: str, image: Tensor, stage: str, step: int) -> None:
        """A raw grid [C, H, W] as `samples/<name>-<stage>.png` and in TensorBoard."""
        from torchvision.utils import save_image  # seconds to import: only where images are drawn

        assert self._events, "the logbook is not open"
        path = _save(self.run.samples / f"{name}-{stage}.png", lambda file: save_image(image, file, format="png"))
        self._events.summary(picture(f"samples/{name}", path.read_bytes()), step)

    def hyperparameters(self) -> None:
        """The HParams tab: settings beside the final value of every quantity, in this very run.

        (`SummaryWriter.add_hparams` would start a second run directory.)
        """
        assert self._events, "the logbook is not open"
        finals = {name: self.final[name]["value"] for name in self._quantities if name in self.final}
        settings = {key: _plain(value) for key, value in flatten(self._settings).items() if value is not None}
        for summary in hparams(settings, finals):
            self._events.summary(summary)


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


def _plain(value: Any) -> bool | float | str:
    """What TensorBoard takes for a hyperparameter."""
    return value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
