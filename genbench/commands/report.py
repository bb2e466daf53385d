"""`genbench-report`: what many runs measured, beside what was published and what is true.

genbench-report outputs --out report                 index.html, results.md, results.csv and results.json
genbench-report outputs/dirac-* more --out report    of these run directories alone, or of all in these directories
genbench-report --difference RUN RUN                 how the configurations of two runs differ
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from genbench import compose, registry
from genbench.config import flatten, without
from genbench.errors import ConfigError, GenbenchError
from genbench.report import tables
from genbench.report.catalog import Catalog, changes
from genbench.report.families import Family
from genbench.report.files import check_target, write
from genbench.report.groups import Group, group
from genbench.report.page import Report, Section
from genbench.report.pictures import galleries
from genbench.report.reading import Damaged, Problem, Run, find, read
from genbench.report.results import Result, results

__all__ = ["main"]

NOT_SHOWN = ("reference", "data_root", "output_root")  # published values and places: no settings


def main(arguments: list[str] | None = None) -> None:
    """Command line of `genbench-report`."""
    parser = argparse.ArgumentParser(
        "genbench-report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "outputs", type=Path, nargs="*", help="run directories, or directories that hold some (outputs)"
    )
    parser.add_argument("--out", type=Path, default=Path("report"), help="the report’s folder (default: %(default)s)")
    parser.add_argument("--title", default="Results", help="title of the report (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="overwrite an existing report")
    parser.add_argument("--difference", type=Path, nargs=2, metavar="RUN", help="compare two runs’ configurations")
    options = parser.parse_args(arguments)
    try:
        if options.difference:
            _difference(*options.difference)
        else:
            _report(options.outputs or [Path("outputs")], options.out, options.title, options.force)
    except GenbenchError as error:
        print(f"genbench-report: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def _difference(first: Path, second: Path) -> None:
    before, after = (_read(path).config for path in (first, second))
    found = changes(*(without(flatten(config), NOT_SHOWN) for config in (before, after)))
    if not found:
        print("the configurations are equal")
        return
    rows = [("", str(first), str(second)), *((key, *pair) for key, pair in found.items())]
    widths = [max(len(row[k]) for row in rows) for k in range(2)]
    for key, one, other in rows:
        print(f"{key:<{widths[0]}}  {one:<{widths[1]}}  {other}")


def _read(path: Path) -> Run:
    try:
        return read(path)
    except Damaged as damaged:
        raise ConfigError(f"{path} is not a whole run directory: {damaged}") from None


def _report(roots: Sequence[Path], out: Path, title: str, force: bool) -> None:
    check_target(out, force)
    problems: list[Problem] = []
    paths = find(roots, problems)
    if not paths and not problems:
        raise ConfigError(
            f"no runs in {', '.join(map(str, roots))}", "name directories that hold runs, such as outputs"
        )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        job = bar.add_task("reading runs", total=len(paths))
        runs: list[Run] = []
        for path in paths:
            try:
                runs.append(read(path))
                problems += runs[-1].problems
            except Damaged as damaged:
                problems.append(Problem(path, str(damaged)))
            bar.advance(job)
        if not runs:
            reasons = "\n".join(f"  {problem.path}: {problem.reason}" for problem in problems)
            raise ConfigError(f"no run can be read\n{reasons}", "train them again, or name others")
        registry.load_components()
        compose.add_plugin_search_path()
        catalog = Catalog()
        groups, doubled = group(runs, catalog)
        rows, mixed = results(groups, catalog)
        problems += [*doubled, *mixed]
        families = list({row.family.key: row.family for row in rows}.values())
        drawing = bar.add_task("drawing families", total=len(families))
        sections = []
        for family in families:
            sections.append(_section(family, groups, rows, runs, problems))
            bar.advance(drawing)
        report = Report(
            title,
            _lead(runs, paths),
            tables.overview_table(rows),
            sections,
            tables.families_table(groups),
            tables.unfinished_table(runs),
            tables.skipped_table(problems),
        )
        write(out, report, rows, groups, runs, problems)
    for problem in problems:
        print(f"genbench-report: {problem.path}: {problem.reason}", file=sys.stderr)
    print(f"{len(runs)} of {len(paths)} runs, {len(report.pictures)} pictures: {out / 'index.html'}")


def _section(
    family: Family, groups: Sequence[Group], rows: Sequence[Result], runs: Sequence[Run], problems: list[Problem]
) -> Section:
    own = [one for one in groups if one.family.key == family.key]
    results_ = [row for row in rows if row.family.key == family.key]
    there = {member.run.path for one in own for member in one.members} | {
        run.path for one in own for run in one.unfinished
    }
    return Section(
        family.key,
        family.title,
        tables.result_tables(results_),
        list(galleries(family, own, results_, problems)),
        tables.cost_table(own),
        tables.runs_table([run for run in runs if run.path in there]),
    )


def _lead(runs: Sequence[Run], paths: Sequence[Path]) -> str:
    done = sum(run.state == "done" for run in runs)
    devices = dict.fromkeys(str(run.summary["device"]) for run in runs if run.summary.get("device"))
    torch = dict.fromkeys(run.summary["versions"].get("torch", "") for run in runs if run.summary.get("versions"))
    parts = [f"{len(paths)} run directories, {len(runs)} whole, {done} done"]
    parts += [f"on {', '.join(devices)}"] if devices else []
    parts += [f"PyTorch {', '.join(torch)}"] if torch else []
    return "; ".join(parts) + ". Measured values beside published ones and truths; nothing is typed by hand."


if __name__ == "__main__":
    main()
