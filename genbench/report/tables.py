"""Tables as data: pages, Markdown and files for machines are written from the same ones."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from genbench.compose import natural
from genbench.report.families import FAMILIES, protocol_of, protocol_text
from genbench.report.groups import Group, Member
from genbench.report.reading import Problem, Run
from genbench.report.results import Comparison, Result, standard_error
from genbench.report.statistics import Estimate, estimate

__all__ = [
    "Cell",
    "Table",
    "cost_table",
    "families_table",
    "markdown",
    "number",
    "overview_table",
    "result_tables",
    "runs_table",
    "skipped_table",
    "unfinished_table",
]

VERDICTS = {"reached": "✓", "missed": "✗", "not run": "○", "not measured": "–"}
MINUS = "−"


@dataclass(frozen=True)
class Cell:
    """Text of one cell; several lines belong to several published values."""

    lines: tuple[str, ...] = ("",)
    bold: bool = False
    kind: str = ""
    """number, or the verdict, for colours beside the words."""

    small: str = ""
    """A second line in small print."""

    @property
    def empty(self) -> bool:
        return not any(self.lines) and not self.small


@dataclass(frozen=True)
class Table:
    """A caption, column titles and rows of as many cells."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...] = field(repr=False)

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        return tuple(any(row[k].kind == "number" for row in self.rows) for k in range(len(self.columns)))

    def without_empty_columns(self) -> Table:
        kept = [k for k in range(len(self.columns)) if not all(row[k].empty for row in self.rows)]
        columns = tuple(self.columns[k] for k in kept)
        return Table(self.title, self.note, columns, tuple(tuple(row[k] for k in kept) for row in self.rows))


def number(value: float | None, decimals: int | None = None) -> str:
    """A number as tables print it: a true minus, and a fixed number of decimals or three significant digits."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return "not finite"
    if decimals is None or (value and abs(value) < 0.5 * 10**-decimals) or abs(value) >= 1e6:
        text = f"{value:.3g}"
    else:
        text = f"{value:.{decimals}f}"
    return text.replace("-", MINUS)


def _estimate(value: Estimate | None, decimals: int | None, error: float | None = None) -> str:
    """A mean over seeds with its interval, of too few seeds with the standard error over images or points."""
    if value is None:
        return ""
    text = number(value.mean, decimals)
    if value.low is None:
        return text if error is None else f"{text} ± {number(error, decimals)}"
    return f"{text} [{number(value.low, decimals)}, {number(value.high, decimals)}]"


def _signed(value: float | None, decimals: int | None) -> str:
    text = number(value, decimals)
    return f"+{text}" if value is not None and value > 0 else text


def _text(*lines: str, small: str = "") -> Cell:
    return Cell(lines or ("",), small=small)


def _number(*lines: str, bold: bool = False) -> Cell:
    return Cell(lines or ("",), bold, "number")


# One table for each quantity under each protocol


def result_tables(results: Iterable[Result]) -> list[Table]:
    """Rows of one family as tables, one for each quantity and protocol, so that no column mixes unlike numbers."""
    found: dict[str, list[Result]] = {}
    for result in results:
        key = json.dumps([result.quantity.metric, sorted(result.protocol.items())])
        found.setdefault(key, []).append(result)
    order = list(dict.fromkeys(q.metric for rows in found.values() for q in rows[0].family.quantities))
    ranked = sorted(found.values(), key=lambda rows: _rank(order, rows[0].quantity.metric))
    return [_result_table(rows) for rows in ranked]


def _rank(order: list[str], metric: str) -> int:
    return order.index(metric) if metric in order else len(order)


def _result_table(rows: list[Result]) -> Table:
    quantity = rows[0].quantity
    best_final = _best([row.final.mean if row.final else None for row in rows], quantity.better)
    best_best = _best([row.best.mean if row.best else None for row in rows], quantity.better)
    columns = (
        "experiment",
        "θ",
        "seeds",
        f"final {quantity.arrow}".strip(),
        f"best {quantity.arrow}".strip(),
        "final to best",
        quantity.truth_label,
        "final − truth",
        "published",
        "source",
        "difference",
        "tolerance",
        "verdict",
    )
    rows = sorted(rows, key=_row_order)
    intervals = any(row.final and row.final.low is not None for row in rows)
    errors = any(row.final and row.final.low is None and row.standard_error is not None for row in rows)
    note = protocol_text(rows[0].protocol)
    note += " · mean over seeds [95 % bootstrap interval]" if intervals else ""
    note += " · ± standard error over the split" if errors else ""
    cells = tuple(_result_row(row, best_final, best_best) for row in rows)
    return Table(quantity.title, note, columns, cells).without_empty_columns()


def _row_order(row: Result) -> tuple:
    return natural(row.experiment), row.group is None, row.group.place if row.group else (), row.variant


def _best(values: Sequence[float | None], better: str) -> float | None:
    """The best of at least two values of which it is known which way is better."""
    found = [value for value in values if value is not None]
    if len(found) < 2 or not better:
        return None
    return max(found) if better == "higher" else min(found)


def _result_row(row: Result, best_final: float | None, best_best: float | None) -> tuple[Cell, ...]:
    digits = row.quantity.decimals
    offset = None if row.truth is None or row.final is None else row.final.mean - row.truth
    missing = "" if row.final else row.state
    diverged = [run for run in row.group.unfinished if run.state == "diverged"] if row.group else []
    seeds = f"{row.final.n}" if row.final else ""
    seeds += f" + {len(diverged)} diverged" if diverged and row.final else ""
    comparisons = row.comparisons
    at = [" (best)" if c.reference.at == "best" else "" for c in comparisons]
    return (
        _text(row.experiment, small=row.variant),
        _number(row.group.theta if row.group else ""),
        _number(seeds),
        _number(_estimate(row.final, digits, row.standard_error) or missing, bold=_is(row.final, best_final)),
        _number(_estimate(row.best, digits), bold=_is(row.best, best_best)),
        _number(number(row.gap, digits) if row.gap else ""),
        _number(number(row.truth, digits)),
        _number(_signed(offset, digits)),
        _number(*(number(c.reference.value, digits) + where for c, where in zip(comparisons, at, strict=True))),
        _text(*(c.reference.source for c in comparisons)),
        _number(*(_signed(c.difference, digits) for c in comparisons)),
        _number(*(f"{c.reference.tolerance:g}" for c in comparisons)),
        Cell(tuple(_verdict(c.verdict) for c in comparisons) or ("",), kind=_kind(row), small=_reasons(comparisons)),
    )


def _reasons(comparisons: Sequence[Comparison]) -> str:
    """Why published values are missed."""
    return " ".join(
        dict.fromkeys(c.reference.note for c in comparisons if c.verdict == "missed" and c.reference.note)
    )


def _is(value: Estimate | None, best: float | None) -> bool:
    return value is not None and value.mean == best


def _verdict(verdict: str) -> str:
    return f"{VERDICTS.get(verdict, '!')} {verdict}"


def _kind(row: Result) -> str:
    verdicts = {comparison.verdict for comparison in row.comparisons}
    return verdicts.pop().split(",")[0].replace(" ", "-") if len(verdicts) == 1 else ""


# Cost, overview, and the comparison across families


def cost_table(groups: Sequence[Group]) -> Table:
    """Speed and cost of each group's runs, means over seeds."""
    columns = (
        "experiment",
        "runs",
        "steps",
        "parameters",
        "steps/s",
        "training",
        "wall time",
        "peak memory",
        "device",
    )
    together: dict[str, list[Group]] = {}
    for group in groups:
        if group.members and not group.suite and "…" not in group.theta:
            together.setdefault(f"{group.experiment} {group.changes}", []).append(group)
    rows = []
    for same in together.values():  # all θ of divergence estimation cost the same
        group = same[0]
        for (device, arithmetic), summaries in _by_device([member for one in same for member in one.members]).items():
            memory = _mean(summaries, "peak_memory_mib")
            parameters = summaries[0].get("parameters")
            rows.append(
                (
                    _text(group.experiment, small=group.changed),
                    _number(str(len(summaries))),
                    _number(f"{summaries[0]['step']:,}"),
                    _number("" if parameters is None else f"{parameters:,}"),
                    _number(_significant(_mean(summaries, "steps_per_second"))),
                    _number(duration(_mean(summaries, "training_seconds"))),
                    _number(duration(_mean(summaries, "wall_seconds"))),
                    _number("" if memory is None else f"{memory:,.0f} MiB"),
                    _text(device, small=arithmetic),
                )
            )
    return Table("Speed and cost", "means over runs", columns, tuple(rows)).without_empty_columns()


def _by_device(members: Iterable[Member]) -> dict[tuple[str, str], list[dict]]:
    """Summaries of runs by what they ran on and how it computed: speeds of different machines have no mean."""
    found: dict[tuple[str, str], list[dict]] = {}
    for member in members:
        summary = member.run.summary
        key = str(summary.get("device") or ""), str(summary.get("arithmetic") or "")
        found.setdefault(key, []).append(summary)
    return found


def _mean(summaries: Sequence[dict], key: str) -> float | None:
    values = [float(summary[key]) for summary in summaries if summary.get(key) is not None]
    return math.fsum(values) / len(values) if values else None


def _significant(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """14 s, 3.2 min, 2.6 h"""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"


def overview_table(results: Sequence[Result]) -> Table:
    """How many published values each family has, and how they fared."""
    states = ("reached", "missed", "not measured", "not run")
    columns = ("family", "published values", *(_verdict(state) for state in states), "! did not end", "runs")
    rows = []
    for title in dict.fromkeys(result.family.title for result in results):
        own = [result for result in results if result.family.title == title]
        verdicts = [c.verdict for result in own for c in result.comparisons]
        counts = [verdicts.count(state) for state in states]
        runs = {member.run.path for result in own for member in result.members}
        others = len(verdicts) - sum(counts)
        cells = [str(len(verdicts)), *map(str, counts), str(others), str(len(runs))]
        rows.append((_text(title), *(_number(cell if cell != "0" else "–") for cell in cells)))
    return Table("Published values", "counted once for each configuration that was run", columns, tuple(rows))


KINDS = {
    "vae": "bound: ELBO",
    "autoregressive": "exact",
    "image-flow": "exact, up to the noise of dequantization",
    "gan": "none",
}


def families_table(groups: Sequence[Group]) -> list[Table]:
    """Models of images of all families, a table for each data set: what likelihood they give, and at what cost."""
    found: dict[str, list[Group]] = {}
    order = [family.key for family in FAMILIES]
    for group in sorted((g for g in groups if g.family.key in KINDS), key=lambda g: order.index(g.family.key)):
        if group.members:
            protocol = group.members[0].protocol
            data = {str(key): str(protocol[key]) for key in ("dataset", "binarization", "split") if key in protocol}
            found.setdefault(protocol_text(data), []).append(group)
    return [_families_table(data, own) for data, own in found.items()]


def _families_table(data: str, groups: list[Group]) -> Table:
    told = [_likelihoods(group) for group in groups]
    keys = sorted(dict.fromkeys(key for values in told for key in values), key=_place)
    titles = [title for title, _ in keys]
    # Protocols that differ in what no title says, such as the resize filter, have columns of their own all the same.
    titles = [
        f"{title} ({titles[: k + 1].count(title)})" if titles.count(title) > 1 else title
        for k, title in enumerate(titles)
    ]
    columns = (
        "family",
        "experiment",
        "seeds",
        "likelihood",
        *titles,
        "steps/s",
        "images/s",
        "training",
        "samples/s",
        "device",
    )
    rows = []
    for group, values in zip(groups, told, strict=True):
        config = group.members[0].run.config
        per_step = config["trainer"]["batch_size"] * (config["task"].get("critic_steps") or 1)
        by_device = _by_device(group.members)
        speeds = [_mean(summaries, "steps_per_second") for summaries in by_device.values()]
        rows.append(
            (
                _text(group.family.title),
                _text(group.experiment, small=group.variant),
                _number(str(len(group.members))),
                _text(KINDS[group.family.key]),
                *(_number(values.get(key, "")) for key in keys),
                _number(*(_significant(speed) for speed in speeds)),
                _number(*(_significant(speed and speed * per_step) for speed in speeds)),
                _number(*(duration(_mean(summaries, "training_seconds")) for summaries in by_device.values())),
                _number(*(_significant(_mean(summaries, "samples_per_second")) for summaries in by_device.values())),
                _text(*(device for device, _ in by_device)),
            )
        )
    note = (
        "nats per image unless it says bits; M importance samples; ± standard error over the split; "
        "values of different columns are not to be compared"
    )
    return Table(data, note, columns, tuple(rows)).without_empty_columns()


# Metric, name, arrow, decimals, in the order of the columns.
LIKELIHOODS = (
    ("valid/elbo", "validation ELBO", "↑", 2),
    ("test/elbo", "test ELBO", "↑", 2),
    ("test/log_likelihood", "log p(x)", "↑", 2),
    ("test/bits_per_dim", "bits/dim", "↓", 3),
    ("test/fid", "final FID", "↓", 2),
    ("eval/fid", "last FID of training", "↓", 2),
    ("test/recognized", "recognized", "↑", 3),
)


def _place(key: tuple[str, str]) -> tuple[int, list[tuple[int, str]], str]:
    title, protocol = key
    return next(k for k, row in enumerate(LIKELIHOODS) if title.startswith(row[1])), natural(title), protocol


def _likelihoods(group: Group) -> dict[tuple[str, str], str]:
    """(column, protocol) → value: means over the seeds that were judged alike."""
    found: dict[tuple[str, str], str] = {}
    for metric, name, arrow, decimals in LIKELIHOODS:
        if metric == "test/bits_per_dim" and group.family.key != "image-flow":
            continue  # of binary pixels: the log-likelihood again, in another unit
        by_protocol: dict[tuple[str, str], list[Member]] = {}
        for member in group.members:
            if member.value(metric) is not None:
                said = protocol_of(metric, member.protocol)
                key = f"{name}{_told(metric, said)} {arrow}", json.dumps(said, sort_keys=True)
                by_protocol.setdefault(key, []).append(member)
        for key, members in by_protocol.items():
            mean = estimate([value for member in members if (value := member.value(metric)) is not None])
            found[key] = _estimate(mean, decimals, standard_error(members, metric))
    return found


def _told(metric: str, protocol: dict[str, str]) -> str:
    """What a column's title says of a protocol, the data aside."""
    draws = protocol.get("importance_samples")
    if metric == "test/log_likelihood":
        return f", M = {draws}" if draws else ", exact"
    if metric == "test/bits_per_dim":
        return f", {protocol.get('dequantization')} dequantization, M = {draws}"
    if "n_generated" in protocol:
        generated, real = protocol["n_generated"], protocol.get("n_reference")
        return f", {generated} images against {real}, weights {protocol.get('inception_weights')}"
    return ""


# Runs


def runs_table(runs: Sequence[Run]) -> Table:
    """Every run with what is needed to repeat it."""
    columns = ("run", "status", "command", "commit", "versions", "device", "finished", "note")
    rows = []
    for run in runs:
        versions = run.summary.get("versions") or {}
        rows.append(
            (
                _text(f"{run.path.parent.name}/{run.path.name}"),
                _text(run.state),
                Cell((str(run.summary.get("command") or ""),), kind="code"),
                _text(_commit(run.summary.get("git_commit"))),
                Cell((", ".join(f"{name} {version}" for name, version in versions.items()),), kind="wide"),
                _text(str(run.summary.get("device") or ""), small=str(run.summary.get("arithmetic") or "")),
                _text(str(run.summary.get("finished") or "")),
                Cell((str(run.summary.get("note") or ""),), kind="wide"),
            )
        )
    return Table("Every run", "a commit with + had changes that were not committed", columns, tuple(rows))


def _commit(commit: str | None) -> str:
    return "" if commit is None else commit[:12] + ("+" if commit.endswith("+") else "")


def unfinished_table(runs: Sequence[Run]) -> Table:
    """Runs that failed, diverged, were interrupted or are running."""
    columns = ("run", "status", "step", "last line")
    rows = [
        (
            _text(f"{run.path.parent.name}/{run.path.name}"),
            _text(run.state),
            _number(f"{run.status['step']:,}"),
            Cell((run.last_line,), kind="wide"),
        )
        for run in runs
        if run.state != "done"
    ]
    return Table("Not done", "none of these is part of a mean", columns, tuple(rows))


def skipped_table(problems: Sequence[Problem]) -> Table:
    """What was left out, and why."""
    rows = [(Cell((str(problem.path),), kind="code"), Cell((problem.reason,), kind="wide")) for problem in problems]
    return Table("Skipped or kept apart", "", ("what", "why"), tuple(rows))


# Writing


def markdown(table: Table) -> str:
    """A pipe table below its title and note."""
    lines = [f"**{table.title}**" + (f" · {_escaped(table.note)}" if table.note else ""), ""]
    lines.append("| " + " | ".join(_escaped(column) for column in table.columns) + " |")
    lines.append("|" + "|".join("---:" if right else "---" for right in table.numeric) + "|")
    for row in table.rows:
        lines.append("| " + " | ".join(_markdown_cell(cell) for cell in row) + " |")
    return "\n".join(lines)


def _markdown_cell(cell: Cell) -> str:
    text = "<br>".join(_escaped(line) for line in cell.lines)
    text = f"**{text}**" if cell.bold and text else text
    return f"{text}<br>{_escaped(cell.small)}" if cell.small else text


def _escaped(text: str) -> str:
    for character in "\\|*_<>[]":
        text = text.replace(character, f"\\{character}")
    return text
