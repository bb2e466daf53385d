"""genbench works from any directory, from an editable install and from the built wheel."""

from __future__ import annotations

import configparser
import os
import pkgutil
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from genbench import compose
from genbench.catalogue import pages

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (path,) = directory.glob("*.whl")
    return path


def run(directory: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import sys, genbench; from genbench.train import main; main(sys.argv[1:])", *words],
        cwd=directory,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def test_the_wheel_holds_the_whole_configuration(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"genbench/conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert expected <= names
    assert {"genbench/py.typed", "genbench/report/page.html", "genbench/report/page.css"} <= names
    assert {f"genbench/{page}" for page in pages.PAGES} <= names
    assert not [name for name in names if name.startswith(("tests/", "conf/", "benchmarks/"))]


def test_the_wheel_works_from_any_directory(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    where = run(tmp_path, "--help", PYTHONPATH=str(site))
    assert where.returncode == 0, where.stderr
    explained = run(tmp_path, "explain", "vae-binmnist-L100", PYTHONPATH=str(site)).stdout
    assert "docs/results" in explained
    assert "report 000: IFT6135" in explained
    result = run(tmp_path, "experiment=dirac-w1-3", "trainer.max_steps=2", PYTHONPATH=str(site))
    assert result.returncode == 0, result.stderr
    loaded = "import genbench.compose; print(genbench.compose.CONFIG_DIRECTORY)"
    origin = subprocess.run(
        [sys.executable, "-c", loaded], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True
    )
    assert Path(origin.stdout.decode().strip()) == site / "genbench" / "conf"


def test_the_checkout_works_from_any_directory(genbench: Callable[..., int], tmp_path: Path) -> None:
    assert compose.CONFIG_DIRECTORY == ROOT / "conf"
    assert genbench("experiment=dirac-w1-3", "trainer.max_steps=2") == 0
    assert list(tmp_path.glob("outputs/dirac-w1-3/*/summary.json"))


def test_every_console_script_leads_to_a_function(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    points = configparser.ConfigParser()
    points.read_string(archive.read(name).decode())
    scripts = dict(points["console_scripts"])
    assert len(scripts) == 6
    for target in scripts.values():
        assert callable(pkgutil.resolve_name(target))


def test_links_of_the_readme_work_elsewhere(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    written = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)]+)\)", archive.read(name).decode())
    for own, link in zip(written, links, strict=True):
        if own.startswith("https:"):
            assert link == own
            continue
        found = re.fullmatch(r"https://github\.com/genbench/genbench/(raw|blob)/main/(.+)", link)
        assert found and (ROOT / found[2].partition("#")[0]).exists(), link
        assert (found[1] == "raw") == link.endswith(".png"), link


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="tests run in one process")
def test_one_process_runs_all_tests_of_a_file(request: pytest.FixtureRequest) -> None:
    """Else what they share is set up once for every process: twice the time, and two processes training one run."""
    assert request.node.nodeid.rpartition("]")[2].endswith(f"@{request.path}")


def test_the_conda_recipe_and_the_citation_say_what_pyproject_says() -> None:
    tomllib = pytest.importorskip("tomllib")  # since Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    recipe = yaml.safe_load((ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["version"] == recipe["context"]["version"] == citation["version"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert citation["repository-code"] == recipe["about"]["repository"] == project["urls"]["Repository"]
    scripts = [f"{name} = {target}" for name, target in project["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts
    python, *packages = recipe["requirements"]["run"]
    oldest = recipe["context"]["python_min"]
    assert python.replace("${{ python_min }}", oldest) == f"python {project['requires-python']}"
    conda = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
    needed = [re.fullmatch(r"([\w-]+)(.*)", requirement) for requirement in project["dependencies"]]
    assert packages == [f"{conda.get(found[1], found[1])} {found[2]}" for found in needed if found]
