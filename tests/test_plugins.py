"""docs/extending.md does what it says: its files, put into a package, are a working plug-in."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest
from processes import Forked, python

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
FILES = re.findall(r"^`(my_bench/[^`]+)`:?\n\n```\w*\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's package, as pip would have installed it."""
    site = tmp_path_factory.mktemp("site")
    for name, content in FILES:
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    info = site / "my_bench-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-bench\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[genbench.plugins]\nmy_bench = my_bench\n")
    return site


def run(plugin: Path, directory: Path, *words: str, module: str = "genbench.train") -> Forked:
    """In a process of its own, or the plug-in would be there for all tests that follow."""
    process = Forked(
        python("-m", module, *words, path=[plugin]), directory, {"GENBENCH_DATA": str(directory / "data")}
    )
    process.wait()
    return process


def test_the_page_shows_a_whole_package() -> None:
    names = {name for name, _ in FILES}
    assert {"my_bench/__init__.py", "my_bench/conf/experiment/least-squares-dirac.yaml", "my_bench/tasks.py"} <= names


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=least-squares-dirac"],  # a loss and an experiment
        ["experiment=dirac-w1-1", "model=offset-dirac", "model.offset=0.5"],  # a model
        ["experiment=vae-mnist5k", "dataset=stripes"],  # a data set
        ["experiment=independent-pixels-stripes"],  # a task
    ],
    ids=["loss and experiment", "model", "data set", "task"],
)
def test_the_page_works(plugin: Path, tmp_path: Path, words: list[str]) -> None:
    result = run(plugin, tmp_path, *words, "trainer.max_steps=3")
    assert result.returncode == 0, result.stderr
    (summary,) = tmp_path.glob("outputs/*/*/summary.json")
    assert json.loads(summary.read_text())["status"] == "done"


@pytest.fixture(scope="module")
def reported(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's task, trained twice with other settings, and a report of both."""
    directory = tmp_path_factory.mktemp("reported")
    for words in ([], ["optimizer.lr=0.001"]):
        result = run(plugin, directory, "experiment=independent-pixels-stripes", *words)
        assert result.returncode == 0, result.stderr
    result = run(plugin, directory, "outputs", module="genbench.commands.report")
    assert (result.returncode, result.stderr) == (0, "")
    return directory / "report"


def test_a_family_of_a_plug_in_is_reported_as_ours_are(reported: Path) -> None:
    machine = json.loads((reported / "results.json").read_text(encoding="utf-8"))
    test = [row for row in machine["results"] if row["metric"] == "test/log_likelihood"]
    assert [(row["family"], row["changed"], row["verdict"]) for row in test] == [
        ("Independent pixels", "", "reached"),
        ("Independent pixels", "lr=0.001", "missed"),
    ]
    best = -784 * (math.log(28) / 28 + 27 / 28 * math.log(28 / 27))
    assert [row["truth"] for row in test] == pytest.approx([best, best])
    assert test[0]["final"] == pytest.approx(best, abs=0.02)
    assert test[0]["published"] == pytest.approx(best, abs=0.005)
    assert json.loads(test[0]["protocol"])["likelihood"] == "exact"
    valid = [row for row in machine["results"] if row["metric"] == "valid/log_likelihood"]
    assert all(row["best"] >= row["final"] for row in valid)


def test_the_tables_of_a_plug_in_say_all_that_ours_do(reported: Path) -> None:
    text = (reported / "index.html").read_text(encoding="utf-8")
    family = text[text.index('<section id="family-independent-pixels">') : text.index('<section id="each">')]
    captions = re.findall(r"<caption>(.*?)<span>(.*?)</span>", family)
    protocol = "stripes; binarization none needed; split 224/64/64; likelihood exact"
    error = "standard error: of one run, over the images or points of the split"
    best = "best: chosen by this very value from all evaluations of a run"
    assert captions[:2] == [
        ("test log p(x) (nats)", f"{protocol} · {error}"),
        ("validation log p(x) (nats)", f"{protocol} · {error} · {best}"),
    ]
    titles = [re.findall(r"<th scope[^>]*>(.*?)</th>", head) for head in re.findall(r"<thead>.*?</thead>", family)]
    assert titles[0] == ["experiment", "seeds", "final ↑", "standard error", "best possible", "published", "verdict"]
    assert titles[1] == ["experiment", "seeds", "final ↑", "standard error", "best ↑", "best possible"]
    for words in ("✓ reached", "✗ missed", "−120.80", "784 H(1/28)", "off by"):
        assert words in family
    (curves,) = re.findall(r"<figcaption>(.*? over training: .*?)</figcaption>", family)
    assert curves.startswith("validation log p(x) (nats) over training: independent-pixels-stripes, ")


def test_a_run_of_a_plug_in_has_its_own_section_and_picture(reported: Path) -> None:
    text = (reported / "index.html").read_text(encoding="utf-8")
    first = text[: text.index('<section id="family-')]
    keys = re.findall(r'<th scope=row data-label="run" class="\w*"><a href="#(.*?)">', first)
    assert len(keys) == first.count('src="data:image/png;base64,') == 2
    for key, command in zip(keys, ("", " optimizer.lr=0.001"), strict=True):
        start = text.index(f'<article id="{key}">')
        own = text[start : text.index("</article>", start)]
        assert f"genbench experiment=independent-pixels-stripes{command}<" in own
        pictures = re.findall(r"<figcaption>(.*?)</figcaption>", own)
        assert pictures[0] == "samples, after training"
        assert "curves, after training" in pictures
        assert all((reported / path).is_file() for path in re.findall(r'<img src="(results/.*?)"', own))


def test_published_values_of_plug_ins_are_those_that_hydra_composes(plugin: Path, tmp_path: Path) -> None:
    """Also where an experiment builds on one of ours, or is called as one of ours."""
    site = tmp_path / "site"
    shutil.copytree(plugin, site)
    experiments = site / "my_bench" / "conf" / "experiment"
    for name, base in (("mine", "vae-binmnist-L100"), ("vae-binmnist-L100", "vae-binmnist-L20")):
        text = f"# @package _global_\ndefaults:\n  - {base}\n  - _self_\nname: {name}\n"
        (experiments / f"{name}.yaml").write_text(text)
    program = """
from genbench import compose
from genbench.report.tables import missing
compose.add_search_path()
everything = missing(())
for name in ("mine", "vae-binmnist-L100", "least-squares-dirac", "independent-pixels-stripes"):
    found = [value for experiment, value in everything if experiment == name]
    assert found == compose.configuration(f"experiment={name}").reference, name
    assert found
"""
    (site / "program.py").write_text(program)
    result = run(site, tmp_path, module="program")
    assert result.returncode == 0, result.stderr


def test_a_job_elsewhere_gets_the_variables_that_a_plug_in_reads(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    shutil.copytree(plugin, site)
    text = "# @package _global_\ndefaults: [least-squares-dirac, _self_]\nname: ${oc.env:MY_NAME}\n"
    (site / "my_bench" / "conf" / "experiment" / "mine.yaml").write_text(text)
    (site / "program.py").write_text(
        "from genbench.launching.work import Home\nprint(Home.here().environment['MY_NAME'])"
    )
    monkeypatch.setenv("MY_NAME", "kite")
    result = run(site, tmp_path, module="program")
    assert (result.returncode, result.stdout) == (0, "kite\n"), result.stderr


def test_help_lists_what_a_plug_in_adds_and_imports_nothing_of_it(plugin: Path, tmp_path: Path) -> None:
    program = """
import sys
from genbench.commands.help import help_text
print(help_text())
print("imported" if "my_bench" in sys.modules else "not imported")
"""
    result = Forked(python("-c", program, path=[plugin]), tmp_path)
    assert result.wait() == 0, result.stderr
    for name in ("least-squares-dirac", "Dirac-GAN with the least-squares loss", "offset-dirac", "stripes"):
        assert name in result.stdout
    assert result.stdout.endswith("not imported\n")


def test_what_a_plug_in_adds_is_explained(plugin: Path, tmp_path: Path) -> None:
    result = run(plugin, tmp_path, "explain", "least-squares-dirac", "least-squares", "model.offset", "dataset.size")
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stdout.split())
    for words in (
        "eval/least_squares -0.25 ↑ at the equilibrium; final value",
        "Least squares (Mao et al. 2017, arXiv 1611.04076",
        "scale factor of both players' losses number > 0; default 0.5",
        "used by least-squares-dirac",
        "model.offset of model=offset-dirac values number default 1 changed by no experiment",
        "of dataset=stripes values whole number ≥ 1 default 28",
        "of dataset=images values whole number ≥ 1 default 32",
    ):
        assert words in said


def test_mistakes_in_a_plug_in_component_are_told_alike(plugin: Path, tmp_path: Path) -> None:
    result = run(plugin, tmp_path, "experiment=dirac-w1-1", "model=offset-dirac", "model.offset=far")
    assert result.returncode == 2
    assert "model.offset" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_broken_plug_in_is_named(plugin: Path, tmp_path: Path) -> None:
    broken = tmp_path / "site"
    info = broken / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (broken / "broken.py").write_text("import no_such_package\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[genbench.plugins]\nbroken = broken\n")
    result = run(broken, tmp_path, "experiment=dirac-w1-1")
    assert result.returncode == 2
    assert "plug-in broken" in result.stderr
    assert "no_such_package" in result.stderr
