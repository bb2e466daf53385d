"""Every lesson of the course: its commands run, its pictures are there, its numbers are those of its run."""

from __future__ import annotations

import functools
import glob
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
from shared import smaller

from genbench.commands import evaluate, figures, report

COURSE = Path(__file__).parent.parent / "docs" / "course"
LESSONS = sorted(COURSE.glob("[0-9]*.md"))
COMMANDS = {"genbench-evaluate": evaluate, "genbench-figures": figures, "genbench-report": report}


def blocks(lesson: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", lesson.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def short(words: list[str]) -> list[str]:
    """A training command with two steps of small networks."""
    (experiments,) = (word.partition("=")[2].split(",") for word in words if word.startswith("experiment="))
    if experiments == ["flow-toy-suite"]:
        return [*words, "trainer.max_steps=2"]
    added = [*dict.fromkeys(word for name in experiments for word in smaller(name)), "trainer.max_steps=2"]
    own = {word.partition("=")[0] for word in words}
    return [*words, *(word for word in added if word.partition("=")[0] not in own)]


def test_there_are_ten_lessons_each_with_all_its_parts() -> None:
    assert [lesson.stem[:2] for lesson in LESSONS] == [f"{number:02d}" for number in range(1, 11)]
    index = (COURSE / "README.md").read_text(encoding="utf-8")
    assert "{{" not in index
    for lesson in LESSONS:
        text = lesson.read_text(encoding="utf-8")
        parts = ["The idea", "Run it", "What you should see, and why", "Change something", "Questions", "Read on"]
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == parts, lesson.name
        assert text.count("<details><summary>") == text.count("</details>") == 3, lesson.name
        assert text.startswith(f"# {int(lesson.stem[:2])}. "), lesson.name
        assert f"({lesson.name})" in index
        assert len(blocks(lesson, "bash")) >= 2
        assert re.search(r"!\[.+\]\(pictures/", text), lesson.name


@pytest.mark.usefixtures("few_digits", "tiny_planes", "tiny_instruments", "coarse")
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_its_commands_run(
    lesson: Path, genbench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the short form, in the order of the page."""
    for command in "".join(blocks(lesson, "bash")).splitlines():
        program, *words = shlex.split(command)
        if program == "genbench":
            assert genbench(*short(words)) == 0, command
            continue
        # As a shell expands them, but for the changes in a short run's name.
        patterns = [word.replace("/seed=1-*", "/*seed=1-*") for word in words]
        words = [found for pattern in patterns for found in (glob.glob(pattern) if "*" in pattern else [pattern])]
        if program == "genbench-evaluate":
            few = [re.sub(r"^(task\..*)=\d+$", r"\1=2", word) for word in words]
            evaluate.main([*few, "task.annealing_steps=2"])
        else:
            COMMANDS[program].main(words)
    matplotlib.use("Agg")
    for source in blocks(lesson, "python"):
        exec(compile(source, str(lesson), "exec"), {})
    plt.close("all")


@functools.cache
def outputs_of(lesson: Path) -> str:
    """All that the cells of its notebook printed."""
    cells = json.loads(lesson.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    found = [output for cell in code for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" for output in found)
    return "".join("".join(output["text"]) for output in found if output["output_type"] == "stream")


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_its_numbers_are_those_of_its_run(lesson: Path) -> None:
    """Every number in a table of what you should see, rounded, was printed when the notebooks were executed."""
    text = lesson.read_text(encoding="utf-8")
    seen = text[text.index("## What you should see") : text.index("## Change something")]
    rows = [line for line in seen.splitlines() if line.startswith("|")]
    numbers = {number for row in rows for number in re.findall(r"−?\d+\.\d+", row)}
    printed = "".join(map(outputs_of, LESSONS))  # some compare with an earlier lesson
    said = [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", printed.replace("−", "-"))]
    rounded = {decimals: {f"{value:.{decimals}f}".replace("-", "−") for value in said} for decimals in range(1, 8)}
    assert sorted(number for number in numbers if number not in rounded[len(number.partition(".")[2])]) == []


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_its_notebook_says_what_the_page_says(lesson: Path) -> None:
    cells = json.loads(lesson.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    page = ""
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            language = "bash" if source.startswith("%%bash\n") else "python"
            source = f"```{language}\n" + source.removeprefix("%%bash\n") + "\n```"
        page += source + "\n\n"
    assert page.strip() == lesson.read_text(encoding="utf-8").strip()
