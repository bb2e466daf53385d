"""Downloads from servers that stall, cut off, or send something else."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shared import serving

from genbench.data import download
from genbench.data.download import fetch

CONTENT = bytes(range(256)) * 500
MD5 = hashlib.md5(CONTENT).hexdigest()

Answer = Callable[[http.server.BaseHTTPRequestHandler, int], None]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "STALLED", 0.3)


@contextlib.contextmanager
def server(answer: Answer, ranges: list[str | None]) -> Iterator[str]:
    """The address of a server whose n-th answer is `answer(handler, n)`; `ranges` remembers what was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ranges.append(self.headers["Range"])
            with contextlib.suppress(OSError):
                answer(self, len(ranges))

    with serving(Handler, "digits.gz") as address:
        yield address


def send(handler: http.server.BaseHTTPRequestHandler, content: bytes, claimed: int | None = None) -> None:
    """What is asked for of `content`, saying that it has `claimed` bytes."""
    asked = handler.headers["Range"]
    start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
    handler.send_response(206 if asked else 200)
    handler.send_header("Content-Length", str((claimed or len(content)) - start))
    handler.end_headers()
    handler.wfile.write(content[start:])


def whole(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
    send(handler, CONTENT)


def stalls(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
    send(handler, b"", len(CONTENT))
    time.sleep(2)


def garbage(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
    send(handler, b"<html>please log in</html>")


def absent(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
    handler.send_error(404)


def no_http(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
    handler.wfile.write(b"SSH-2.0\r\n")


def cut(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
    send(handler, b"", len(CONTENT))


def piece_by_piece(handler: http.server.BaseHTTPRequestHandler, number: int) -> None:
    """Breaks off after another 30,000 bytes."""
    send(handler, CONTENT[: 30_000 * number], len(CONTENT))


def without_ranges(handler: http.server.BaseHTTPRequestHandler, number: int) -> None:
    """Breaks off once, and then sends everything again."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[:1000] if number == 1 else CONTENT)


def test_a_download_appears_complete(tmp_path: Path) -> None:
    with server(whole, []) as url:
        fetch([url], tmp_path / "new" / "digits.gz", "md5", MD5)
    assert (tmp_path / "new" / "digits.gz").read_bytes() == CONTENT
    assert os.listdir(tmp_path / "new") == ["digits.gz"]


@pytest.mark.parametrize("answer", [stalls, garbage, absent, no_http, cut])
def test_what_fails_ends_and_leaves_nothing(answer: Answer, tmp_path: Path) -> None:
    start = time.monotonic()
    with server(answer, []) as url, pytest.raises(OSError, match=r"digits\.gz: ") as error:
        fetch([url], tmp_path / "new" / "digits.gz", "md5", MD5)
    assert url in str(error.value)
    assert time.monotonic() - start < 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", [stalls, garbage, absent, no_http, cut])
def test_the_next_address_is_tried(answer: Answer, tmp_path: Path) -> None:
    with server(answer, []) as first, server(whole, []) as second:
        fetch([first, second], tmp_path / "digits.gz", "md5", MD5)
    assert (tmp_path / "digits.gz").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["digits.gz"]


def test_a_download_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    """As often as it takes, as long as each attempt brings something."""
    ranges: list[str | None] = []
    with server(piece_by_piece, ranges) as url:
        fetch([url], tmp_path / "digits.gz", "md5", MD5)
    assert (tmp_path / "digits.gz").read_bytes() == CONTENT
    assert ranges == [None, "bytes=30000-", "bytes=60000-", "bytes=90000-", "bytes=120000-"]


def test_a_server_that_knows_no_ranges_starts_again(tmp_path: Path) -> None:
    with server(without_ranges, []) as url:
        fetch([url], tmp_path / "digits.gz", "md5", MD5)
    assert (tmp_path / "digits.gz").read_bytes() == CONTENT


def test_parts_of_killed_processes_are_cleared_away(tmp_path: Path) -> None:
    old, new, other = (tmp_path / f".{name}.part" for name in ("digits.gz.1", "digits.gz.2", "letters.gz.1"))
    for part in (old, new, other):
        part.write_bytes(b"1")
    for part in (old, other):
        os.utime(part, (1, 1))
    with server(whole, []) as url:
        fetch([url], tmp_path / "digits.gz", "md5", MD5)
    assert sorted(tmp_path.iterdir()) == sorted([new, other, tmp_path / "digits.gz"])
