"""What is read from pages that the report writes, and from the page of sources."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from genbench import compose
from genbench.catalogue import pages

DOCS = Path(__file__).parent.parent.parent / "docs"

RESULTS = """\
**My runs**

| run | seeds | value | time |
|---|---:|---:|---:|
| kite-1 | 1 | 3.14 | 9 s |

**Speed and cost** · means over runs

| experiment | runs | steps | training | wall time | memory | device |
|---|---:|---:|---:|---:|---:|---|
| kite-1 | 3 | 10 | 2 s | 7.04 s | 1 MiB | cpu (x86\\_64, 1 thread)<br>fp32 |
| kite-1 | 1 | 10 | 1 s | 2.5 s | 1 MiB | NVIDIA H100<br>tf32 |
| kite-2<br>trainer.epochs 40 → 3 | 1 | 5 | 2 s | 8 s | 1 MiB | cpu (x86\\_64, 2 threads)<br>fp32 |

| experiment | seeds | final |
|---|---:|---:|
| kite-3 | 1 | 2 |
"""
EARLIER = """\
| experiment | wall time | device |
|---|---:|---|
| kite-1 | 99 s | cpu |
| kite-4 | 40 s | cpu |
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / "docs" / "results.md").write_text(RESULTS, encoding="utf-8")
    (tmp_path / "docs" / "results" / "earlier.md").write_text(EARLIER, encoding="utf-8")
    monkeypatch.setattr(compose, "CONFIG_DIRECTORY", tmp_path / "conf")
    pages._times.cache_clear()
    yield
    pages._times.cache_clear()


@pytest.mark.usefixtures("written")
def test_times_are_those_of_unchanged_runs_in_the_newest_results() -> None:
    assert pages.times("kite-1") == [
        pages.Time("7.04 s", "CPU (x86_64, 1 thread)", "docs/results.md"),
        pages.Time("2.5 s", "NVIDIA H100", "docs/results.md"),
    ]
    assert pages.times("kite-4") == [pages.Time("40 s", "cpu", "docs/results/earlier.md")]


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("name", ["kite-2", "kite-3", "nothing"])
def test_nothing_is_said_where_nothing_was_measured(name: str) -> None:
    assert pages.times(name) == []


def test_the_results_of_today_are_understood() -> None:
    """Every row that says how much memory a run took on which device."""
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w-]+) \|.* \| (\S+)\s(\w+) \| [\d,]+ MiB \| (\w+)", text, re.MULTILINE)
    assert len(rows) > 20
    written = defaultdict(list)
    for name, duration, unit, device in rows:
        written[name].append((f"{duration} {unit}", device.replace("cpu", "CPU")))
    for name, expected in written.items():
        assert [(time.duration, time.device.split()[0]) for time in pages.times(name)] == expected


def test_a_source_is_what_its_page_says() -> None:
    assert pages.source("report 000, Q1.6").startswith("report 000: IFT6135 Representation Learning")
    assert "2005.02494, kwotsin/mimicry" in pages.source("SNGAN in mimicry, 100k steps")
    assert pages.source("Rezende & Mohamed 2015, 80 maps").startswith("Rezende & Mohamed 2015: D. J. Rezende")
    assert pages.source("report 0001") == pages.source("key") == ""


def test_every_published_value_has_a_source_that_is_explained() -> None:
    for path in (DOCS.parent / "conf" / "experiment").glob("*.yaml"):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8")).get("reference", []):
            assert re.match(r".+: .+", pages.source(entry["source"])), entry
