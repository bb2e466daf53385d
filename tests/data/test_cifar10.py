from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genbench import registry
from genbench.data import cifar10
from genbench.data.dataset import Dataset
from genbench.errors import DataError

SPLITS = ("train", "valid", "test")
SIZES = (3, 2, 4, 1, 2, 5)  # images in the five training batches and the test batch
FORMS = ("binary", "python")
ROOT = Path(os.environ.get("GENBENCH_DATA", "."))
needs_data = pytest.mark.skipif(
    "GENBENCH_DATA" not in os.environ or not (ROOT / "cifar-10-batches-bin").is_dir(),
    reason="no CIFAR-10 under GENBENCH_DATA",
)


def load(root: Path) -> Dataset:
    dataset = registry.build("dataset", {"name": "cifar10"}, root)
    assert isinstance(dataset, Dataset)
    assert dataset.name == "cifar10"
    return dataset


def binary_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    """The format in words of its authors: label, 1024 bytes of red, of green, of blue, each row by row."""
    content = b""
    for image, label in zip(images, labels, strict=True):
        content += bytes([label])
        for channel in range(3):
            for row in range(32):
                content += bytes(image[channel, row, column] for column in range(32))
    return content


def python_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    """What Python 2 and the NumPy of 2009 wrote, opcode by opcode: today's `pickle` writes other strings."""

    def string(text: str) -> bytes:
        return b"U" + bytes([len(text)]) + text.encode()

    pixels = images.tobytes()
    byte_type = b"cnumpy\ndtype\n" + string("u1") + b"K\x00K\x01\x87R"
    byte_type += b"(K\x03" + string("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"M" + struct.pack("<H", len(images)) + b"M" + struct.pack("<H", 3072) + b"\x86"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + string("b") + b"\x87R"
    array += b"(K\x01" + shape + byte_type + b"\x89T" + struct.pack("<i", len(pixels)) + pixels + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    items = string("batch_label") + string("training batch 1 of 5") + string("labels") + numbers
    return b"\x80\x02}(" + items + string("data") + array + b"u."


@dataclass
class Files:
    """Both versions of the same small data, as contents; the module under test knows their checksums."""

    images: list[np.ndarray]
    labels: list[np.ndarray]
    contents: dict[str, dict[str, bytes]]
    set_archive: Callable[[str, bytes], None]
    root: Path

    def write(self, form: str) -> None:
        for path, content in self.contents[form].items():
            (self.root / path).parent.mkdir(exist_ok=True)
            (self.root / path).write_bytes(content)

    def pack(self, form: str, extra: list[tarfile.TarInfo] | None = None, without: str = "") -> Path:
        """Write the archive with what the published one holds besides the batches, and `extra`."""
        buffer = io.BytesIO()
        members = {f"{Path(next(iter(self.contents[form]))).parent}/readme.html": b"<html>", **self.contents[form]}
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for info in extra or []:
                tar.addfile(info, io.BytesIO(b"x" * info.size))
            for path, content in members.items():
                if path != without:
                    info = tarfile.TarInfo(path)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        self.set_archive(form, buffer.getvalue())
        archive = self.root / f"cifar-10-{form}.tar.gz"
        archive.write_bytes(buffer.getvalue())
        return archive

    def assert_loaded(self, dataset: Dataset) -> None:
        images, labels = np.concatenate(self.images[:5]), np.concatenate(self.labels[:5])
        np.testing.assert_array_equal(dataset.train, images)
        np.testing.assert_array_equal(dataset.labels["train"], labels)
        for split in ("valid", "test"):
            np.testing.assert_array_equal(dataset.split(split), self.images[5])
            np.testing.assert_array_equal(dataset.labels[split], self.labels[5])
        for split in SPLITS:
            assert dataset.split(split).dtype == torch.uint8
            assert dataset.split(split).is_contiguous()
            assert dataset.labels[split].dtype == torch.int64


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    random = np.random.RandomState(0)
    images = [random.randint(0, 256, (n, 3, 32, 32)).astype(np.uint8) for n in SIZES]
    labels = [random.randint(0, 10, n).astype(np.uint8) for n in SIZES]
    contents = {}
    for form, version, write in zip(FORMS, cifar10.VERSIONS, (binary_batch, python_batch), strict=True):
        batches = [write(*batch) for batch in zip(images, labels, strict=True)]
        contents[form] = {file.path: batch for file, batch in zip(version.files, batches, strict=True)}

    def change(form: str, **changes: object) -> None:
        versions = list(cifar10.VERSIONS)
        versions[FORMS.index(form)] = replace(versions[FORMS.index(form)], **changes)
        monkeypatch.setattr(cifar10, "VERSIONS", tuple(versions))

    def set_archive(form: str, content: bytes) -> None:
        archive = cifar10.VERSIONS[FORMS.index(form)].archive
        change(form, archive=replace(archive, md5=hashlib.md5(content).hexdigest()))

    for form, version in zip(FORMS, cifar10.VERSIONS, strict=True):
        known = [replace(f, md5=hashlib.md5(contents[form][f.path]).hexdigest()) for f in version.files]
        change(form, files=tuple(known))
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    root = tmp_path / "root"
    root.mkdir()
    return Files(images, labels, contents, set_archive, root)


def no_network(*_: object, **__: object) -> None:
    raise OSError("no network")


@pytest.mark.parametrize("form", FORMS)
def test_reads_either_version(files: Files, form: str) -> None:
    files.write(form)
    before = sorted(files.root.rglob("*"))
    dataset = load(files.root)
    files.assert_loaded(dataset)
    assert dataset.shape == (3, 32, 32)
    assert not dataset.binary
    assert dataset.protocol == {
        "binarization": "none (RGB)",
        "split": "12 train; valid and test are the official 5 test images",
    }
    torch.testing.assert_close(dataset.to_float(dataset.train), dataset.train.double().div(255).float())
    assert sorted(files.root.rglob("*")) == before


def test_torchvision_reads_the_same_from_the_python_version(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """An independent reader, of images in the order height, width, channel."""
    from torchvision.datasets import CIFAR10

    files.write("python")
    names = pickle.dumps({"label_names": list("abcdefghij")})
    (files.root / "cifar-10-batches-py" / "batches.meta").write_bytes(names)
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    dataset = load(files.root)
    for train, images, labels in (
        (True, dataset.train, dataset.labels["train"]),
        (False, dataset.test, dataset.labels["test"]),
    ):
        other = CIFAR10(files.root, train=train)
        np.testing.assert_array_equal(images.permute(0, 2, 3, 1), other.data)
        assert labels.tolist() == other.targets


def test_the_published_names_and_checksums_are_those_of_torchvision() -> None:
    from torchvision.datasets import CIFAR10

    binary, python = cifar10.VERSIONS
    assert [[Path(file.path).name, file.md5] for file in python.files] == CIFAR10.train_list + CIFAR10.test_list
    assert (python.archive.url, python.archive.md5) == (CIFAR10.url, CIFAR10.tgz_md5)
    assert [f"{Path(file.path).name}.bin" for file in python.files] == [Path(file.path).name for file in binary.files]


@pytest.mark.parametrize("form", FORMS)
def test_unpacks_an_archive_that_lies_there(files: Files, form: str) -> None:
    archive = files.pack(form)
    files.assert_loaded(load(files.root))
    assert {path: (files.root / path).read_bytes() for path in files.contents[form]} == files.contents[form]
    directory = (files.root / next(iter(files.contents[form]))).parent
    assert sorted(files.root.iterdir()) == sorted([archive, directory])  # nothing temporary
    assert len(list(directory.iterdir())) == 6  # and nothing that is not needed
    archive.unlink()
    files.assert_loaded(load(files.root))


def test_downloads_the_binary_version(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = files.pack("binary")
    content = archive.read_bytes()
    archive.unlink()

    def download(urls: tuple[str, ...], path: Path, algorithm: str, digest: str) -> None:
        assert urls[0] == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
        assert len(urls) > 1
        assert (algorithm, digest) == ("md5", hashlib.md5(content).hexdigest())
        path.write_bytes(content)

    monkeypatch.setattr("genbench.data.files.fetch", download)
    files.assert_loaded(load(files.root))


def test_unpacked_files_come_before_archives(files: Files) -> None:
    (files.root / "cifar-10-binary.tar.gz").write_bytes(b"a download that broke off")
    files.write("python")
    files.assert_loaded(load(files.root))


def test_an_incomplete_directory_is_completed(files: Files) -> None:
    files.write("binary")
    (files.root / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    kept = files.root / "cifar-10-batches-bin" / "data_batch_4.bin"
    before = kept.stat().st_ino
    files.pack("binary")
    files.assert_loaded(load(files.root))
    assert kept.stat().st_ino == before


@pytest.mark.parametrize("form", FORMS)
def test_an_incomplete_directory_without_an_archive(files: Files, form: str) -> None:
    files.write(form)
    lacking = list(files.contents[form])[2]
    (files.root / lacking).unlink()
    with pytest.raises(DataError, match=rf"cannot be downloaded from http(.|\n)*are there, except {lacking}"):
        load(files.root)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", [0, -1])
def test_a_damaged_file_is_refused(files: Files, form: str, place: int) -> None:
    files.write(form)
    path = files.root / list(files.contents[form])[place]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path.name} is damaged: its md5 checksum"):
        load(files.root)


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_archive_is_refused(files: Files, form: str) -> None:
    archive = files.pack(form)
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{archive.name} is damaged: its md5 checksum"):
        load(files.root)
    assert list(files.root.iterdir()) == [archive]


def test_without_a_network_the_message_names_file_address_and_target(files: Files) -> None:
    with pytest.raises(DataError) as error:
        load(files.root)
    target, address = files.root / "cifar-10-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    for word in (str(target), address, "no network", "GENBENCH_DATA"):
        assert word in str(error.value)
    assert "except" not in str(error.value)
    assert list(files.root.iterdir()) == []


class TestUnpacking:
    def test_members_elsewhere_are_left_in_the_archive(self, files: Files) -> None:
        extra = []
        for name in ("../outside", f"{files.root.parent}/outside", "cifar-10-batches-bin/../../outside", "outside"):
            extra.append(tarfile.TarInfo(name))
            extra[-1].size = 3
        archive = files.pack("binary", extra)
        files.assert_loaded(load(files.root))
        assert sorted(files.root.iterdir()) == sorted([archive, files.root / "cifar-10-batches-bin"])
        assert list(files.root.parent.iterdir()) == [files.root]

    def test_a_link_in_place_of_a_file_is_not_followed(self, files: Files) -> None:
        name = "cifar-10-batches-bin/test_batch.bin"
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive = files.pack("binary", [link], without=name)
        with pytest.raises(DataError, match=rf"{archive.name} does not hold {name}"):
            load(files.root)
        assert list(files.root.iterdir()) == [archive]

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
    def test_an_interruption_leaves_nothing(
        self, files: Files, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
    ) -> None:
        archive = files.pack("binary")
        written, write = [], Path.write_bytes

        def write_some(path: Path, content: bytes) -> int:
            written.append(write(path, content[:10]))
            if len(written) == 3:
                raise interruption("No space left on device")
            return written[-1]

        monkeypatch.setattr(Path, "write_bytes", write_some)
        if interruption is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                load(files.root)
        else:
            files.assert_loaded(load(files.root))  # from memory
        assert len(written) == 3
        assert list(files.root.iterdir()) == [archive]

    @pytest.mark.parametrize("form", FORMS)
    def test_a_root_that_cannot_be_written_to(self, files: Files, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
        archive = files.pack(form)

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError("Read-only file system")

        monkeypatch.setattr("tempfile.mkdtemp", refuse)
        files.assert_loaded(load(files.root))
        assert list(files.root.iterdir()) == [archive]


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Malice:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": Malice(), "labels": [0]}, protocol=2))
    with pytest.raises(DataError, match=r"no batch of CIFAR-10: it asks for (posix|nt)\.mkdir"):
        cifar10._read_python(path.read_bytes())
    assert not (tmp_path / "harm").exists()


@needs_data
def test_the_real_files() -> None:
    dataset = load(ROOT)
    assert dataset.protocol["split"] == "50000 train; valid and test are the official 10000 test images"
    assert [dataset.split(split).shape for split in SPLITS] == [(n, 3, 32, 32) for n in (50_000, 10_000, 10_000)]
    assert torch.bincount(dataset.labels["train"]).tolist() == [5000] * 10
    assert torch.bincount(dataset.labels["test"]).tolist() == [1000] * 10
    # What every tutorial prints: a frog and two trucks first, a cat and two ships; the first pixels in RGB.
    assert dataset.labels["train"][:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert dataset.labels["test"][:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert dataset.train[0, :, 0, :2].T.tolist() == [[59, 62, 63], [43, 46, 45]]
    assert dataset.test[0, :, 0, 0].tolist() == [158, 112, 49]
    # The constants in everybody's Normalize.
    counts = torch.stack([torch.bincount(dataset.train[:, c].flatten(), minlength=256) for c in range(3)]).double()
    values = torch.arange(256).double() / 255
    means = counts @ values / counts.sum(1)
    deviations = (counts @ values.square() / counts.sum(1) - means.square()).sqrt()
    assert means.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=6e-5)
    assert deviations.tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=6e-5)
