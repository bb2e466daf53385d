"""A file is there as a whole, whoever writes it and whatever happens meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

from genbench.atomic import replacing


def test_of_two_that_write_at_once_each_writes_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as first:
        first.write(b"first, ")
        with replacing(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
        first.write(b"and whole")
    assert path.read_bytes() == b"first, and whole"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_goes_after_a_while(tmp_path: Path) -> None:
    old, new, other = (tmp_path / f".{name}.part" for name in ("file.1", "file.2", "letter.1"))
    for part in (old, new, other):
        part.write_bytes(b"half")
    for part in (old, other):
        os.utime(part, (1, 1))
    with replacing(tmp_path / "file") as file:
        file.write(b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([new, other, tmp_path / "file"])
