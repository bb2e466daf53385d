from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genbench.data import binmnist
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


@pytest.fixture
def tiny_binmnist(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty random binary images in each of the three `.amat` files that the data set expects."""
    files = {}
    for split, file in binmnist.FILES.items():
        rows = np.random.RandomState(len(split)).randint(0, 2, (20, 784))
        text = "".join(" ".join(map(str, row)) + " \n" for row in rows)
        path = data_root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():  # written anew, it would only invalidate the cache
            path.write_text(text)
        files[split] = replace(file, md5=hashlib.md5(text.encode()).hexdigest())
    monkeypatch.setattr(binmnist, "FILES", files)
