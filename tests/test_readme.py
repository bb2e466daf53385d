"""The README's commands are run, those of other pages checked."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Forked, python

from genbench import arguments, compose
from genbench.commands import evaluate, figures, pack, report

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def commands(document: Path) -> list[str]:
    """Indented lines, and those of ```bash blocks, continued ones joined, without what follows a #."""
    text = document.read_text(encoding="utf-8").replace("\\\n", "")
    text = re.sub(r"^```bash\n(.*?)^```", lambda block: textwrap.indent(block[1], " " * 4), text, flags=re.S | re.M)
    return [
        re.split(r"\s#", line)[0].strip()
        for line in text.splitlines()
        if re.match(r"    (make|genbench|tensorboard|source|python)\b", line)
    ]


SHORT = ("trainer.max_steps=2", "task.importance_images=20")
README = commands(ROOT / "README.md")
OTHERS = list(dict.fromkeys(command for document in DOCUMENTS for command in commands(document)))


def test_every_kind_of_command_is_known() -> None:
    assert {shlex.split(command)[0] for command in README} == {
        "make",
        "genbench",
        "genbench-report",
        "tensorboard",
        "source",
        "python",
    }


@pytest.mark.parametrize("command", [c for c in OTHERS if c.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    subprocess.run(["make", "--dry-run", *shlex.split(command)[1:]], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.usefixtures("few_digits")
def test_the_commands_of_the_readme_run(
    genbench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two steps of every training, then the report of these runs; make and activation are what CI begins with."""
    for command in README:
        program, *words = shlex.split(command)
        if program == "genbench":
            assert genbench(*words, *(SHORT if "experiment=" in command else [])) == 0
        elif program == "genbench-report":
            report.main(words)
            assert "vae-mnist5k" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
        elif program == "python":
            assert Forked(python(*words), tmp_path).wait() == 0
        elif program == "tensorboard":
            assert Forked(python("-m", "tensorboard.main", "--inspect", *words), tmp_path).wait() == 0
    assert len(list((tmp_path / "outputs" / "vae-mnist5k").iterdir())) == 4


def test_the_experiment_of_the_readme_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (yaml,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    shutil.copytree(compose.CONFIG_DIRECTORY, tmp_path / "conf")
    (tmp_path / "conf" / "experiment" / "vae-mnist5k-L50.yaml").write_text(yaml)
    monkeypatch.setattr(compose, "CONFIG_DIRECTORY", tmp_path / "conf")
    config = compose.configuration("experiment=vae-mnist5k-L50")
    assert config.model["latent_dim"] == 50
    assert config.reference[0].metric == "valid/elbo"


EXPLAINING = [command for command in OTHERS if command.startswith("genbench explain ")]


@pytest.mark.parametrize("command", EXPLAINING)
def test_what_is_to_be_explained_is_known(genbench: Callable[..., int], command: str) -> None:
    assert genbench(*shlex.split(command)[1:]) == 0


IN_CLASS = [c for c in OTHERS if c.startswith("genbench --config-dir class ")]
TRAINING = [
    c for c in OTHERS if c.startswith("genbench ") and "--help" not in c and c not in (*EXPLAINING, *IN_CLASS)
]


@pytest.mark.parametrize("command", TRAINING)
def test_training_commands_are_valid(command: str) -> None:
    asked = arguments.parse(shlex.split(command)[1:])
    words = [word for word in asked.overrides if "interval(" not in word]  # Optuna draws them
    compose.requests(words, asked.multirun)


def test_the_exercise_for_teachers_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "course" / "teaching.md").read_text(encoding="utf-8")
    (yaml,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "class" / "experiment").mkdir(parents=True)
    (tmp_path / "class" / "experiment" / "exercise-1.yaml").write_text(yaml)
    monkeypatch.chdir(tmp_path)
    (command,) = IN_CLASS
    asked = arguments.parse(shlex.split(command)[1:])
    compose.add_search_path(asked.search_path)
    try:
        (request,) = compose.requests(asked.overrides, asked.multirun)
    finally:
        compose.add_search_path()
    assert request.config.model["latent_dim"] == 5
    assert request.config.reference[0].metric == "valid/elbo"


COMMANDS = {
    "genbench-evaluate": evaluate,
    "genbench-figures": figures,
    "genbench-pack": pack,
    "genbench-report": report,
}


@pytest.mark.parametrize("command", [c for c in OTHERS if c.split()[0] in COMMANDS])
def test_other_commands_are_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there are no runs they say so; a wrong option would be a usage error."""
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(command)
    try:
        COMMANDS[program].main(words)
    except SystemExit:
        error = capsys.readouterr().err
        assert error.startswith(f"{program}: ") and "usage" not in error


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_the_results_of_the_readme_are_those_of_the_report() -> None:
    """Every measured number of its table stands in a row of the same experiment on one of the pages of results."""
    pages = [ROOT / "docs" / "results.md", ROOT / "docs" / "results" / "earlier.md"]
    results = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.*?)` \| .*? \| (.*?) \| (.*?) \|$", readme, re.MULTILINE)
    assert len(rows) >= 5
    for experiment, measured, published in rows:
        own = [line.replace("**", "") for line in results if re.match(rf"\| {experiment}( |<)", line)]
        cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in own]
        found = [cell for row in cells if measured in row for cell in row]
        assert any(cell == published or cell.startswith(f"{published}<br>") for cell in found), experiment
