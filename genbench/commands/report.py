"""`genbench-report`: what many runs measured, beside what was published and what is true.

genbench-report outputs --out report                 index.html, results.md, results.csv and results.json
genbench-report outputs/dirac-* more --out report    of these run directories alone, or of all in these directories
genbench-report --difference RUN RUN                 how the settings of two runs differ

The same command again updates the report.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from genbench.errors import ConfigError
from genbench.identity import differences
from genbench.naming import untaken
from genbench.output import command
from genbench.report import details, leading, pictures, tables
from genbench.report.cells import Table
from genbench.report.files import check_target, write
from genbench.report.groups import Group, Result, group, results
from genbench.report.page import FamilySection, Report, RunSection
from genbench.report.pictures import Picture
from genbench.report.reading import Damaged, Problem, Run, find, read, readable
from genbench.report.series import Series, series, series_tables
from genbench.report.studies import study_tables
from genbench.terminal import console

__all__ = ["main"]

Row = tuple[Group, list[Result], RunSection | None]
"""A group, what it measured, and its section, if it has one."""


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
    parser.add_argument("--difference", type=Path, nargs=2, metavar="RUN", help="compare two runs’ settings")
    options = parser.parse_args(arguments)
    with command("genbench-report"):
        if options.difference:
            _difference(*options.difference)
        else:
            _report(options.outputs or [Path("outputs")], options.out, options.title)


def _difference(first: Path, second: Path) -> None:
    found = differences(*(_read(path).summary["settings"] for path in (first, second)))
    if not found:
        print("the settings are equal")
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


def _report(roots: Sequence[Path], out: Path, title: str) -> None:
    check_target(out)
    problems: list[Problem] = []
    paths = find(roots, problems)
    if not paths and not problems:
        raise ConfigError(
            f"no runs in {', '.join(map(str, roots))}", "name directories that hold runs, such as outputs"
        )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    err = console(error=True)
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        job = bar.add_task("reading runs", total=len(paths))
        runs = list(readable(bar.track(paths, task_id=job), problems))
        if not runs:
            reasons = "\n".join(f"  {problem.path}: {problem.reason}" for problem in problems)
            raise ConfigError(f"no run can be read\n{reasons}", "train them again, or name others")
        groups, doubled = group(runs)
        problems += doubled
        measured = [(one, *results(one)) for one in groups]
        shown = leading.leading([(one, found) for one, found, _ in measured])
        drawing = bar.add_task("drawing runs", total=sum(shown))
        rows: list[Row] = []
        keys: set[str] = set()
        names: set[str] = set()  # of all pictures: they lie in one folder
        for (one, found, mixed), has_section in zip(measured, shown, strict=True):
            problems += mixed
            section = None
            if has_section:
                key = _anchor(f"{one.experiment} {one.first.path.name}", keys)
                section = _run_section(key, one, found, names, problems)
                bar.advance(drawing)
            rows.append((one, found, section))
        everything = [row for _, found, _ in rows for row in found]
        report = _compose(title, paths, runs, rows, names, problems)
        write(out, report, everything, runs, problems)
    for problem in problems:
        print(f"genbench-report: {problem.path}: {problem.reason}", file=sys.stderr)
    print(f"{len(runs)} of {len(paths)} runs, {len(report.pictures)} pictures: {out / 'index.html'}")


def _compose(
    title: str,
    paths: Sequence[Path],
    runs: Sequence[Run],
    rows: Sequence[Row],
    names: set[str],
    problems: list[Problem],
) -> Report:
    sweeps = pictures.sweep_pictures(runs, names, problems)
    studies = study_tables(runs, problems)
    together = series([one for one, _, _ in rows])
    keys: set[str] = set()
    sections = [
        _family_section(
            f"family-{_anchor(name, keys)}",
            name,
            [row for row in rows if row[0].family.title == name],
            [each for each in together if each.members[0][1].family.title == name],
            sweeps.get(name, []),
            studies.get(name, []),
            names,
        )
        for name in dict.fromkeys(one.family.title for one, _, _ in rows)
    ]
    anchors = {section.title: section.key for section in sections}
    compared = {
        (one.experiment, c.reference.metric, c.reference.label)
        for one, found, _ in rows
        for row in found
        for c in row.comparisons
    }
    return Report(
        title=title,
        lead=_lead(runs, paths) + leading.note([(one, section is not None) for one, _, section in rows]),
        my_runs=tables.my_runs_table(
            [(one, found, section.key if section else "") for one, found, section in rows],
            [(each, anchors[each.members[0][1].family.title]) for each in together],
        ),
        runs=[section for _, _, section in rows if section],
        families=sections,
        across=tables.across_tables([(one, found) for one, found, _ in rows]),
        published=tables.published_table(tables.missing(compared)),
        problems=tables.problems_table(problems),
    )


def _run_section(
    key: str, one: Group, found: Sequence[Result], names: set[str], problems: list[Problem]
) -> RunSection:
    own: list[Picture] = pictures.own_pictures(one.first, key, names, problems)
    return RunSection(
        key=f"run-{key}",
        title=one.title,
        family=one.family.title,
        cover=pictures.cover(one.first, own),
        pictures=own,
        curves=list(pictures.own_curves(one, key, names)),
        measured=[details.values_table(found)] if found else [],
        commands=details.commands_table(one),
        settings=details.settings_table(one.first),
    )


def _family_section(
    key: str,
    name: str,
    rows: Sequence[Row],
    together: Sequence[Series],
    sweeps: list[Picture],
    studies: list[Table],
    names: set[str],
) -> FamilySection:
    found = [row for _, results_, _ in rows for row in results_]
    reached = tables.reached_table(found)
    return FamilySection(
        key=key,
        title=name,
        tables=[
            *series_tables(together, {one: measured for one, measured, _ in rows}),
            *tables.quantity_tables(found),
            *([reached] if reached.rows else []),
            *studies,
        ],
        curves=list(pictures.compared_curves(found, names)),
        sweeps=sweeps,
        runs=[section for _, _, section in rows if section],
        cost=tables.cost_table([one for one, _, _ in rows], together),
    )


def _anchor(words: str, taken: set[str]) -> str:
    """A name that is in no way special, and not `taken` yet."""
    plain = re.sub(r"\W+", "-", words).strip("-").lower()
    return untaken(plain, taken)


def _lead(runs: Sequence[Run], paths: Sequence[Path]) -> str:
    states = [run.state for run in runs]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states))]
    counts += [f"{len(paths) - len(runs)} left out"] if len(runs) < len(paths) else []
    devices = dict.fromkeys(str(run.summary["device"]) for run in runs if run.summary.get("device"))
    torch = dict.fromkeys(run.summary["versions"].get("torch", "") for run in runs if run.summary.get("versions"))
    parts = [f"{len(paths)} run {'directory' if len(paths) == 1 else 'directories'}: {', '.join(counts)}"]
    parts += [f"on {', '.join(devices)}"] if devices else []
    parts += [f"PyTorch {', '.join(torch)}"] if torch else []
    return "; ".join(parts) + "."


if __name__ == "__main__":
    main()
