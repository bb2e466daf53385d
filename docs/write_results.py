"""The page of results, docs/results.md, from the records of runs in docs/runs.

    python docs/write_results.py            the page and its pictures, docs/results/*.png, anew
    python docs/write_results.py RUN …      keep records of these run directories first, in place of older ones

A record is what a report reads of a run: how it ended, what it measured and logged, the pictures that sum it up, and
those that a page in docs shows.
Only finished runs of a named experiment are kept, without changes to it but in what it is made to be swept over. What
a sweep has drawn beside them is kept, too.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shlex
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from genbench.atomic import replacing
from genbench.commands import report
from genbench.engine.rundir import FINISHED
from genbench.errors import ConfigError
from genbench.output import command
from genbench.report.pictures import sweep_pictures
from genbench.report.reading import Damaged, Run, read

__all__ = ["RUNS", "keep", "main", "page"]

DOCS = Path(__file__).parent
RUNS = DOCS / "runs"
FILES = ("status.json", "summary.json", "metrics.jsonl")
STAGES = "figures/stages-end.png"
INTRODUCTION = """Written by `genbench-report` from [records of runs](https://github.com/genbench/genbench/tree/main/docs/runs).
[How to read the tables](usage.md#comparing-runs), [why values come out as they do](measurements.md), [an older
value](results/earlier.md), [what is still to be run](results/pending.md).
"""
SWEPT = {"dataset.theta"}
"""What a sweep of a named experiment may change: the divergences are a function of θ."""


def keep(path: Path, runs: Path = RUNS) -> Path:
    """Copy what is to be kept of a run directory into `runs`, as <experiment>/seed-<seed> or, of a sweep,
    <experiment>/theta=<θ>,seed-<seed>.

    An older record stays until the new one is whole. Raises ConfigError for a run that is not whole, not done, or not
    of an experiment as it is, and for a record.
    """
    if path.resolve().is_relative_to(runs.resolve()):
        raise ConfigError(f"{path} is a record already", "name the run directory that it was made of")
    try:
        run = read(path)
    except Damaged as damaged:
        raise ConfigError(f"{path} is not a whole run directory: {damaged}") from None
    if run.state not in FINISHED:
        raise ConfigError(f"{path} is {run.state}", "let it end first")
    if not run.summary["changes"].keys() <= SWEPT:
        raise ConfigError(f"{path} is {run.name} with {run.words}", "give that an experiment of its own")
    record = runs / run.name / ",".join(filter(None, (run.words, f"seed-{run.seed}")))
    record.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=record.parent) as beside:
        new, old = Path(beside, "new"), Path(beside, "old")
        for name in (*FILES, *_pictures(run)):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path / name, new / name)
        _without_places(new / "summary.json")
        if record.exists():
            record.rename(old)
        new.rename(record)
    for drawn in sweep_pictures([run], set(), []).get(run.family.title, []):
        if drawn.source:
            with replacing(runs / drawn.source.name) as file:
                file.write(drawn.content())
    return record


def _without_places(summary: Path) -> None:
    """Take from the command where its files lay: that was one machine's."""
    values = json.loads(summary.read_text(encoding="utf-8"))
    words = shlex.split(values["command"] or "")
    values["command"] = shlex.join(word for word in words if not word.startswith(("data_root=", "output_root=")))
    summary.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _pictures(run: Run) -> list[str]:
    """Those of seed 1: of several seeds, a report shows the pictures of the lowest one. A sweep has its own."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    shown = re.findall(rf"\(runs/{re.escape(run.name)}/seed-1/([^)]+)\)", pages)
    names = dict.fromkeys((str(run.summary["cover"]), STAGES, *shown))
    return [name for name in names if run.seed == 1 and not run.words and (run.path / name).is_file()]


def page(out: Path) -> str:
    """Write the report of all records into `out`; its Markdown, with an introduction."""
    with redirect_stdout(io.StringIO()):
        report.main([str(RUNS), "--out", str(out)])
    title, text = (out / "results.md").read_text(encoding="utf-8").split("\n", 1)
    return f"{title}\n\n{INTRODUCTION}{text.replace('**My runs**', '**Runs**', 1)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: keep records, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="run directories to keep records of")
    options = parser.parse_args(arguments)
    with command("write_results"), TemporaryDirectory() as out:
        for path in options.runs:
            print(keep(path).relative_to(DOCS.parent))
        text = page(Path(out))
        for picture in (DOCS / "results").glob("*.png"):
            picture.unlink()
        for name in re.findall(r"\]\(results/([^)]+\.png)\)", text):
            shutil.copyfile(Path(out, "results", name), DOCS / "results" / name)
        (DOCS / "results.md").write_text(text, encoding="utf-8")
        print("docs/results.md")


if __name__ == "__main__":
    main()
