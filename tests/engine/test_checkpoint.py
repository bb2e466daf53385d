from __future__ import annotations

import errno
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genbench import atomic
from genbench.engine import checkpoint
from genbench.errors import GenbenchError

RUN = "0123abcd"


def state(step: int) -> dict:
    return {"run": RUN, "step": step, "weights": torch.full((1000,), float(step))}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_was_saved_is_loaded_and_old_ones_are_dropped(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, step, state(step), keep=2)
    assert names(tmp_path) == ["step-000000002.pt", "step-000000010.pt"]
    newest, older = checkpoint.newest_first(tmp_path)
    assert (newest.stem, older.stem) == ("step-000000010", "step-000000002")
    loaded = checkpoint.load(newest, RUN)
    assert loaded["step"] == 10
    assert torch.equal(loaded["weights"], state(10)["weights"])
    assert checkpoint.newest_first(tmp_path / "missing") == []


class Malicious:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch executed",)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    where = content.find(state(2)["weights"].numpy().tobytes()[:64])
    content[where + 100] ^= 0xFF  # within the tensor's data, invisible to the zip directory
    path.write_bytes(bytes(content))


def flip_in_the_directory(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.rfind(b"PK\x01\x02") + 30] ^= 0x01  # the length of a name's extra field
    path.write_bytes(bytes(content))


def empty_archive(path: Path) -> None:
    zipfile.ZipFile(path, "w").close()


def foreign_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


DAMAGED, FOREIGN = "is damaged", "is not a checkpoint of this version"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "bit flipped": (flip, DAMAGED),
    "bit flipped in the zip directory": (flip_in_the_directory, DAMAGED),
    "cut": (lambda path: os.truncate(path, path.stat().st_size // 2), DAMAGED),
    "emptied": (lambda path: os.truncate(path, 0), DAMAGED),
    "empty archive": (empty_archive, DAMAGED),
    "foreign archive": (foreign_archive, DAMAGED),
    "other tensors": (lambda path: torch.save({"weights": torch.ones(2)}, path), FOREIGN),
    "no dictionary": (lambda path: torch.save(torch.ones(2), path), FOREIGN),
    "malicious": (lambda path: torch.save(Malicious(), path), DAMAGED),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Malicious())), DAMAGED),
    "another run's": (
        lambda path: torch.save({"schema": checkpoint.SCHEMA} | state(2) | {"run": "ffffffff"}, path),
        "belongs to another run",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_or_foreign_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = checkpoint.save(tmp_path, 2, state(2), keep=2)
    spoil, reason = DAMAGE[damage]
    spoil(path)
    with pytest.raises(checkpoint.Unusable, match=reason):
        checkpoint.load(path, RUN)
    checkpoint.set_aside(path)
    assert names(tmp_path) == ["step-000000002.unusable"]  # and nothing was executed


def test_another_version_s_is_not_given_up(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 2, state(2) | {"schema": checkpoint.SCHEMA + 1}, keep=2)
    with pytest.raises(GenbenchError, match="another version of genbench"):
        checkpoint.load(path, RUN)


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    checkpoint.save(tmp_path, 1, state(1), keep=2)

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    where = {"write": (checkpoint.io, "BytesIO"), "fsync": (atomic.os, "fsync"), "replace": (Path, "replace")}
    monkeypatch.setattr(*where[broken], full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, 2, state(2), keep=2)
    assert names(tmp_path) == ["step-000000001.pt"]


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path) -> None:
    (tmp_path / ".step-000000001.pt.part").write_bytes(b"PK half")
    checkpoint.save(tmp_path, 2, state(2), keep=2)
    assert names(tmp_path) == ["step-000000002.pt"]
