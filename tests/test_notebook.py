"""The notebook runs from its first cell to its last, and holds what a run of it made."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebooks" / "explore.ipynb"
SMALL = {
    "experiment=vae-mnist5k": ("task.importance_images=20",),
    "experiment=pixelcnn-mnist5k": ("model.channels=4", "model.blocks=2"),
}
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_its_cells_run(
    genbench: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others_run = subprocess.run

    def run(words: Sequence[str], **options: Any) -> Any:
        """`genbench` in this process, small; a new one would take seconds, and say nothing else."""
        program, experiment, *settings = words
        if program != "genbench":
            return others_run(words, **options)
        assert options == {"check": True, "capture_output": True}
        return genbench(experiment, *settings, *SMALL[experiment])

    monkeypatch.setattr(subprocess, "run", run)
    matplotlib.use("Agg")
    first, *others = ("".join(cell["source"]) for cell in CELLS)
    names: dict[str, object] = {}
    for source in (first.replace("SETTINGS = []", 'SETTINGS = ["trainer.max_steps=2"]'), *others):
        exec(compile(source, str(NOTEBOOK), "exec"), names)
    told = capsys.readouterr().out
    assert "nats   exact" in told
    assert "lower bound" in told
    assert "difference" in told


def test_it_is_executed() -> None:
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert not any(output["output_type"] == "error" for output in outputs)
