"""A report's files: rows for machines, and writing so that nothing is overwritten by accident."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from genbench.engine.rundir import to_json
from genbench.errors import ConfigError
from genbench.report.groups import Result
from genbench.report.page import PICTURES, Report, html, to_markdown
from genbench.report.reading import Problem, Run

__all__ = ["check_target", "records", "write"]

WRITER = "genbench-report"
REPEAT = ("command", "git_commit", "versions", "device", "arithmetic", "finished", "note")
SPEEDS = ("steps_per_second", "samples_per_second", "training_seconds", "wall_seconds")
COSTS = ("parameters", *SPEEDS, "peak_memory_mib")


def records(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Flat rows, one for each quantity of a group and protocol, and one more for each further published value."""
    rows = []
    for result in results:
        final, best = result.final, result.best
        base = {
            "family": result.group.family.title,
            "experiment": result.group.experiment,
            "changed": result.group.words,
            "metric": result.quantity.name,
            "unit": result.quantity.unit,
            "better": result.quantity.better,
            "n": final.n,
            "seeds": " ".join(str(run.seed) for run in result.runs),
            "diverged": " ".join(str(run.seed) for run in result.group.others if run.state == "diverged"),
            "final": final.mean,
            "final_low": final.low,
            "final_high": final.high,
            "standard_error": result.standard_error,
            "monte_carlo_error": result.monte_carlo_error,
            "best": best.mean if best else None,
            "best_low": best.low if best else None,
            "best_high": best.high if best else None,
            "values": " ".join(repr(value) for value in result.values),
            "truth": result.truth,
            "protocol": json.dumps(result.protocol, ensure_ascii=False),
        }
        for comparison in result.comparisons or (None,):
            reference = comparison.reference if comparison else None
            rows.append(
                base
                | {
                    "published": reference.value if reference else None,
                    "published_at": reference.at if reference else "",
                    "source": reference.source if reference else "",
                    "tolerance": reference.tolerance if reference else None,
                    "difference": comparison.difference if comparison else None,
                    "verdict": comparison.verdict if comparison else "impossible" if result.impossible else "",
                }
            )
    return rows


def _run_record(run: Run) -> dict[str, Any]:
    """What is needed to repeat a run, and to know what it ran on."""
    return {
        "path": str(run.path),
        "experiment": run.name,
        "seed": run.seed,
        "changes": run.summary["changes"],
        "status": run.state,
        "step": run.step,
        "last_line": run.last_line,
        **{key: run.summary.get(key) for key in (*REPEAT, *COSTS)},
    }


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else ["family"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def check_target(out: Path) -> None:
    """Raise ConfigError where writing to `out` would overwrite what no report has written."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", "choose another folder with --out")
    if out.is_dir() and any(out.iterdir()) and _own(out) is None:
        raise ConfigError(f"{out} holds other things than a report", "choose another folder with --out")


def _own(out: Path) -> dict[str, Any] | None:
    """`results.json` of a report that lies there; None if there is none."""
    try:
        found: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
        return found if found["written_by"] == WRITER else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(
    out: Path, report: Report, results: Sequence[Result], runs: Sequence[Run], problems: Sequence[Problem]
) -> None:
    """Write everything into a folder beside `out`, then move it there; other files in `out` stay."""
    rows, pictures = records(results), report.pictures
    machine = {
        "written_by": WRITER,
        "results": rows,
        "runs": [_run_record(run) for run in runs],
        "left_out": [{"path": str(problem.path), "reason": problem.reason} for problem in problems],
        "pictures": sorted(pictures),
    }
    contents = {
        "index.html": html(report),
        "results.md": to_markdown(report),
        "results.csv": _csv(rows),
        "results.json": to_json(machine),
    }
    temporary = None
    try:
        out = out.resolve()  # a link to a folder stays one
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.parent / f".{out.name}.{os.getpid()}"
        (temporary / PICTURES).mkdir(parents=True)
        for name, text in contents.items():
            (temporary / name).write_text(text, encoding="utf-8")
        for name, picture in pictures.items():
            (temporary / PICTURES / name).write_bytes(picture.content())
        _move(temporary, out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error}", "choose another folder with --out") from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _move(temporary: Path, out: Path) -> None:
    if not out.exists() or not any(out.iterdir()):
        os.replace(temporary, out)
        return
    for name in (_own(out) or {}).get("pictures", []):
        if Path(name).name == name:
            (out / PICTURES / name).unlink(missing_ok=True)
    (out / PICTURES).mkdir(exist_ok=True)
    for path in (temporary / PICTURES).iterdir():
        os.replace(path, out / PICTURES / path.name)
    (temporary / PICTURES).rmdir()
    for path in temporary.iterdir():
        os.replace(path, out / path.name)
