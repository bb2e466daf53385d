"""Each lesson of the course as an executed notebook, and the lessons' pictures.

    python docs/make_notebooks.py FOLDER            all lessons, run in FOLDER one after another, as a student does
    python docs/make_notebooks.py FOLDER 04 09      these alone; finished runs in FOLDER are not repeated
    python docs/make_notebooks.py --text            the words of the pages, with what the notebooks hold already

A lesson is a page of Markdown: its ```bash and ```python blocks are the notebook's cells.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

COURSE = Path(__file__).parent / "course"

PICTURES = {
    "01-vae": "vae-mnist5k/seed=1-*/figures/stages-end.png",
    "02-manifold": "vae-mnist5k/latent_dim=2,seed=1-*/figures/manifold-end.png",
    "03-bounds": "vae-mnist5k/seed=1-*/figures/collapse-end.png",
    "04-dirac": "sweep-dirac-jsd.png",
    "05-hellinger": "sweep-squared_hellinger.png",
    "05-w1": "sweep-w1.png",
    "06-gan": "mnist5k-gan/seed=1-*/figures/stages-end.png",
    "06-curves": "mnist5k-gan/seed=1-*/figures/curves-end.png",
    "07-depth": "sweep-densities-samples.png",
    "07-collapse": "flow-arcs-density-k32/anneal=false,seed=1-*/figures/density-end.png",
    "08-temperatures": "realnvp-mnist5k/seed=1-*/figures/temperatures-end.png",
    "09-receptive-field": "pixelcnn-mnist5k/seed=1-*/figures/receptive-field-start.png",
    "09-pixelcnn": "pixelcnn-mnist5k/seed=1-*/figures/stages-end.png",
    "10-collapse": "pixelvae-mnist5k/seed=1-*/figures/collapse-end.png",
    "10-cure": "pixelvae-iaf-mnist5k/seed=1-*/figures/collapse-end.png",
}
"""Where in `outputs` the commands of the lessons leave their pictures."""

FIRST, LAST = 4, 24  # lines of what a command prints that a notebook keeps


def lessons() -> list[Path]:
    return sorted(COURSE.glob("[0-9]*.md"))


def notebook(lesson: Path) -> Any:
    """The lesson's cells."""
    made = new_notebook(
        metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    )
    for part in re.split(
        r"^(```(?:bash|python)\n.*?^```)\n", lesson.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE
    ):
        if not part.strip():
            continue
        if part.startswith("```"):
            language, code = part[3:-4].split("\n", 1)
            cell = new_code_cell(f"%%bash\n{code}" if language == "bash" else code)
        else:
            cell = new_markdown_cell(part.strip())
        cell.id = f"{lesson.stem}-{len(made.cells)}"
        made.cells.append(cell)
    return made


def shortened(cell: Any) -> None:
    """Keep the first and the last lines of what a command printed, and no more."""
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            lines = output.text.splitlines(keepends=True)
            if len(lines) > FIRST + LAST:
                output.text = "".join([*lines[:FIRST], "…\n", *lines[-LAST:]])


def execute(lesson: Path, folder: Path) -> None:
    """Run a lesson in `folder`, and write its notebook. Raises CellExecutionError if a command fails."""
    made = notebook(lesson)
    client = NotebookClient(
        made,
        timeout=None,
        kernel_name="python3",
        coalesce_streams=True,  # one output for all that a command prints
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    for cell in made.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            shortened(cell)
    nbformat.write(made, lesson.with_suffix(".ipynb"))


def update_text(lesson: Path) -> None:
    """Take over the words of the page; what its commands printed stays."""
    path = lesson.with_suffix(".ipynb")
    old, new = nbformat.read(path, as_version=4), notebook(lesson)
    pairs = zip(*([cell for cell in one.cells if cell.cell_type == "code"] for one in (old, new)), strict=True)
    for was, now in pairs:
        if was.source != now.source:
            raise SystemExit(f"{lesson.name}: a command has changed; run the lesson again")
        now.outputs, now.execution_count = was.outputs, was.execution_count
    nbformat.write(new, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where the commands are run")
    parser.add_argument("numbers", nargs="*", help="lessons, such as 04; all if none is named")
    parser.add_argument("--text", action="store_true", help="run nothing, take over the pages’ words")
    options = parser.parse_args()
    chosen = [lesson for lesson in lessons() if not options.numbers or lesson.stem[:2] in options.numbers]
    if options.text:
        for lesson in chosen:
            update_text(lesson)
        return
    if options.folder is None:
        parser.error("name the folder to run the commands in")
    for made in (options.folder, COURSE / "pictures"):
        made.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for lesson in chosen:
        print(lesson.stem, flush=True)
        execute(lesson, options.folder)
        for name, pattern in PICTURES.items():
            if name.startswith(lesson.stem[:3]):
                (picture,) = (options.folder / "outputs").glob(pattern)
                shutil.copyfile(picture, COURSE / "pictures" / f"{name}.png")


if __name__ == "__main__":
    main()
