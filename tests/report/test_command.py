"""`genbench-report` from run directories to its four files, and what it says to bad input."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genbench.commands.report import main

MakeRun = Callable[..., Path]
FID = {"n_generated": 5000, "n_reference": 50000, "inception_weights": "f0de"}


def report(*words: object) -> int:
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def some_runs(make_run: MakeRun, outputs: Path) -> Path:
    """Three seeds of a VAE, a GAN, a Dirac pair, one that failed with markup in its error, and one cut off."""
    noise = np.random.default_rng(0)
    for seed in (1, 2, 3):
        curve = [(step, -100.0 - 100.0 / step + noise.normal()) for step in range(10, 210, 10)]
        make_run("vae-binmnist-L100", seed, {"valid/elbo": curve, "valid/kl": [(s, 20.0) for s, _ in curve]})
    gan = {
        "train/jsd": [(step, 0.3) for step in range(0, 100, 10)],
        "eval/jsd": [(step, 0.3) for step in range(0, 100, 10)],
        "eval/fid": [(0, 300.0), (50, 40.0), (90, 55.0)],
    }
    run = make_run("cifar10-jsd-3", 1, gan, protocol={"dataset": "cifar10", "eval/fid": FID})
    for folder, name in (("samples", "generated-end"), ("figures", "stages-end")):
        (run / folder).mkdir()
        Image.fromarray(noise.integers(0, 255, (64, 900, 3), dtype=np.uint8)).save(run / folder / f"{name}.png")
    for name in ("dirac-w1-1", "dirac-w1-6"):
        run = make_run(name, 1, {"eval/distance": [(5, 0.5), (10, 0.4)]}, protocol={"dataset": "dirac"})
        (run / "figures").mkdir()
        Image.new("RGB", (600, 500), "white").save(run / "figures" / "trajectory-end.png")
    (run / "figures" / "trajectory-end.png").write_bytes(b"no picture")
    make_run("dirac-jsd-1", 1, {}, status="failed", details={"error": "ValueError: <script>alert(1)</script>"})
    damaged = make_run("dirac-jsd-2", 1, {"eval/distance": [(5, 0.5)]})
    (damaged / "summary.json").write_text("{")
    return outputs


class Page(HTMLParser):
    """What a page refers to, and the text of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.captions = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.tags.append(tag)
        self.loaded += [value for key in ("src", "srcset", "data", "poster") if (value := found.get(key))]
        self.loaded += [str(found["href"])] if tag in ("link", "base") else []
        if tag == "img":
            self.images.append(found)
        if tag == "a":
            self.links.append(str(found["href"]))
        if "id" in found:
            self.ids.add(str(found["id"]))


def test_the_page_needs_nothing_from_outside(some_runs: Path, tmp_path: Path) -> None:
    assert report(some_runs, "--out", tmp_path / "out") == 0
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert [source for source in page.loaded if not source.startswith("data:")] == []
    assert not re.search(r"url\(|@import|https?://", text)
    assert "script" not in page.tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert page.links
    assert {link.removeprefix("#") for link in page.links} <= page.ids
    assert len(page.images) >= 6
    for image in page.images:
        assert image["alt"]
        source = str(image["src"])
        assert source.startswith("data:image/png;base64,")
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
            assert (str(picture.width), str(picture.height)) == (image["width"], image["height"])


def test_all_files_say_the_same(some_runs: Path, tmp_path: Path) -> None:
    assert report(some_runs, "--out", tmp_path / "out") == 0
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "index.html",
        "results.md",
        "results.csv",
        "results.json",
        "results",
    }
    machine = json.loads((out / "results.json").read_text(encoding="utf-8"))
    with (out / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (row, _) = (r for r in rows if r["experiment"] == "vae-binmnist-L100" and r["metric"] == "valid/elbo")
    assert len(rows) == len(machine["results"])
    assert (row["n"], row["seeds"], row["verdict"], row["published"]) == ("3", "1 2 3", "reached", "-100.99")
    values = [float(value) for value in row["values"].split()]
    assert float(row["final"]) == pytest.approx(np.mean(values))
    shown = f"{np.mean(values):.2f}".replace("-", "−")
    for name in ("index.html", "results.md"):
        text = (out / name).read_text(encoding="utf-8")
        assert shown in text
        for experiment in {r["experiment"] for r in rows}:
            assert experiment in text
    (run,) = (r for r in machine["runs"] if r["experiment"] == "cifar10-jsd-3")
    assert run["command"] == "genbench experiment=cifar10-jsd-3 seed=1"
    assert (run["git_commit"], run["device"], run["versions"]["torch"]) == ("0123456789abcdef", "cpu (test)", "2.4")


def test_the_markdown_links_to_pictures_that_are_there(some_runs: Path, tmp_path: Path) -> None:
    assert report(some_runs, "--out", tmp_path / "out") == 0
    targets = re.findall(r"\]\(([^)]+)\)", (tmp_path / "out" / "results.md").read_text(encoding="utf-8"))
    pictures = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out" / "results").iterdir()}
    assert set(targets) == pictures
    assert all((tmp_path / "out" / path).stat().st_size < 300 * 1024 for path in pictures)


def test_what_is_skipped_is_said(some_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(some_runs, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().err
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    for words in ("dirac-jsd-2", "summary.json cannot be read", "trajectory-end.png", "cannot be read"):
        assert words in said
        assert words in text
    assert "8 run directories, 7 whole, 6 done" in text


def test_the_gap_between_final_and_best_fid_is_told(some_runs: Path, tmp_path: Path) -> None:
    assert report(some_runs, "--out", tmp_path / "out") == 0
    text = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert "FID ends 15.00 above its best" in text
    assert "| cifar10-jsd-3 | 1 | 55.00 | 40.00 | 15.00 | 25.80 (best) |" in text


def test_reports_of_the_same_runs_are_equal(some_runs: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert report(some_runs, "--out", tmp_path / name) == 0
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


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
    run = make_run("vae-binmnist-L100", 1)
    (run / "summary.json").unlink()
    assert report(run, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "no run can be read" in said
    assert "summary.json is missing" in said
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_left_alone(make_run: MakeRun, outputs: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    make_run("vae-binmnist-L100", 1)
    out = tmp_path / "out"
    (out / "results").mkdir(parents=True)
    (out / "results.md").write_text("mine")
    (out / "results" / "other.png").write_text("mine too")
    before = listing(out)
    assert report(outputs, "--out", out) == 2
    assert "exists already" in capsys.readouterr().err
    assert listing(out) == before


def test_force_replaces_a_report_and_nothing_else(make_run: MakeRun, outputs: Path, tmp_path: Path) -> None:
    gone = make_run("vae-binmnist-L2", 1)
    (gone / "figures").mkdir()
    Image.new("RGB", (60, 50)).save(gone / "figures" / "manifold-end.png")
    make_run("vae-binmnist-L100", 1)
    out = tmp_path / "out"
    assert report(outputs, "--out", out) == 0
    (out / "results" / "other.png").write_text("mine")
    (out / "notes.md").write_text("mine")
    (old,) = (path for path in (out / "results").iterdir() if "manifold" in path.name)
    shutil.rmtree(gone)
    assert report(outputs, "--out", out, "--force") == 0
    assert not old.exists()
    assert (out / "results" / "other.png").read_text() == (out / "notes.md").read_text() == "mine"
    assert "vae-binmnist-L2 " not in (out / "results.md").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_a_link_to_an_empty_folder_stays_one(make_run: MakeRun, outputs: Path, tmp_path: Path) -> None:
    make_run("vae-binmnist-L100", 1)
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
    make_run("vae-binmnist-L100", 1)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert report(outputs, "--out", tmp_path / "out") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_a_file_in_the_place_of_the_folder(make_run: MakeRun, outputs: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    make_run("vae-binmnist-L100", 1)
    (tmp_path / "out").write_text("mine")
    assert report(outputs, "--out", tmp_path / "out", "--force") == 2
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


# Differences


def test_the_difference_between_two_runs(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    one = make_run("dirac-w1-2", 1, {"eval/distance": [(5, 0.5)]})
    other = make_run("dirac-w1-3", 4, {"eval/distance": [(5, 0.5)]})
    assert report("--difference", one, other) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [
        ["name", "dirac-w1-2", "dirac-w1-3"],
        ["seed", "1", "4"],
        ["regularizer.coefficient", "0.01", "0.1"],
    ]
    assert report("--difference", one, one) == 0
    assert capsys.readouterr().out == "the configurations are equal\n"


def test_the_difference_needs_two_runs(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run("dirac-w1-2", 1, {"eval/distance": [(5, 0.5)]})
    assert report("--difference", run, tmp_path) == 2
    assert "is not a whole run directory" in capsys.readouterr().err


# In a browser

# Appended to the page: what only a browser knows, written where --dump-dom shows it. The page is in a frame, since no
# window can be as narrow as a phone.
MEASURE = """<script>
onload = () => {
  const images = [...document.images], links = [...document.querySelectorAll("a")];
  parent.document.getElementById("said").textContent = JSON.stringify({
    window: innerWidth, width: document.documentElement.scrollWidth, images: images.length,
    broken: images.filter(image => !image.naturalWidth).length,
    dead: links.filter(link => !document.getElementById(link.getAttribute("href").slice(1))).length,
    font: getComputedStyle(document.body).fontFamily});
};
</script>"""


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(width: int, some_runs: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    assert report(some_runs, "--out", tmp_path / "out") == 0
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8").replace(' loading="lazy"', "")
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
    assert (said["broken"], said["dead"]) == (0, 0)
    assert said["images"] >= 6
    assert "sans-serif" in said["font"]  # the style sheet arrived whole
