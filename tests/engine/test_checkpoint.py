from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genbench.engine import checkpoint


def state(step: int) -> dict:
    return {"step": step, "weights": torch.full((1000,), float(step))}


def test_the_newest_is_loaded_and_old_ones_are_dropped(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, step, state(step), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000002.pt", "step-000000010.pt"]
    loaded, damaged = checkpoint.load_newest(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 10
    assert torch.equal(loaded["weights"], state(10)["weights"])
    assert damaged == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_newest_good_one(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, state(step), keep=2)
    newest = tmp_path / "step-000000002.pt"
    content = bytearray(newest.read_bytes())
    if damage == "flip":
        where = content.find(state(2)["weights"].numpy().tobytes()[:64])
        content[where + 100] ^= 0xFF  # a bit error within the tensor's data, invisible to the zip directory
    elif damage == "truncate":
        content = content[: len(content) // 2]
    else:
        content = bytearray()
    newest.write_bytes(bytes(content))
    loaded, damaged = checkpoint.load_newest(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1
    assert damaged == [newest]


def test_nothing_to_load(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path / "missing") == (None, [])


def test_a_failed_write_leaves_the_old_file_and_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, 1, state(1), keep=2)

    def full_disk(_: object, file) -> None:  # type: ignore[no-untyped-def]
        file.write(b"PK half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, 2, state(2), keep=2)
    loaded, damaged = checkpoint.load_newest(tmp_path)
    assert loaded is not None
    assert (loaded["step"], damaged) == (1, [])
