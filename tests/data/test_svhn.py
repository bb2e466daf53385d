from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from genbench import registry
from genbench.data import svhn
from genbench.data.dataset import Dataset
from genbench.errors import DataError

SPLITS = ("train", "valid", "test")
SIZES = {"train": 12, "test": 10}
ROOT = Path(os.environ.get("GENBENCH_DATA", "."))
needs_data = pytest.mark.skipif(
    "GENBENCH_DATA" not in os.environ or not (ROOT / "SVHN").is_dir(), reason="no SVHN under GENBENCH_DATA"
)


def load(root: Path) -> Dataset:
    dataset = registry.build("dataset", {"name": "svhn"}, root)
    assert isinstance(dataset, Dataset)
    assert dataset.name == "svhn"
    return dataset


@pytest.fixture
def arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What the files hold: X [height, width, channel, N], y [N, 1] of 1 … 10, compressed as the originals are."""
    random, arrays, table = np.random.RandomState(0), {}, {}
    for split, n in SIZES.items():
        X = np.asfortranarray(random.randint(0, 256, (32, 32, 3, n)).astype(np.uint8))
        y = random.permutation(1 + np.arange(n) % 10).astype(np.uint8)[:, None]
        arrays[split] = X, y
        path = tmp_path / svhn.FILES[split].path
        path.parent.mkdir(exist_ok=True)
        savemat(path, {"X": X, "y": y}, do_compression=True)
        table[split] = replace(svhn.FILES[split], md5=hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(svhn, "FILES", table)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    return arrays


def no_network(*_: object, **__: object) -> None:
    raise OSError("no network")


def test_reads_the_files(arrays: dict[str, tuple[np.ndarray, np.ndarray]], tmp_path: Path) -> None:
    dataset = load(tmp_path)
    assert dataset.shape == (3, 32, 32)
    assert not dataset.binary
    assert dataset.protocol == {
        "binarization": "none (RGB)",
        "split": "12 train; valid and test are the official 10 test images",
    }
    for split, source in zip(SPLITS, ("train", "test", "test"), strict=True):
        X, y = arrays[source]
        images, labels = dataset.split(split), dataset.labels[split]
        assert images.dtype == torch.uint8
        assert images.is_contiguous()
        assert labels.dtype == torch.int64
        assert images.shape == (SIZES[source], 3, 32, 32)
        for n in range(len(images)):
            for channel in range(3):
                assert images[n, channel].tolist() == X[:, :, channel, n].tolist()
            assert labels[n] == (0 if y[n, 0] == 10 else y[n, 0])
        assert set(labels.tolist()) == set(range(10))
    torch.testing.assert_close(dataset.to_float(dataset.train), dataset.train.double().div(255).float())


@pytest.mark.usefixtures("arrays")
def test_torchvision_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import SVHN

    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)
    dataset = load(tmp_path)
    for split in ("train", "test"):
        other = SVHN(tmp_path / "SVHN", split=split)
        np.testing.assert_array_equal(dataset.split(split), other.data)
        np.testing.assert_array_equal(dataset.labels[split], other.labels)


def test_the_published_names_and_checksums_are_those_of_torchvision() -> None:
    from torchvision.datasets import SVHN

    for split, file in svhn.FILES.items():
        assert [file.url, Path(file.path).name, file.md5] == SVHN.split_list[split]


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_damaged_file_is_refused(tmp_path: Path, split: str) -> None:
    load(tmp_path)
    path = tmp_path / svhn.FILES[split].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{split}_32x32\.mat is damaged: its md5 checksum"):
        load(tmp_path)


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("split", ["train", "test"])
def test_without_a_network_the_message_names_file_address_and_target(tmp_path: Path, split: str) -> None:
    path = tmp_path / "SVHN" / f"{split}_32x32.mat"
    path.unlink()
    with pytest.raises(DataError) as error:
        load(tmp_path)
    address = f"http://ufldl.stanford.edu/housenumbers/{split}_32x32.mat"
    for word in (str(path), address, "no network", "GENBENCH_DATA"):
        assert word in str(error.value)


@needs_data
def test_the_real_files() -> None:
    dataset = load(ROOT)
    assert dataset.protocol["split"] == "73257 train; valid and test are the official 26032 test images"
    assert torch.bincount(dataset.labels["train"]).tolist() == [
        4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659,
    ]  # fmt: skip
    assert torch.bincount(dataset.labels["test"]).tolist() == [
        1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595,
    ]  # fmt: skip
    # The constants in everybody's Normalize.
    sums = torch.stack([dataset.train[:, channel].sum(dtype=torch.int64) for channel in range(3)])
    means = sums.double() / (255 * dataset.train[:, 0].numel())
    assert means.tolist() == pytest.approx([0.4377, 0.4438, 0.4728], abs=6e-5)
