"""The task of autoregressive models: exact likelihoods, samples from the command line, what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genbench.commands.figures import main

Genbench = Callable[..., int]
TINY = ("model.channels=4", "model.blocks=2", "trainer.max_steps=6", "trainer.log_every=2")


@pytest.fixture
def run(genbench: Genbench, tmp_path: Path) -> Path:
    assert genbench("experiment=pixelcnn-mnist5k", *TINY) == 0
    (path,) = (tmp_path / "outputs" / "pixelcnn-mnist5k").iterdir()
    return path


def test_the_test_likelihood_is_that_of_the_saved_network(run: Path, tmp_path: Path) -> None:
    """Pixel by pixel, by a product of conditional probabilities, from the checkpoint."""
    from genbench.data.mnist5k import mnist5k
    from genbench.models.pixelcnn import PixelCnn

    (newest,) = sorted((run / "checkpoints").glob("*.pt"))[-1:]
    model = PixelCnn((1, 28, 28), channels=4, blocks=2)
    model.load_state_dict(torch.load(newest, weights_only=True)["task"]["model"])
    images = mnist5k(tmp_path).test.double()
    with torch.no_grad():
        probability = torch.sigmoid(model.double()(images))
    per_image = torch.where(images == 1, probability, 1 - probability).log().sum((1, 2, 3))
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    assert metrics["test/log_likelihood"]["final"]["value"] == pytest.approx(per_image.mean().item(), rel=1e-5)
    error = metrics["test/log_likelihood"]["standard_error"]
    assert error == pytest.approx(per_image.std().item() / len(images) ** 0.5, rel=1e-4)
    bits = metrics["test/bits_per_dim"]["final"]["value"]
    assert bits == pytest.approx(-per_image.mean().item() / 784 / 0.6931471805599453, rel=1e-5)
    assert metrics["test/bits_per_dim"]["standard_error"] == pytest.approx(error / 784 / 0.6931471805599453)
    assert metrics["test/log_likelihood"]["greatest"] == metrics["test/bits_per_dim"]["least"] == 0.0


def test_pictures_and_protocol(run: Path) -> None:
    drawn = {path.stem for path in (run / "figures").glob("*.png")}
    assert drawn >= {"samples-start", "samples-middle", "samples-end", "stages-end", "curves-end"}
    assert "receptive-field-start" in drawn
    summary = json.loads((run / "summary.json").read_text())
    assert summary["family"]["likelihood"] == "exact"
    assert summary["metrics"]["test/log_likelihood"]["protocol"]["dataset"] == "mnist5k"


def test_new_samples_from_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sample", str(run), "--count", "5", "--seed", "3"])
    assert capsys.readouterr().out.strip() == str(run / "samples" / "new-seed3.png")
    main(["sample", str(run), "--count", "5", "--seed", "3", "--out", str(run / "again" / "same.png")])
    main(["sample", str(run), "--count", "5", "--seed", "4"])
    first, second = (run / "samples" / "new-seed3.png").read_bytes(), (run / "again" / "same.png").read_bytes()
    assert first == second != (run / "samples" / "new-seed4.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dataset.binarized=false",), "Bernoulli likelihood needs binary images"),
        (("model=mlp-vae",), "log_prob"),
        (("model.blocks=0",), "model.blocks must be ≥ 1"),
        (("loss=elbo",), "of_samples"),
    ],
)
def test_bad_input(
    genbench: Genbench, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert genbench("experiment=pixelcnn-mnist5k", "trainer.max_steps=1", *words) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_only_models_that_can_are_asked_for_samples(
    genbench: Genbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert genbench("experiment=dirac-w1-3", "trainer.max_steps=20") == 0
    (path,) = (tmp_path / "outputs" / "dirac-w1-3").iterdir()
    with pytest.raises(SystemExit) as stop:
        main(["sample", str(path)])
    assert stop.value.code == 2 and "draws no samples" in capsys.readouterr().err
