from __future__ import annotations

import contextlib
import hashlib
import http.client
import http.server
import os
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from shared import serving

from genbench.data.files import DataFile, cached, ensure
from genbench.errors import DataError

CONTENT = b"0 1 1 0\n"
URL = "http://data.example/set/digits.amat"
FILE = DataFile("set/digits.amat", URL, hashlib.md5(CONTENT).hexdigest())


@contextlib.contextmanager
def serve(content: bytes | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on this machine that answers with `content`, or 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content or b"")

    monkeypatch.setenv("no_proxy", "*")
    with serving(Handler, "digits.amat") as address:
        yield address


def no_download(*_: object) -> None:
    raise AssertionError("a download, though the file is there")


@pytest.fixture
def present(tmp_path: Path) -> Path:
    path = tmp_path / FILE.path
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


class TestEnsure:
    def test_a_file_that_is_there_and_right_is_not_downloaded(
        self, tmp_path: Path, present: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("genbench.data.files.fetch", no_download)
        assert ensure(tmp_path, FILE) == present

    @pytest.mark.parametrize("damage", [b"", b"0 1 1 1\n", CONTENT[:-1]])
    def test_a_damaged_file_is_refused_and_kept(
        self, damage: bytes, tmp_path: Path, present: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("genbench.data.files.fetch", no_download)
        present.write_bytes(damage)
        with pytest.raises(DataError, match="checksum") as error:
            ensure(tmp_path, FILE)
        for word in (str(present), FILE.md5, hashlib.md5(damage).hexdigest(), "delete", URL):
            assert word in str(error.value)
        assert present.read_bytes() == damage  # the user's file: not ours to delete

    def test_without_a_network_the_message_names_file_address_and_target(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def download(*_: object, **__: object) -> None:
            raise urllib.error.URLError("Name or service not known")

        monkeypatch.setattr("urllib.request.urlopen", download)
        with pytest.raises(DataError) as error:
            ensure(tmp_path, FILE)
        for word in ("digits.amat", URL, str(tmp_path / FILE.path), "Name or service not known", "GENBENCH_DATA"):
            assert word in str(error.value)

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, http.client.IncompleteRead])
    def test_an_interrupted_download_leaves_nothing(
        self, interruption: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def go_on(_url: str, part: Path, _have: int) -> None:
            assert part.name != "digits.amat"  # else a crash would leave half a file there
            part.write_bytes(CONTENT[:3])
            raise interruption(b"")

        monkeypatch.setattr("genbench.data.download._go_on", go_on)
        with pytest.raises(KeyboardInterrupt if interruption is KeyboardInterrupt else DataError):
            ensure(tmp_path / "new root", FILE)
        assert list(tmp_path.iterdir()) == []

    def test_a_download_of_something_else_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A login page instead of the data, say."""
        with serve(b"please log in", monkeypatch) as url, pytest.raises(DataError, match="cannot be downloaded"):
            ensure(tmp_path, DataFile("digits.amat", url, FILE.md5))
        assert list(tmp_path.iterdir()) == []

    def test_a_real_download(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with serve(CONTENT, monkeypatch) as url:
            path = ensure(tmp_path, DataFile("digits.amat", url, FILE.md5))
        assert path.read_bytes() == CONTENT
        assert list(tmp_path.iterdir()) == [path]

    def test_a_real_address_without_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with serve(None, monkeypatch) as url, pytest.raises(DataError, match="404"):
            ensure(tmp_path, DataFile("digits.amat", url, FILE.md5))
        assert list(tmp_path.iterdir()) == []

    def test_a_root_that_cannot_be_written_to(self, tmp_path: Path) -> None:
        (tmp_path / "root").write_text("a file where the directory should be")
        with pytest.raises(DataError, match="cannot be downloaded"):
            ensure(tmp_path / "root", FILE)


class Parser:
    """Counts how often it is called."""

    def __init__(self) -> None:
        self.calls = 0
        random = np.random.RandomState(0)
        self.arrays = {
            "bits": random.randint(0, 2, (7, 1, 3, 3)).astype(np.uint8),
            "grey": random.randint(0, 256, (7, 5)).astype(np.uint8),
            "one": np.ones((1,), np.uint8),
            "none": np.zeros((0, 4), np.uint8),
        }

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return self.arrays


def assert_same(arrays: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(arrays) == set(expected)
    for key, array in expected.items():
        assert arrays[key].dtype == array.dtype
        np.testing.assert_array_equal(arrays[key], array)


class TestCached:
    def test_parses_once_and_gives_the_same_arrays(self, tmp_path: Path, present: Path) -> None:
        parse = Parser()
        for _ in range(3):
            assert_same(cached(tmp_path, "digits", [present], parse), parse.arrays)
        assert parse.calls == 1
        assert os.listdir(tmp_path / ".cache") == ["digits.npz"]

    def test_binary_images_take_a_bit_per_pixel(self, tmp_path: Path, present: Path) -> None:
        images = np.random.RandomState(0).randint(0, 2, (1000, 28, 28)).astype(np.uint8)
        cached(tmp_path, "digits", [present], lambda: {"images": images})
        assert (tmp_path / ".cache" / "digits.npz").stat().st_size < 1.05 * images.size / 8

    @pytest.mark.parametrize("change", ["size", "time"])
    def test_parses_again_when_a_source_has_changed(self, change: str, tmp_path: Path, present: Path) -> None:
        parse = Parser()
        cached(tmp_path, "digits", [present], parse)
        if change == "size":
            present.write_bytes(CONTENT + b"0 0 0 0\n")
        else:
            os.utime(present, ns=(1, 1))
        cached(tmp_path, "digits", [present], parse)
        assert parse.calls == 2

    @pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other"])
    def test_a_damaged_cache_is_rebuilt(self, damage: str, tmp_path: Path, present: Path) -> None:
        parse = Parser()
        cached(tmp_path, "digits", [present], parse)
        cache = tmp_path / ".cache" / "digits.npz"
        good = cache.read_bytes()
        if damage == "truncated":
            cache.write_bytes(good[: len(good) // 2])
        elif damage == "flipped":  # in the compressed data of the grey values: only a check sum can tell
            place = good.index(b"grey.npy") + 60
            cache.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        elif damage == "empty":
            cache.write_bytes(b"")
        else:
            np.savez(cache, something=np.ones(3))
        for _ in range(2):
            assert_same(cached(tmp_path, "digits", [present], parse), parse.arrays)
        assert parse.calls == 2

    def test_every_flipped_bit_is_noticed_or_harmless(self, tmp_path: Path, present: Path) -> None:
        parse = Parser()
        cached(tmp_path, "digits", [present], parse)
        cache = tmp_path / ".cache" / "digits.npz"
        good = cache.read_bytes()
        for place in range(0, len(good), 7):
            cache.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
            assert_same(cached(tmp_path, "digits", [present], parse), parse.arrays)

    def test_a_root_that_cannot_be_written_to_has_no_cache(self, tmp_path: Path, present: Path) -> None:
        (tmp_path / ".cache").write_text("a file where the directory should be")
        parse = Parser()
        for _ in range(2):
            assert_same(cached(tmp_path, "digits", [present], parse), parse.arrays)
        assert parse.calls == 2
