"""Links of the built documentation; `make docs` builds it."""

from __future__ import annotations

from pathlib import Path

import check_links
import pytest


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "index.html").write_text('<h1 id="start">Start</h1><a href="docs/usage.html#sweeps%C3%A9">Usage</a>')
    (tmp_path / "docs" / "usage.html").write_text(
        '<h2 id="sweepsé">Sweeps</h2><a href="../">Start</a><a href="#top">Top</a><img src="a%20b.png">'
        '<a href="https://example.org/x">Elsewhere</a><a href="mailto:somebody@example.org">Write</a>'
    )
    (tmp_path / "docs" / "a b.png").touch()
    return tmp_path


def test_links_that_lead_somewhere(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_links.main([str(site)]) == 0
    told = capsys.readouterr()
    assert "https://example.org/x  (docs/usage.html)" in told.out
    assert told.err == ""


@pytest.mark.parametrize(
    "link",
    [
        '<a href="nowhere.html">',
        '<a href="../index.html#nowhere">',
        '<a href="#nowhere">',
        '<img alt="" src="nowhere.png">',
        '<picture><source media="print" srcset="nowhere.png 2x"></picture>',
        '<link rel="stylesheet" href="nowhere.css">',
    ],
)
def test_links_that_lead_nowhere(link: str, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (site / "docs" / "usage.html").open("a") as page:
        page.write(link)
    assert check_links.main([str(site)]) == 1
    assert "leads nowhere: docs/usage.html: " in capsys.readouterr().err
