from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genbench.train import main


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One place for what data sets cache during the tests."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def genbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_root: Path) -> Callable[..., int]:
    """`genbench(*words)` runs the command line in an empty directory and returns the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENBENCH_DATA", str(data_root))

    def call(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["genbench"])
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        return int(stop.value.code or 0)

    return call
