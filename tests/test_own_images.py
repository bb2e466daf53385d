"""Models trained on folders of images, from the command line to the pictures."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genbench.commands import evaluate
from genbench.compose import configuration
from genbench.data.folder import split_of
from genbench.identity import fingerprint
from genbench.loaded import LoadedRun
from genbench.run import settled

Genbench = Callable[..., int]

USAGE = Path(__file__).parent.parent / "docs" / "usage.md"
SECTION = USAGE.read_text(encoding="utf-8").partition("## Your own images")[2].partition("\n## ")[0]
COMMANDS = re.findall(r"^    genbench (.*?)(?: +#.*)?$", SECTION, re.MULTILINE)
SMALL = {
    "dcgan": ("model.width=4",),
    "sngan-resnet": ("model.width=4",),
    "realnvp-conv": ("model.width=4", "model.couplings=2"),
    "pixelcnn": ("model.channels=4", "model.blocks=2"),
    "conv-vae": (
        *(f"model.{network}_{size}=2" for network in ("encoder", "decoder") for size in ("channels", "blocks")),
        "task.importance_samples=10",
    ),
}
VAE = ("experiment=vae-binmnist-L20", "dataset=images", "dataset.path=photos", "model.width=8")
GREY = ("dataset.channels=1", "dataset.binarized=true", "dataset.size=12", "trainer.max_steps=2")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """120 images in two folders, `photos` of the working directory."""
    for number in range(120):
        path = tmp_path / "photos" / ("cats" if number % 2 else "dogs") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.RandomState(number).randint(0, 256, (48, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def runs(directory: Path) -> list[Path]:
    return sorted(path.parent for path in (directory / "outputs").rglob("summary.json"))


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return found


def test_the_page_has_commands() -> None:
    models = {configuration(*shlex.split(words)).model["name"] for words in COMMANDS}
    assert models == {"dcgan", "sngan-resnet", "realnvp-conv", "conv-vae", "pixelcnn"}


@pytest.mark.usefixtures("photos", "tiny_instruments")
@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page(command: str, genbench: Genbench, tmp_path: Path) -> None:
    words = shlex.split(command)
    config = configuration(*words)
    small = SMALL[config.model["name"]]
    if config.task["name"] == "image-gan":
        small += ("task.batch_norm_batches=2", "task.fid_samples=null", "task.final_samples=null")
    assert genbench(*words, "trainer.max_steps=2", "trainer.log_every=1", *small) == 0
    (run,) = runs(tmp_path)
    assert list((run / "figures").glob("*-end.png"))
    assert list((run / "samples").glob("*end*"))
    found = summary(run)
    assert found["status"] == "done"
    protocols = [metric["protocol"] for metric in found["metrics"].values() if metric.get("protocol")]
    assert {protocol["dataset"] for protocol in protocols} == {"images"}
    assert {protocol["images"] for protocol in protocols} == {found["settings"]["dataset.contents"]}
    assert str(tmp_path) not in json.dumps([protocols, found["settings"]])


def test_a_run_is_its_contents_wherever_they_lie(photos: Path, genbench: Genbench, tmp_path: Path) -> None:
    assert genbench(*VAE, *GREY) == 0
    (run,) = runs(tmp_path)
    photos.rename(tmp_path / "moved")
    assert genbench(*VAE, *GREY, "dataset.path=moved") == 0
    assert genbench(*VAE, *GREY, f"dataset.path={tmp_path / 'moved'}") == 0
    assert runs(tmp_path) == [run]
    assert "dataset.contents" in summary(run)["changes"]


@pytest.mark.parametrize(
    "words",
    [
        ("experiment=realnvp-mnist", "model.width=4"),
        ("experiment=vae-mnist-gaussian-mc", *SMALL["conv-vae"]),
        ("experiment=pixelcnn-binmnist", *SMALL["pixelcnn"], "dataset.channels=1", "dataset.binarized=true"),
    ],
)
def test_a_handful_of_images(words: tuple[str, ...], genbench: Genbench, tmp_path: Path) -> None:
    """With three for validation and two for testing, pictures that want more show fewer."""
    needed = {"train": 20, "valid": 3, "test": 2}
    (tmp_path / "few").mkdir()
    for number in range(1000):
        content = io.BytesIO()
        pixels = np.random.RandomState(number).randint(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(content, "PNG")
        split = split_of(hashlib.sha256(content.getvalue()).digest())
        if needed[split]:
            needed[split] -= 1
            (tmp_path / "few" / f"{number}.png").write_bytes(content.getvalue())
    data = ("dataset=images", "dataset.path=few", "dataset.size=12")
    assert genbench(*words, *data, "trainer.max_steps=2") == 0
    (run,) = runs(tmp_path)
    assert summary(run)["metrics"][next(iter(summary(run)["metrics"]))]["protocol"]["split"] == "20/3/2 by content"
    assert list((run / "figures").glob("samples-end.png"))


def test_other_contents_are_another_run(
    photos: Path, genbench: Genbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So none goes on with images that it did not begin with; who wants those asks for them and is told."""
    assert genbench(*VAE, *GREY) == 0
    (run,) = runs(tmp_path)
    contents = summary(run)["settings"]["dataset.contents"]
    (photos / "cats" / "1.png").unlink()
    assert genbench(*VAE, *GREY) == 0
    assert len(runs(tmp_path)) == 2
    capsys.readouterr()
    assert genbench(*VAE, *GREY, f"dataset.contents={contents}", "seed=2") == 2
    assert f"holds other images than dataset.contents={contents}" in capsys.readouterr().err
    assert len(runs(tmp_path)) == 2


def test_a_run_is_opened_without_its_images(photos: Path, genbench: Genbench, tmp_path: Path) -> None:
    assert genbench(*VAE, *GREY) == 0
    (run,) = runs(tmp_path)
    photos.rename(tmp_path / "gone")
    task = LoadedRun(run).task(device="cpu", with_data=False)
    assert task.parts.dataset.shape == (1, 12, 12)


def test_a_finished_run_is_measured_with_its_images_at_another_place(
    photos: Path, genbench: Genbench, tmp_path: Path
) -> None:
    assert genbench(*VAE, *GREY) == 0
    (run,) = runs(tmp_path)
    photos.rename(tmp_path / "moved")
    evaluate.main([str(run), "dataset.path=moved", "task.importance_samples=3"])
    (measured,) = (json.loads(path.read_text()) for path in (run / "evaluations").iterdir())
    assert measured["changes"] == {"task.importance_samples": "3"}


def test_a_run_goes_on_with_the_same_images_alone(
    photos: Path, genbench: Genbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert genbench(*VAE, *GREY) == 0
    (run,) = runs(tmp_path)
    longer = (*VAE, *GREY, "trainer.max_steps=4", f"extend='{run}'")
    photos.rename(tmp_path / "moved")
    assert genbench(*longer, "dataset.path=moved") == 0
    (tmp_path / "moved" / "cats" / "1.png").unlink()
    capsys.readouterr()
    assert genbench(*longer, "dataset.path=moved") == 2
    assert "had other settings: dataset.contents (was " in capsys.readouterr().err


def test_identity_is_that_of_the_settled_configuration(photos: Path, tmp_path: Path) -> None:
    words = ("experiment=vae-mnist-gaussian-mc", "dataset=images", f"data_root={tmp_path / 'root'}")
    one = settled(configuration(*words, f"dataset.path={photos}"))
    (photos / "cats").rename(photos / "lions")
    two = settled(configuration(*words, f"dataset.path={photos}"))
    assert settled(one) == one
    assert fingerprint(one) != fingerprint(two)
    (photos / "lions").rename(photos / "cats")
    photos.rename(tmp_path / "other")
    assert fingerprint(settled(configuration(*words, f"dataset.path={tmp_path / 'other'}"))) == fingerprint(one)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("dataset.path=nowhere",), "nowhere does not exist"),
        ((), "set dataset.path"),
        (("dataset.path=photos", "dataset.channels=2"), "dataset.channels must be one of 1, 3"),
        (("dataset.path=photos", "dataset.size=0"), "dataset.size must be ≥ 1"),
        (("dataset.path=photos", "dataset.contents=cats"), "dataset.contents must be eight hexadecimal digits"),
        (
            ("dataset.path=photos", "dataset.size=30"),
            "a convolutional VAE is for images with sides of multiples of 4",
        ),
        (("dataset.path=photos", "model=dcgan", "dataset.size=48", "task=adversarial", "loss=w1"), "32 × 32 or 64"),
        (("dataset.path=photos", "dataset.size=1000000"), "GiB of memory"),
    ],
)
@pytest.mark.usefixtures("photos")
def test_bad_input_is_one_message_and_leaves_nothing(
    words: tuple[str, ...], told: str, genbench: Genbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert genbench("experiment=vae-mnist-gaussian-mc", "dataset=images", *words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.startswith("genbench: ")
    assert len(error.splitlines()) <= 2
    assert not (tmp_path / "outputs").exists()
