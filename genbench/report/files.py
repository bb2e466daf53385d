"""A report's files: rows for machines, and writing so that nothing is overwritten by accident."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from genbench.engine.rundir import to_json
from genbench.errors import ConfigError
from genbench.report.groups import Group
from genbench.report.page import PICTURES, Report, html, to_markdown
from genbench.report.reading import Problem, Run
from genbench.report.results import Result

__all__ = ["check_target", "records", "write"]

FILES = ("index.html", "results.md", "results.csv", "results.json")


def records(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Flat rows: one for each quantity of a group, and one more for each further published value."""
    rows = []
    for result in results:
        final, best = result.final, result.best
        base = {
            "family": result.family.title,
            "experiment": result.experiment,
            "changed": result.variant,
            "theta": result.group.theta if result.group else "",
            "metric": result.quantity.metric,
            "unit": result.quantity.unit,
            "better": result.quantity.better,
            "state": result.state,
            "n": final.n if final else 0,
            "seeds": " ".join(str(member.seed) for member in result.members),
            "final": final.mean if final else None,
            "final_low": final.low if final else None,
            "final_high": final.high if final else None,
            "standard_error": result.standard_error,
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
                    "verdict": comparison.verdict if comparison else "",
                }
            )
    return rows


def run_record(run: Run) -> dict[str, Any]:
    """What is needed to repeat a run, and to know what it ran on."""
    keys = ("command", "git_commit", "versions", "device", "arithmetic", "finished", "parameters", "note")
    costs = ("steps_per_second", "training_seconds", "wall_seconds", "peak_memory_mib")
    return {
        "path": str(run.path),
        "experiment": run.name,
        "seed": run.seed,
        "status": run.state,
        "step": run.status["step"],
        "last_line": run.last_line,
        **{key: run.summary.get(key) for key in (*keys, *costs)},
    }


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else ["family"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def check_target(out: Path, force: bool) -> None:
    """Raise ConfigError where writing to `out` would overwrite something that it may not."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", "choose another folder with --out")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise ConfigError(
            f"{out} exists already", "choose another folder with --out, or add --force to replace its report"
        )


def write(
    out: Path,
    report: Report,
    results: Sequence[Result],
    groups: Sequence[Group],
    runs: Sequence[Run],
    problems: Sequence[Problem],
) -> None:
    """Write everything into a folder beside `out`, then move it there; other files in `out` stay."""
    rows = records(results)
    pictures = [f"{picture.name}.png" for picture in report.pictures]
    machine = {
        "results": rows,
        "runs": [run_record(run) for run in runs],
        "configurations": [{"title": group.title, "changes": group.changes} for group in groups if group.changes],
        "skipped": [{"path": str(problem.path), "reason": problem.reason} for problem in problems],
        "pictures": pictures,
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
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        (temporary / PICTURES).mkdir()
        for name, text in contents.items():
            (temporary / name).write_text(text, encoding="utf-8")
        for picture in report.pictures:
            (temporary / PICTURES / f"{picture.name}.png").write_bytes(picture.png)
        _move(temporary, out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error}", "choose another folder with --out") from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _move(temporary: Path, out: Path) -> None:
    temporary.chmod(0o777 & ~_umask())
    if not out.exists() or not any(out.iterdir()):
        os.replace(temporary, out)
        return
    for name in _pictures_of(out):
        (out / PICTURES / name).unlink(missing_ok=True)
    (out / PICTURES).mkdir(exist_ok=True)
    for path in (temporary / PICTURES).iterdir():
        os.replace(path, out / PICTURES / path.name)
    for name in FILES:
        os.replace(temporary / name, out / name)


def _pictures_of(out: Path) -> list[str]:
    """Pictures of the report that is being replaced."""
    try:
        names = json.loads((out / "results.json").read_text(encoding="utf-8"))["pictures"]
        return [name for name in names if Path(name).name == name and name.endswith(".png")]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
