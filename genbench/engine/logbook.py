"""Everything a run logs: `metrics.jsonl`, TensorBoard events, and the final and best of every metric."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from genbench.config import Reference, flatten
from genbench.engine.measurement import Measurement, Quantity, agree
from genbench.engine.rundir import RunDirectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["Logbook"]


class Logbook:
    """Append-only logs that can be rewound to a position, so that a resumed run repeats nothing.

    `quantities` are those whose best value is remembered, `protocol` is what all of the run's measurements depend on;
    `references` are published values, `settings` the configuration, for TensorBoard's HParams tab.
    """

    def __init__(
        self,
        run: RunDirectory,
        title: str,
        quantities: Sequence[Quantity],
        protocol: Mapping[str, str],
        references: Sequence[Reference],
        settings: dict[str, Any],
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
        self._rows: Any = None
        self._writer: SummaryWriter | None = None

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

    # Opening, closing, rewinding

    def open(self, positions: dict[str, int] | None = None) -> None:
        """Drop what was logged after `positions` (everything, without them) and append from there on."""
        self._rewind(positions or {})
        self.read()
        self._rows = self.run.metrics.open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(self.run.tensorboard))

    def close(self) -> None:
        if self._rows:
            self._rows.close()
        if self._writer:
            self._writer.close()
        self._rows = self._writer = None

    def positions(self) -> dict[str, int]:
        """The length of every log file, all of it on disk."""
        assert self._rows and self._writer, "the logbook is not open"
        self._rows.flush()
        os.fsync(self._rows.fileno())
        self._writer.flush()
        return {str(path.relative_to(self.run.path)): path.stat().st_size for path in self._files()}

    def _files(self) -> list[Path]:
        return [path for path in (self.run.metrics, *self.run.tensorboard.glob("events.*")) if path.exists()]

    def _rewind(self, positions: dict[str, int]) -> None:
        for path in self._files():
            length = positions.get(str(path.relative_to(self.run.path)))
            if length is None:
                path.unlink()
            elif length < path.stat().st_size:
                os.truncate(path, length)

    def read(self) -> None:
        """Take up what `metrics.jsonl` holds."""
        self.final, self.best, self._curves = {}, {}, {}
        if self.run.metrics.exists():
            with self.run.metrics.open(encoding="utf-8") as rows:
                for line in rows:
                    row = json.loads(line)
                    self._remember(row["metric"], row["value"], row["step"], row["epoch"])

    # Logging

    def scalars(self, values: dict[str, float], step: int, epoch: float, seconds: float) -> None:
        assert self._rows and self._writer, "the logbook is not open"
        for metric, value in values.items():
            number = float(value) if math.isfinite(value) else None
            row: dict[str, Any] = {
                "step": step,
                "epoch": round(epoch, 6),
                "time": round(seconds, 3),
                "metric": metric,
                "value": number,
            }
            self._rows.write(json.dumps(row) + "\n")
            self._writer.add_scalar(metric, value, step)
            self._remember(metric, number, step, row["epoch"])
        self._rows.flush()

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
        assert self._writer, "the logbook is not open"
        self.save_figure(name, figure, stage)
        self._writer.add_figure(f"figures/{name}", figure, step, close=False)

    def save_figure(self, name: str, figure: Figure, stage: str) -> Path:
        self.run.figures.mkdir(exist_ok=True)
        path = self.run.figures / f"{name}-{stage}.png"
        figure.savefig(path)
        return path

    def image(self, name: str, image: Tensor, stage: str, step: int) -> None:
        """A raw grid [C, H, W] as `samples/<name>-<stage>.png` and in TensorBoard."""
        from torchvision.utils import save_image  # seconds to import: only where images are drawn

        assert self._writer, "the logbook is not open"
        self.run.samples.mkdir(exist_ok=True)
        save_image(image, self.run.samples / f"{name}-{stage}.png")
        self._writer.add_image(f"samples/{name}", image, step)

    def charts(self, charts: Mapping[str, Sequence[str]]) -> None:
        """TensorBoard's custom-scalars layout: contrasting curves on one chart, which the runs of a family share."""
        assert self._writer, "the logbook is not open"
        if charts:
            # One category for all runs: TensorBoard merges equal charts and draws every run into them.
            layout = {title: ["Multiline", list(metrics)] for title, metrics in charts.items()}
            self._writer.add_custom_scalars({"contrasts": layout})

    def hyperparameters(self) -> None:
        """The HParams tab: settings beside the final value of every quantity, in this very run.

        (`SummaryWriter.add_hparams` would start a second run directory.)
        """
        assert self._writer, "the logbook is not open"
        finals = {name: self.final[name]["value"] for name in self._quantities if name in self.final}
        settings = {key: _plain(value) for key, value in flatten(self._settings).items() if value is not None}
        for summary in hparams(settings, finals):
            self._writer._get_file_writer().add_summary(summary)


def _plain(value: Any) -> bool | float | str:
    """What TensorBoard takes for a hyperparameter."""
    return value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
