"""Images of the user's own: what a folder may hold, how files become tensors, and what identifies them."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from genbench import preflight
from genbench.compose import configuration
from genbench.data import folder as folders
from genbench.data import images as own
from genbench.data import preparation
from genbench.data.dataset import Dataset
from genbench.data.folder import split_of
from genbench.data.loading import settle
from genbench.data.preparation import prepare
from genbench.errors import ConfigError, DataError

SPLITS = ("train", "valid", "test")
UNCONDITIONAL = ("model.conditional=false", "task.classes=false")


def picture(number: int, size: tuple[int, int] = (40, 32), channels: int = 3) -> Image.Image:
    """Of height 40 and width 32, and no two alike."""
    pixels = np.random.RandomState(number).randint(0, 256, (*size, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze())


def fill(folder: Path, count: int, first: int = 0, suffix: str = ".png", **how: Any) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}{suffix}" for number in range(first, first + count)]
    for number, path in enumerate(paths, first):
        picture(number).save(path, **how)
    return paths


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A flat folder of 100 images."""
    fill(tmp_path / "photos", 100)
    return tmp_path / "photos"


def load(path: Path, root: Path | None = None, **options: Any) -> Dataset:
    return own.images(root or path.parent / "root", path=str(path), **options)


def everything(dataset: Dataset) -> torch.Tensor:
    return torch.cat([dataset.split(split) for split in SPLITS])


# --- one file -----------------------------------------------------------------------------------------------------


def saved(image: Image.Image, path: Path, **how: Any) -> Path:
    image.save(path, **how)
    return path


def test_an_image_of_the_right_size_is_taken_as_it_is(tmp_path: Path) -> None:
    image = picture(0, (32, 32))
    for suffix, how in ((".png", {}), (".webp", {"lossless": True})):
        found = prepare(saved(image, tmp_path / f"a{suffix}", **how), 32, 3)
        np.testing.assert_array_equal(found, np.asarray(image).transpose(2, 0, 1))
        assert found.dtype == np.uint8


@pytest.mark.parametrize(("height", "width"), [(300, 200), (200, 333), (64, 64), (17, 20)])
def test_the_resize_is_pytorchs_with_antialiasing(height: int, width: int, tmp_path: Path) -> None:
    """An independent implementation of the widened bicubic filter, in float32. Pillow rounds twice, once for each
    direction; it also clips twice, so the image is far from black and white."""
    image = picture(1, (height, width)).point(lambda value: 64 + value // 2)
    found = prepare(saved(image, tmp_path / "a.png"), 32, 3)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[:, top : top + side, left : left + side]
    expected = interpolate(square[None].float(), (32, 32), mode="bicubic", antialias=True)[0].clamp(0, 255)
    if side == 64:  # without antialiasing, it would be something else
        plain = interpolate(square[None].float(), (32, 32), mode="bicubic")[0].clamp(0, 255)
        assert (torch.from_numpy(found.copy()).float() - plain).abs().mean() > 5
    assert (torch.from_numpy(found.copy()).float() - expected).abs().max() <= 1.5


def test_the_middle_is_what_remains(tmp_path: Path) -> None:
    pixels = np.zeros((32, 100, 3), np.uint8)
    pixels[:, 34:66] = 200
    found = prepare(saved(Image.fromarray(pixels), tmp_path / "a.png"), 32, 3)
    assert (found == 200).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    """By the definition of the tag: what is the 0th row and the 0th column on the screen (EXIF 2.3, 4.6.4)."""
    screen = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32) // 2 * 2
    stored = {
        1: screen,
        2: screen[:, ::-1],
        3: screen[::-1, ::-1],
        4: screen[::-1],
        5: screen.T,
        6: np.rot90(screen, 1),
        7: screen[::-1, ::-1].T,
        8: np.rot90(screen, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.fromarray(np.ascontiguousarray(stored)), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(prepare(path, 32, 1)[0], screen)


def test_a_camera_photo_on_its_side(tmp_path: Path) -> None:
    """A JPEG that is wider than high, and shown higher than wide: cropped after it was turned."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32] = 250
    exif = Image.Exif()
    exif[0x0112] = 6
    found = prepare(saved(Image.fromarray(pixels), tmp_path / "a.jpg", exif=exif, quality=95), 32, 3)
    assert found[:, :12].min() > 200  # the left becomes the top
    assert found[:, 20:].max() < 50


MODES: dict[str, tuple[Callable[[], Image.Image], str, float]] = {
    "grey": (lambda: Image.new("L", (8, 8), 100), ".png", 100),
    "bilevel": (lambda: Image.new("1", (8, 8), 1), ".png", 255),
    "16 bits of grey": (lambda: Image.fromarray(np.full((8, 8), 100 * 256 + 200, np.uint16)), ".png", 100),
    "palette": (lambda: Image.new("RGB", (8, 8), (100, 100, 100)).quantize(4), ".png", 100),
    "transparent": (lambda: Image.new("RGBA", (8, 8), (0, 0, 0, 0)), ".png", 255),
    "half transparent": (lambda: Image.new("RGBA", (8, 8), (0, 0, 0, 127)), ".webp", 128),
    "transparent grey": (lambda: Image.new("LA", (8, 8), (0, 0)), ".png", 255),
    "CMYK": (lambda: Image.new("CMYK", (8, 8), (0, 0, 0, 155)), ".jpg", 100),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_modes(mode: str, channels: int, tmp_path: Path) -> None:
    make, suffix, value = MODES[mode]
    how = {"lossless": True} if suffix == ".webp" else {}
    found = prepare(saved(make(), tmp_path / f"a{suffix}", **how), 8, channels)
    assert found.shape == (channels, 8, 8)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(float) - value).max() <= 1


def test_a_transparent_colour_of_a_palette_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert (prepare(saved(image, tmp_path / "a.png", transparency=1), 8, 3) == 255).all()
    assert (prepare(saved(image, tmp_path / "b.png"), 8, 3)[:, 0, 0] == [10, 20, 30]).all()


def test_grey_is_luma(tmp_path: Path) -> None:
    """ITU-R 601-2: 0.299 R + 0.587 G + 0.114 B."""
    found = prepare(saved(Image.new("RGB", (8, 8), (200, 50, 120)), tmp_path / "a.png"), 8, 1)
    assert np.abs(found - (0.299 * 200 + 0.587 * 50 + 0.114 * 120)).max() <= 1


# --- a folder -----------------------------------------------------------------------------------------------------


def test_a_flat_folder(photos: Path) -> None:
    dataset = load(photos)
    assert dataset.shape == (3, 32, 32)
    assert dataset.train.dtype == torch.uint8
    assert dataset.labels == {}
    assert not dataset.binary
    found = {image.numpy().tobytes() for image in everything(dataset)}
    assert found == {prepare(path, 32, 3).tobytes() for path in photos.iterdir()}
    sizes = "/".join(str(len(dataset.split(split))) for split in SPLITS)
    assert dataset.protocol["split"] == f"{sizes} by content"
    assert str(photos) not in str(dataset.protocol)


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    for number, name in enumerate(("dog", "cat", "Ärger")):
        fill(tmp_path / "photos" / name, 60, first=100 * number)
    (tmp_path / "photos" / "empty").mkdir()
    dataset = load(tmp_path / "photos")
    of = {
        prepare(path, 32, 3).tobytes(): sorted(("dog", "cat", "Ärger")).index(path.parent.name)
        for path in (tmp_path / "photos").rglob("*.png")
    }
    for split in SPLITS:
        rows = dataset.split(split)
        assert dataset.labels[split].dtype == torch.int64
        assert dataset.labels[split].tolist() == [of[row.numpy().tobytes()] for row in rows]
    assert sum(len(dataset.split(split)) for split in SPLITS) == 180


def test_a_class_without_training_images_is_named_to_what_learns_classes(tmp_path: Path) -> None:
    """The labels of validation number it, so it counts as a class, though nobody can learn it."""
    fill(tmp_path / "photos" / "cat", 60)
    fill(tmp_path / "photos" / "dog", 60, first=100)
    kept = 0
    for path in fill(tmp_path / "photos" / "zebra", 60, first=200):
        if split_of(hashlib.sha256(path.read_bytes()).digest()) == "valid" and kept < 2:
            kept += 1
        else:
            path.unlink()
    dataset = load(tmp_path / "photos")
    assert dataset.classes == 3
    assert dataset.class_counts[2] == 0
    assert int(dataset.labels["valid"].max()) == 2
    small = ("dataset=images", f"dataset.path={tmp_path / 'photos'}", f"data_root={tmp_path / 'root'}")
    grey = (*small, "model.width=8", "dataset.channels=1", "dataset.size=12", "dataset.binarized=true")
    for words, remedy in (
        (("experiment=vae-mnist5k-conditional", *grey), "model.conditional=false"),
        (("experiment=mnist5k-gan", *small, "task.classes=true"), "task.classes=false"),
    ):
        with pytest.raises(DataError, match=rf"no training images of class zebra\n.*{remedy}"):
            preflight.check_run(configuration(*words))
    preflight.check_run(configuration("experiment=vae-mnist5k-conditional", *grey, *UNCONDITIONAL))


def test_suffixes_of_any_case_and_junk(photos: Path) -> None:
    expected = load(photos).protocol["images"]
    (photos / "0.png").rename(photos / "0.PNG")
    (photos / "1.png").rename(photos / "renamed.Png")
    for name in ("Thumbs.db", ".DS_Store", "._2.png", ".hidden.png", "notes.txt", "labels.csv"):
        (photos / name).write_bytes(b"junk")
    for name in ("__MACOSX", ".thumbnails", "texts"):
        (photos / name).mkdir()
        (photos / name / ("readme.txt" if name == "texts" else "2.png")).write_bytes(b"junk")
    (photos / "folder.png").mkdir()
    assert load(photos).protocol["images"] == expected


def test_jpeg_and_webp(tmp_path: Path) -> None:
    for number, suffix in enumerate((".jpg", ".JPEG", ".webp")):
        fill(tmp_path / "photos", 40, first=100 * number, suffix=suffix)
    assert len(everything(load(tmp_path / "photos", size=20, channels=1))) == 120


def test_what_a_file_is_its_contents_say(photos: Path) -> None:
    """A JPEG that is called .png, as downloads often are."""
    content = io.BytesIO()
    picture(500).save(content, "JPEG")
    (photos / "500.png").write_bytes(content.getvalue())
    assert len(everything(load(photos))) == 101


def test_copies_are_left_out(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = load(photos)
    shutil.copy(photos / "3.png", photos / "copy.png")
    shutil.copy(photos / "3.png", photos / "another.png")
    after = load(photos)
    assert "2 copies of other files are left out" in capsys.readouterr().out
    assert after.protocol == before.protocol
    assert torch.equal(everything(after), everything(before))


def test_a_split_follows_the_published_rule(photos: Path) -> None:
    dataset = load(photos)
    splits: dict[str, set[bytes]] = {split: set() for split in SPLITS}
    for path in photos.iterdir():
        digest = hashlib.sha256(path.read_bytes()).digest()
        u = int(hashlib.sha256(b"2020" + digest).hexdigest(), 16) / 2**256
        splits["train" if u < 0.8 else "valid" if u < 0.9 else "test"].add(prepare(path, 32, 3).tobytes())
    for split in SPLITS:
        assert {row.numpy().tobytes() for row in dataset.split(split)} == splits[split]


def test_shares_are_80_10_10() -> None:
    count = 100_000
    found = [split_of(hashlib.sha256(str(number).encode()).digest()) for number in range(count)]
    for split, share in (("train", 0.8), ("valid", 0.1), ("test", 0.1)):
        assert abs(found.count(split) / count - share) < 4 * (share * (1 - share) / count) ** 0.5


def test_images_that_are_added_move_no_other(photos: Path) -> None:
    before = load(photos)
    fill(photos, 50, first=1000)
    after = load(photos)
    for split in SPLITS:
        rows = {row.numpy().tobytes() for row in after.split(split)}
        assert {row.numpy().tobytes() for row in before.split(split)} <= rows
    assert after.protocol["images"] != before.protocol["images"]


def test_neither_names_nor_places_matter(photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "other"
    other.mkdir(parents=True)
    for number, path in enumerate(photos.iterdir()):
        shutil.copy(path, other / f"x{number}.PNG")
    one, two = load(photos), load(other)
    assert one.protocol == two.protocol
    for split in SPLITS:
        assert torch.equal(one.split(split), two.split(split))


@pytest.mark.parametrize("change", ["a pixel", "a class", "an image less"])
def test_contents_matter(change: str, tmp_path: Path) -> None:
    fill(tmp_path / "photos" / "a", 60)
    fill(tmp_path / "photos" / "b", 60, first=100)
    root, settings = tmp_path / "root", {"path": str(tmp_path / "photos")}
    before = own._contents(root, settings)
    assert own._contents(root, settings) == before
    if change == "a pixel":
        picture(900).save(tmp_path / "photos" / "a" / "0.png")
    elif change == "a class":
        (tmp_path / "photos" / "a" / "0.png").rename(tmp_path / "photos" / "b" / "0.png")
    else:
        (tmp_path / "photos" / "a" / "0.png").unlink()
    assert own._contents(root, settings) != before


def test_binarized_pixels_are_drawn_once_from_the_grey_values(photos: Path) -> None:
    grey, drawn = load(photos, channels=1), load(photos, channels=1, binarized=True)
    assert drawn.binary
    assert "RandomState(2020)" in drawn.protocol["binarization"]
    assert drawn.protocol["images"] == grey.protocol["images"]
    values, means = everything(drawn), everything(grey).double() / 255
    assert set(values.unique().tolist()) == {0, 1}
    assert abs(values.double().mean() - means.mean()) < 4 * (means * (1 - means)).sum().sqrt() / means.numel()
    assert values[means == 1].all()
    assert not values[means == 0].any()
    assert torch.equal(values, everything(load(photos, channels=1, binarized=True)))
    with pytest.raises(ConfigError, match="binarized images are grey"):
        load(photos, binarized=True)


# --- the cache ----------------------------------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many files were hashed and prepared."""
    counts = {"hashed": 0, "prepared": 0}
    digest_of, prepared = folders.digest_of, own.prepare

    def count_hash(path: Path, algorithm: str) -> str:
        counts["hashed"] += 1
        return digest_of(path, algorithm)

    def count_prepare(*arguments: Any) -> Any:
        counts["prepared"] += 1
        return prepared(*arguments)

    monkeypatch.setattr(folders, "digest_of", count_hash)
    monkeypatch.setattr(own, "prepare", count_prepare)
    return counts


def test_a_second_start_reads_no_image(photos: Path, read: dict[str, int]) -> None:
    first = load(photos)
    assert read == {"hashed": 100, "prepared": 100}
    assert torch.equal(everything(load(photos)), everything(first))
    assert read == {"hashed": 100, "prepared": 100}
    moved = photos.rename(photos.with_name("moved"))
    assert torch.equal(everything(load(moved)), everything(first))
    assert read == {"hashed": 200, "prepared": 100}  # by contents: hashed again, not prepared


def test_the_cache_is_of_these_files_and_settings(
    photos: Path, read: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(photos)
    assert load(photos, size=16).shape == (3, 16, 16)
    assert load(photos, channels=1).shape == (1, 32, 32)
    assert read["prepared"] == 300
    monkeypatch.setattr(own, "VERSION", preparation.VERSION + 1)
    load(photos)
    assert read["prepared"] == 400
    path = photos / "0.png"
    before = path.stat()
    content = path.read_bytes()
    picture(700).save(path)
    path.write_bytes(path.read_bytes()[: len(content)].ljust(len(content), b"\0"))  # trailing bytes do no harm
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert path.stat().st_size == before.st_size
    hashed = read["hashed"]
    load(photos)
    assert read["hashed"] == hashed + 100
    assert read["prepared"] == 500


def test_a_damaged_cache_is_made_again(photos: Path, read: dict[str, int]) -> None:
    first = load(photos)
    for path in (photos.parent / "root" / ".cache" / "images").iterdir():
        path.write_bytes(path.read_bytes()[:-200])
    assert torch.equal(everything(load(photos)), everything(first))
    assert read == {"hashed": 200, "prepared": 200}


def test_a_root_that_cannot_be_written(photos: Path, read: dict[str, int]) -> None:
    first = load(photos, Path("/dev/null/no-such-root"))
    assert torch.equal(everything(load(photos, Path("/dev/null/no-such-root"))), everything(first))
    assert read["prepared"] == 200


def test_nothing_is_half_written(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that cannot be finished leaves nothing."""

    def full(file: BinaryIO, **arrays: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(np, "savez_compressed", full)
    load(photos)
    assert list((photos.parent / "root" / ".cache" / "images").iterdir()) == []


# --- what is told -------------------------------------------------------------------------------------------------


def test_a_broken_file_is_named_and_left_out(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = load(photos)
    whole = (photos / "7.png").read_bytes()
    (photos / "bad.png").write_bytes(whole[: len(whole) // 2])
    for _ in range(2):  # from the cache, too
        dataset = load(photos)
        said = capsys.readouterr().out
        assert "1 of 101 files cannot be read and are left out" in said
        assert str(photos / "bad.png") in said
    assert {row.numpy().tobytes() for row in everything(dataset)} == {
        row.numpy().tobytes() for row in everything(clean)
    }


@pytest.mark.parametrize("content", [b"", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", b"<html>not found</html>"])
def test_more_than_one_percent_of_broken_files_stop_it(content: bytes, photos: Path) -> None:
    for number in range(7):
        (photos / f"bad{number}.jpg").write_bytes(content + b" " * number)
    with pytest.raises(DataError, match="more than 1% of 107 files cannot be read") as error:
        load(photos)
    assert str(photos / "bad") in str(error.value)
    assert "mend or remove" in str(error.value)
    assert not list((photos.parent / "root" / ".cache" / "images").glob("[!h]*"))


def test_files_without_permission_are_broken_ones(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and "7" not in Path(path).name)
    with pytest.raises(DataError, match=r"more than 1% of 100 files cannot be read: .*/17\.png \(no permission\)"):
        load(photos)


def test_a_bomb_is_a_broken_file(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    with pytest.raises(DataError, match="decompression bomb"):
        load(photos)


def place(tmp_path: Path, what: str) -> Path:
    path = tmp_path / "photos"
    if what == "file":
        path.write_text("no folder")
    elif what != "missing":
        path.mkdir()
    if what in ("mixed", "deep"):
        fill(path / "a" / "b" if what == "deep" else path / "a", 1)
    if what == "mixed":
        fill(path, 1)
    if what == "few":
        fill(path, 5)
    if what == "texts":
        (path / "notes.txt").write_text("no image")
    return path


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("missing", "does not exist"),
        ("file", "is not a folder"),
        ("empty", "holds no images"),
        ("texts", "holds no images"),
        ("mixed", "images lie both in"),
        ("deep", "images lie too deep, in"),
        ("few", "5 images are too few"),
    ],
)
def test_what_is_no_folder_of_images(what: str, words: str, tmp_path: Path) -> None:
    path = place(tmp_path, what)
    with pytest.raises(DataError, match=words) as error:
        load(path)
    message, remedy = str(error.value).splitlines()
    assert str(path) in message
    assert "dataset.path" in remedy or "add images" in remedy


def test_more_than_fits_into_memory(photos: Path, monkeypatch: pytest.MonkeyPatch, read: dict[str, int]) -> None:
    needed = 100 * 3 * 32 * 32
    monkeypatch.setattr("genbench.engine.memory.physical_memory", lambda: needed - 1)
    with pytest.raises(ConfigError, match=r"100 images of 3 × 32 × 32 need .* GiB of memory"):
        load(photos)
    assert read["prepared"] == 0
    monkeypatch.setattr("genbench.engine.memory.physical_memory", lambda: needed)
    load(photos)


def test_long_readings_tell_how_far_they_are(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(folders, "SECONDS_BETWEEN_LINES", -1)
    load(photos)
    said = capsys.readouterr().out
    assert "100 of 100 images hashed" in said
    assert "50 of 100 images prepared" in said


# --- what identifies it -------------------------------------------------------------------------------------------


def test_contents_are_told_where_they_are_not_given(photos: Path, tmp_path: Path) -> None:
    settings = {"name": "images", "path": str(photos), "size": 32, "contents": None}
    found = settle(settings, tmp_path / "root")
    assert found["contents"] == load(photos).protocol["images"]
    assert settle(found, tmp_path / "root") == found
    assert settle({"name": "dirac"}, tmp_path) == {"name": "dirac"}
    with pytest.raises(ConfigError, match=r"set dataset\.path"):
        settle(settings | {"path": None}, tmp_path / "root")


def test_other_contents_are_refused(photos: Path) -> None:
    found = load(photos).protocol["images"]
    load(photos, contents=found)
    fill(photos, 1, first=600)
    with pytest.raises(DataError, match=rf"other images than dataset\.contents={found}"):
        load(photos, contents=found)
