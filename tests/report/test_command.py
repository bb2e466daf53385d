"""`genbench-report` from run directories to its files, and what it says to bad input."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import re
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from kites import HEIGHT, TILT, draw
from PIL import Image

from genbench.commands.report import main
from genbench.config import Reference
from genbench.engine.measurement import Family, Measurement
from genbench.report.tables import missing

MakeRun = Callable[..., Path]
PUBLISHED = [
    Reference("test/height", 100.0, "Wright 1903, Table 2", tolerance=0.5, protocol={"wind": "none"}),
    Reference("valid/tilt", 0.05, "Wright 1903, Table 3", better="lower", note="It <b>tilts</b>."),
]


def report(*words: object) -> int:
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def some_runs(make_shared_run: MakeRun, shared_outputs: Path) -> Path:
    """Three seeds of a kite, changed ones with pictures, one that is running, one that failed with markup in its
    error, a kite of another family, and two that are damaged."""
    make_run = make_shared_run
    noise = np.random.default_rng(0)
    for seed in (1, 2, 3):
        logged = {step: {"valid/tilt": 0.1 + 1 / step + 0.01 * noise.normal()} for step in range(10, 210, 10)}
        logged[200] |= {"test/height": Measurement(101.0 + seed, 0.5, 104.0, {"wind": "none"})}
        shown = ["figures/kite-end.png", "figures/kite-start.png", "samples/sky-end.png"]
        make_run("red-kite", seed, logged, references=PUBLISHED, pictures=shown)
    changed = {"model.layers": 2, "trainer.max_steps": 7}
    short = make_run("red-kite", 1, changed=changed, references=PUBLISHED, pictures=["figures/kite-end.png"])
    (short / "figures" / "torn-end.png").write_bytes((short / "figures" / "kite-end.png").read_bytes()[:-900])
    make_run("red-kite", 4, {5: {"valid/tilt": 0.9}, 10: {"valid/tilt": 0.8}}, changed={"model.layers": 3},
             status="running", references=PUBLISHED)  # fmt: skip
    make_run("box-kite", 1, {}, status="failed", error="ValueError: <script>alert(1)</script>")
    planes = Family("Planes, <i>paper</i>")
    make_run("dart", 1, {20: {"test/height": 3.0}}, family=planes, quantities=[HEIGHT, TILT], cover="")
    (make_run("box-kite", 2) / "summary.json").write_text("{")
    old = make_run("box-kite", 3) / "summary.json"
    summary = json.loads(old.read_text())
    del summary["schema"]
    old.write_text(json.dumps(summary))
    draw(shared_outputs / "red-kite" / "sweep-heights.png", "Kites")
    return shared_outputs


@dataclass
class Element:
    """A tag with its attributes, and all text below it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str = "") -> Iterator[Element]:
        for child in self.children:
            if tag in ("", child.tag):
                yield child
            yield from child.all(tag)

    def named(self, key: str) -> Element:
        return next(element for element in self.all() if element.attributes.get("id") == key)

    def rows(self) -> list[dict[str, str]]:
        """Of a table: column title → text."""
        return [
            {cell.attributes["data-label"]: cell.text for cell in row.children if "data-label" in cell.attributes}
            for row in next(self.all("tbody")).children
        ]


class Page(HTMLParser):
    VOID = {"meta", "link", "img", "br"}

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == [self.root]  # whatever was opened is closed

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {key: value or "" for key, value in attributes})
        self.open[-1].children.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


@pytest.fixture(scope="module")
def out(some_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "out"
    assert report(some_runs, "--out", path) == 0
    return path


@pytest.fixture(scope="module")
def page(out: Path) -> Element:
    return Page(out / "index.html").root


# The page


def test_the_page_needs_nothing_from_outside(out: Path, page: Element) -> None:
    text = (out / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?://", text)
    tags = {element.tag for element in page.all()}
    assert not tags & {"script", "iframe", "object", "base", "i", "b"}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "It &lt;b&gt;tilts&lt;/b&gt;." in text
    assert [link.attributes["href"] for link in page.all("link")] == ["data:,"]
    for image in page.all("img"):
        source = image.attributes["src"]
        if not source.startswith("data:image/png;base64,"):
            with Image.open(out / source) as picture:
                assert (str(picture.width), str(picture.height)) == (
                    image.attributes["width"],
                    image.attributes["height"],
                )
            assert image.attributes["alt"]


def test_all_links_of_the_page_lead_somewhere(out: Path, page: Element) -> None:
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    targets = [link.attributes["href"] for link in page.all("a")]
    assert len(targets) > 10
    for target in targets:
        assert target.removeprefix("#") in ids if target.startswith("#") else (out / target).is_file()


def test_my_runs_come_first_one_row_for_each_group(page: Element) -> None:
    first = next(page.all("section"))
    assert (first.attributes["id"], next(first.all("caption")).text) == ("my-runs", "My runs")
    rows = first.rows()
    assert [(row["run"], row["seeds"], row["value"], row["verdict"]) for row in rows] == [
        ("box-kite", "", "failed at step 0", ""),
        ("dart", "1", "3.00mean height (m) ↑", ""),
        (
            "red-kite",
            "3",
            "103.00 [100.52, 105.48]mean height (m) ↑; standard error over the split 0.50",
            "✓ reached (+3.00)",
        ),
        ("red-kitelayers=2, max_steps=7", "1", "0.250tilt (rad) ↓", "~ shortened (+0.200)"),
        ("red-kitelayers=3", "", "running at step 10", ""),
    ]
    assert rows[2]["compared with"] == "100.00Wright 1903, Table 2"


def test_every_row_leads_to_a_section_with_all_that_there_is(some_runs: Path, out: Path, page: Element) -> None:
    rows = next(next(page.all("section")).all("tbody")).children
    sections = [page.named(next(row.all("th")).children[0].attributes["href"][1:]) for row in rows]
    assert [section.tag for section in sections] == ["article"] * len(rows)
    assert sections == list(page.named("each").all("article"))
    kite, short = sections[2], sections[3]
    commands = [cell.text for cell in kite.all("td") if cell.attributes["data-label"] == "command"]
    assert commands == [f"genbench experiment=red-kite seed={seed}" for seed in (1, 2, 3)]
    captions = [caption.text for caption in kite.all("figcaption")]
    assert captions == ["kite, after training", "sky, after training", "kite, before training"]
    for section, count in ((kite, 3), (short, 1)):
        pictures = [(out / image.attributes["src"]).read_bytes() for image in section.all("img")]
        assert len(set(pictures)) == count
    settings = next(table for table in short.all("table") if "changed ones bold" in table.text)
    marked = [[cell.text for cell in row.children] for row in settings.all("tr") if list(row.all("strong"))]
    assert marked == [["model.layers", "2"], ["trainer.max_steps", "7"]]
    assert {"key": "optimizer.lr", "value": "0.1"} in settings.rows()


def test_a_running_run_shows_how_far_it_is(page: Element) -> None:
    section = list(page.named("each").all("article"))[-1]
    (row,) = next(table for table in section.all("table") if "Commands" in table.text).rows()
    assert row["command"] == "genbench experiment=red-kite model.layers=3 seed=4"
    assert row["status"].startswith("running")
    assert row["note"] == "step 10: valid/tilt 0.8"
    assert [caption.text for caption in section.all("figcaption")] == ["so far"]


def test_my_runs_have_thumbnails_of_their_covers(page: Element) -> None:
    rows = next(next(page.all("section")).all("tbody")).children
    images = [next(row.children[0].all("img"), None) for row in rows]
    assert [image is not None for image in images] == [False, False, True, True, False]
    assert images[2]
    source = images[2].attributes["src"]
    with Image.open(io.BytesIO(b64decode(source.removeprefix("data:image/png;base64,")))) as picture:
        assert max(picture.size) <= 240


def test_every_cell_names_its_column(page: Element) -> None:
    """On a phone, where there is no room for columns, every row is a list of its cells."""
    tables = list(page.all("table"))
    assert len(tables) > 10
    for table in tables:
        titles = [cell.text for cell in next(table.all("thead")).all("th")]
        for row in next(table.all("tbody")).children:
            labels = [cell.attributes.get("data-label", "") for cell in row.children]
            assert labels == titles
            assert "".join(labels[1:])


def test_families_compare_their_groups(page: Element) -> None:
    section = page.named("family-kites")
    (tilt,) = (table for table in section.all("table") if "tilt (rad)" in next(table.all("caption")).text)
    assert [row["experiment"] for row in tilt.rows()] == ["red-kite", "red-kitelayers=2, max_steps=7"]
    captions = [caption.text for caption in section.all("figcaption")]
    assert captions[:2] == [
        "tilt (rad) over training: red-kite, red-kite (layers=2, max_steps=7)",
        "heights: all runs of a sweep together",
    ]


def test_names_of_sections_are_never_taken_twice(make_run: MakeRun, outputs: Path, tmp_path: Path) -> None:
    """A family may be called as a section of the page, and directories may be called alike."""
    for name, title in (("a", "Published"), ("b", "published"), ("c", "Each")):
        for layers in (1, 2):
            run = make_run(
                name, 1, family=Family(title), changed={"model.layers": layers}, pictures=["figures/x.png"]
            )
            run.rename(outputs / name / f"seed {layers}" if layers == 1 else outputs / name / "seed=1")
        (outputs / name / "seed 1").rename(outputs / name / "seed_1")
        (outputs / name / "seed_1").rename(outputs / name / "seed-1")
    assert report(outputs, "--out", tmp_path / "out") == 0
    root = Page(tmp_path / "out" / "index.html").root
    ids = [element.attributes["id"] for element in root.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    assert len(list((tmp_path / "out" / "results").glob("*figures-x.png"))) == 6


def test_pictures_that_would_be_called_alike_are_all_there(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of sweeps in two output roots, and of two families."""
    roots = [tmp_path / place / "outputs" for place in ("here", "there")]
    for root, experiment, title in zip(roots, ("red-kite", "box-kite"), ("Kites", "KITES"), strict=True):
        for layers in (1, 2):
            make_run(experiment, family=Family(title), changed={"model.layers": layers}, root=root)
        draw(root / f"{root.parent.name}.png", title)
        (root / f"{root.parent.name}.png").rename(root / "sweep-heights.png")
    monkeypatch.chdir(tmp_path)
    first, second = (roots[0] / "red-kite").iterdir()
    assert report(first, second.relative_to(tmp_path), roots[1], "--out", "out") == 0
    shown = re.findall(r"\]\(results/([^)]+)\)", Path("out", "results.md").read_text(encoding="utf-8"))
    assert sorted(shown) == [
        *("kites-valid-tilt-1-2.png", "kites-valid-tilt-1.png"),
        *("outputs-sweep-heights-2.png", "outputs-sweep-heights.png"),
    ]
    drawn = {Path("out", "results", name).read_bytes() for name in shown if "sweep" in name}
    assert drawn == {(root / "sweep-heights.png").read_bytes() for root in roots}


# All files


def test_all_files_say_the_same(out: Path) -> None:
    files = {"index.html", "results.md", "results.csv", "results.json", "results"}
    assert {path.name for path in out.iterdir()} == files
    machine = json.loads((out / "results.json").read_text(encoding="utf-8"))
    with (out / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(machine["results"]) == 5
    row = next(row for row in rows if row["metric"] == "test/height" and row["n"] == "3")
    assert (row["family"], row["experiment"], row["changed"], row["seeds"]) == ("Kites", "red-kite", "", "1 2 3")
    assert (row["unit"], row["better"], row["truth"], row["standard_error"]) == ("m", "higher", "104.0", "0.5")
    assert (row["published"], row["source"]) == ("100.0", "Wright 1903, Table 2")
    assert (row["difference"], row["verdict"]) == ("3.0", "reached")
    assert [float(value) for value in row["values"].split()] == [102.0, 103.0, 104.0]
    assert json.loads(row["protocol"]) == {"dataset": "arcs", "split": "30/20/10", "wind": "none"}
    assert float(row["final"]) == 103.0
    for name in ("index.html", "results.md"):
        text = (out / name).read_text(encoding="utf-8").replace("\\", "")
        assert "103.00 [100.52, 105.48]" in text
        assert all(r["experiment"] in text for r in rows)


def test_what_repeats_a_run_is_in_the_json(out: Path) -> None:
    machine = json.loads((out / "results.json").read_text(encoding="utf-8"))
    run = next(run for run in machine["runs"] if run["changes"] == {"model.layers": "2", "trainer.max_steps": "7"})
    assert run["command"] == "genbench experiment=red-kite model.layers=2 trainer.max_steps=7 seed=1"
    assert (run["git_commit"], run["device"], run["versions"]) == ("0123456789abcdef0123", "a test", {"torch": "2.4"})
    assert (run["status"], run["step"], run["steps_per_second"]) == ("done", 20, 50.0)
    assert {Path(row["path"]).parent.name for row in machine["left_out"]} == {"box-kite", "figures"}


def test_in_markdown_a_family_of_one_group_has_what_it_measured(out: Path) -> None:
    text = (out / "results.md").read_text(encoding="utf-8")
    alone = text[text.index("## Planes, ") :].split("\n## ")[0]
    assert "| mean height (m) ↑ | 3.0" in alone
    assert "**Measured**" not in text[text.index("## Kites") :].split("\n## ")[0]


def test_the_markdown_links_to_pictures_that_are_there(out: Path) -> None:
    text = (out / "results.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) == 4  # a comparison, a sweep, two covers
    assert all((out / path).is_file() for path in targets)


def test_what_is_left_out_is_said(some_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(some_runs, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().err
    page = Page(tmp_path / "out" / "index.html").root
    for words in (
        "summary.json cannot be read",
        "another version of genbench: repeat genbench experiment=box-kite seed=3",
        "torn-end.png",
        "cannot be read",
    ):
        assert words in said
        assert words in page.named("problems").text
    assert "9 run directories: 5 done, 1 failed, 1 running, 2 left out; on a test; PyTorch 2.4." in page.text


def test_published_values_that_nothing_was_run_for_are_listed(
    make_run: MakeRun, outputs: Path, tmp_path: Path
) -> None:
    """Compared, too, is what no task calls a quantity."""
    everything = missing(())
    pairs = itertools.pairwise(everything)
    experiment, told, other = next((a, one, two) for (a, one), (b, two) in pairs if a == b and one.label != two.label)
    logged = {10: {told.metric: told.value}, 20: {told.metric: told.value}}
    make_run(experiment, 1, logged, protocol=told.protocol, references=[told])
    assert report(outputs, "--out", tmp_path / "out") == 0
    rows = Page(tmp_path / "out" / "index.html").root.named("published").rows()
    found = {tuple(row[key] for key in ("experiment", "metric", "published", "source")) for row in rows}
    assert len(found) == len(everything) - 1
    compared, listed = (
        (experiment, r.metric + " (best)" * (r.at == "best"), f"{r.value:.10g}", r.source) for r in (told, other)
    )
    assert compared not in found
    assert listed in found


def test_reports_of_the_same_runs_are_equal(some_runs: Path, out: Path, tmp_path: Path) -> None:
    assert report(some_runs, "--out", tmp_path / "two") == 0
    for path in out.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(out)).read_bytes()


# Bad input


def listing(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "outputs").mkdir()
    assert report(tmp_path / "outputs", "--out", tmp_path / "out") == 2
    assert "no runs in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_such_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(tmp_path / "nowhere", "--out", tmp_path / "out") == 2
    assert "is not a directory" in capsys.readouterr().err


def test_not_one_run_can_be_read(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run("red-kite", 1)
    (run / "summary.json").unlink()
    assert report(run, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "no run can be read" in said
    assert "summary.json is missing" in said
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_things_is_left_alone(make_run: MakeRun, outputs: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    make_run("red-kite", 1)
    out = tmp_path / "out"
    (out / "results").mkdir(parents=True)
    (out / "results.md").write_text("mine")
    (out / "results" / "other.png").write_text("mine too")
    before = listing(out)
    assert report(outputs, "--out", out) == 2
    assert "holds other things than a report" in capsys.readouterr().err
    assert listing(out) == before


def test_the_same_command_updates_a_report_and_nothing_else(make_run: MakeRun, outputs: Path, tmp_path: Path) -> None:
    gone = make_run("box-kite", pictures=["figures/kite-end.png"])
    make_run("red-kite", pictures=["figures/kite-end.png"])
    out = tmp_path / "out"
    assert report(outputs, "--out", out) == 0
    (out / "results" / "other.png").write_text("mine")
    (out / "notes.md").write_text("mine")
    (old,) = (path for path in (out / "results").iterdir() if path.name.startswith("box-kite"))
    shutil.rmtree(gone)
    assert report(outputs, "--out", out) == 0
    assert not old.exists()
    assert (out / "results" / "other.png").read_text() == (out / "notes.md").read_text() == "mine"
    assert "box-kite" not in (out / "results.md").read_text(encoding="utf-8")
    assert len([path for path in (out / "results").iterdir() if path.name.startswith("red-kite")]) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_an_empty_folder_is_written_to(make_run: MakeRun, outputs: Path, tmp_path: Path) -> None:
    make_run()
    (tmp_path / "out").mkdir()
    assert report(outputs, "--out", tmp_path / "out") == 0


def test_others_may_read_a_report(make_run: MakeRun, outputs: Path, tmp_path: Path) -> None:
    """As much as the file mode mask of the user allows, as for any other folder."""
    make_run()
    (tmp_path / "usual").mkdir()
    assert report(outputs, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_results_file_of_another_program_is_no_report(make_run: MakeRun, outputs: Path, tmp_path: Path) -> None:
    make_run()
    (tmp_path / "out").mkdir()
    for content in ('{"written_by": "another"}', "[]", "{"):
        (tmp_path / "out" / "results.json").write_text(content)
        assert report(outputs, "--out", tmp_path / "out") == 2
        assert (tmp_path / "out" / "results.json").read_text() == content


def test_a_link_to_an_empty_folder_stays_one(make_run: MakeRun, outputs: Path, tmp_path: Path) -> None:
    make_run("red-kite", 1)
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    assert report(outputs, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real" / "index.html").is_file()


def test_a_disk_that_fills_up_is_told_and_leaves_nothing(
    make_run: MakeRun,
    outputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_run("red-kite", 1, pictures=["figures/kite-end.png"])

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert report(outputs, "--out", tmp_path / "out") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_a_file_in_the_place_of_the_folder(make_run: MakeRun, outputs: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    make_run("red-kite", 1)
    (tmp_path / "out").write_text("mine")
    assert report(outputs, "--out", tmp_path / "out") == 2
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


# Differences


def test_the_difference_between_two_runs(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    one = make_run("box-kite", 1)
    other = make_run("red-kite", 4, changed={"model.layers": 2, "trainer.log_every": 7})
    assert report("--difference", one, other) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == [str(one), str(other)]
    assert lines[1:] == [["name", "box-kite", "red-kite"], ["seed", "1", "4"], ["model.layers", "8", "2"]]
    assert report("--difference", one, one) == 0
    assert capsys.readouterr().out == "the settings are equal\n"


def test_the_difference_needs_two_runs(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report("--difference", make_run(), tmp_path) == 2
    assert "is not a whole run directory: status.json is missing" in capsys.readouterr().err


# In a browser

# Appended to the page: what only a browser knows, written where --dump-dom shows it. The page is in a frame, since no
# window can be as narrow as a phone.
MEASURE = """<script>
onload = () => {
  const images = [...document.images], links = [...document.querySelectorAll("a")];
  parent.document.getElementById("said").textContent = JSON.stringify({
    window: innerWidth, width: document.documentElement.scrollWidth, images: images.length,
    broken: images.filter(image => !image.naturalWidth).length,
    columns: [...document.querySelectorAll("tbody th + td")].filter(cell => cell.offsetLeft > 99).length,
    font: getComputedStyle(document.body).fontFamily});
};
</script>"""


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(width: int, out: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    text = (out / "index.html").read_text(encoding="utf-8").replace(' loading="lazy"', "")
    text = text.replace('src="results/', f'src="{(out / "results").as_uri()}/')
    frame = f'<iframe srcdoc="{html.escape(text + MEASURE)}" style="width:{width}px;height:900px;border:0"></iframe>'
    (tmp_path / "measured.html").write_text(f'{frame}<pre id="said"></pre>', encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--enable-logging=stderr", "--v=0"]
    options += ["--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [browser, *options, (tmp_path / "measured.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    found = re.search(r'<pre id="said">(\{.*?\})</pre>', done.stdout)
    assert found, done.stdout[-2000:]
    said = json.loads(found[1].replace("&quot;", '"'))
    assert said["window"] == width
    assert said["width"] <= width  # tables scroll in themselves, the page does not
    assert said["broken"] == 0
    assert (said["columns"] > 0) == (width > 800)  # on a phone, cells are below each other
    assert said["images"] >= 6
    assert "sans-serif" in said["font"]  # the style sheet arrived whole
