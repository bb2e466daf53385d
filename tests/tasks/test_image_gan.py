from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genbench.build import build_task
from genbench.compose import configuration
from genbench.engine.batches import Batches
from genbench.engine.measurement import objective_among, values_of
from genbench.errors import ConfigError, DataError
from genbench.metrics import fidelity, inception, transformers
from genbench.metrics.classifier import RECOGNIZED
from genbench.tasks.gan import latent_figures
from genbench.tasks.gan.image_gan import ImageGan
from genbench.tasks.gan.latent_figures import walk

FEW = ("task.fid_samples=16", "task.fid_reference=20", "task.final_samples=24")


def build(data_root: Path, *words: str) -> ImageGan:
    config = configuration(*words, f"data_root={data_root}", "device=cpu", "task.batch_norm_batches=2")
    return build_task(config, torch.device("cpu"))  # type: ignore[return-value]


def digits(data_root: Path, *words: str) -> ImageGan:
    return build(data_root, "experiment=mnist5k-gan", *words)


def test_the_critic_sees_images_within_minus_one_and_one(data_root: Path) -> None:
    task = digits(data_root)
    real = task.real_samples(task.dataset.train[:50])
    assert (real.min(), real.max()) == (-1, 1)
    torch.testing.assert_close((real + 1) / 2, task.dataset.train[:50] / 255)


def test_the_same_latents_throughout(data_root: Path) -> None:
    first, second = digits(data_root), digits(data_root)
    assert torch.equal(first._latents, second._latents)
    images = first.generate(first._latents)
    assert torch.equal(images, second.generate(second._latents))
    assert ((images >= 0) & (images <= 1)).all()
    batches = Batches(first.training_data, 8, seed=0)
    first.prepare_step()
    first.training_step(*batches.next())
    assert not torch.equal(images, first.generate(first._latents))  # the judged copy was made anew


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
def test_scores_and_their_protocols(data_root: Path) -> None:
    task = build(data_root, "experiment=cifar10-w1-3", "model.width=2", *FEW)
    state = torch.get_rng_state()
    measured = task.evaluate("valid") | task.evaluate("test")
    values = values_of(measured)
    valid, test = ({name for name in values if name.split("/")[0] == split} for split in ("eval", "test"))
    assert torch.equal(torch.get_rng_state(), state)
    assert {"eval/w1", "eval/fid", "eval/fid_in_hundreds", "eval/kid", "eval/inception_score"} == valid
    assert values["eval/fid_in_hundreds"] == values["eval/fid"] / 100
    assert test == {f"test/{name}" for name in fidelity.SCORES}
    assert measured["eval/fid"].protocol["n_generated"] == "16"
    assert measured["test/fid"].protocol["n_generated"] == "24"
    assert measured["test/fid"].protocol["n_reference"] == "20"
    assert measured["test/fid"].protocol["reference_split"] == "cifar10 train"
    # What one score depends on is no difference between values of another.
    assert "kid" in measured["test/kid"].protocol and "kid" not in measured["test/fid"].protocol
    assert all(type(entry) is str for found in measured.values() for entry in found.protocol.values())
    # The same images through the library's own pieces.
    images = torch.cat(list(task._bytes(16)))
    features = task._inception.features([images])
    real = task._inception.features([task.dataset.train[torch.from_numpy(fidelity.rows(100, 20))]])
    expected = fidelity.frechet_distance(fidelity.statistics(features.pool), fidelity.statistics(real.pool))
    assert values["eval/fid"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
def test_final_scores_in_the_features_of_another_network(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(name: str, device: torch.device) -> Any:
        network = inception.Inception(None, device)
        network.pool, network.weights_id, network.layer = network.pool[:, :3] * 2, "other", name
        network.protocol = {"network": name}
        return network

    monkeypatch.setattr(transformers, "Transformer", other)
    words = ("experiment=cifar10-w1-3", "model.width=2", *FEW, "task.networks=[clip-vit-b-32]")
    task = build(data_root, *words)
    assert not [name for name in task.evaluate("valid") if "clip" in name]
    found = task.evaluate("test")
    assert set(found) == {f"test/{name}" for name in fidelity.SCORES} | {
        f"test/{name}_clip_vit_b_32" for name in ("fd", "kd", "precision", "recall")
    }
    images, real = torch.cat(list(task._bytes(24))), task.dataset.train[torch.from_numpy(fidelity.rows(100, 20))]
    seen = [network_pixels(task, each) for each in (images, real)]
    expected = fidelity.frechet_distance(*map(fidelity.statistics, seen))
    assert found["test/fd_clip_vit_b_32"].value == pytest.approx(expected, rel=1e-6)
    assert found["test/fd_clip_vit_b_32"].protocol["network"] == "clip-vit-b-32"
    assert "network" not in found["test/fid"].protocol


def network_pixels(task: Any, images: torch.Tensor) -> torch.Tensor:
    return 2 * task._inception.features([images]).pool[:, :3]


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
def test_networks_need_final_images(data_root: Path) -> None:
    words = ("experiment=cifar10-w1-3", "task.networks=[clip-vit-b-32]", "task.final_samples=null")
    with pytest.raises(ConfigError, match=r"task\.networks judge the final images"):
        build(data_root, *words)


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
def test_an_fid_of_fewer_images_than_features_says_so(data_root: Path) -> None:
    task = build(data_root, "experiment=cifar10-w1-3", "model.width=2", *FEW)
    values = values_of(task.evaluate("valid") | task.evaluate("test"))
    assert task.notes(values) == []  # of the 8 features of this Inception
    task._inception.pool, task._inception.weights_id = torch.rand(3 * 32 * 32, 40), "of 40 features"
    task._references.clear()
    during, end = task.notes(values)
    assert during.startswith("eval/fid is of 16 images, fewer than Inception has features (40)")
    assert end.startswith("test/fid is of 20 images")  # the fewer of 24 generated and 20 real ones
    few = build(
        data_root, "experiment=cifar10-w1-3", "model.width=2", "task.fid_samples=null", "task.final_samples=null"
    )
    assert few.notes(values_of(few.evaluate("valid"))) == []
    # A chart of FID has FID on it.
    assert [title for title in task.curves if "FID" in title] == ["W1 vs. FID / 100", "FID"]
    assert not [title for title in few.curves if "FID" in title]


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
def test_that_note_is_of_the_split_that_the_images_were_compared_with(data_root: Path) -> None:
    """And needs no features of another one."""
    final = ("task.fid_samples=null", "task.final_samples=24", "task.fid_split=test")
    task = build(data_root, "experiment=cifar10-w1-3", "model.width=2", *final)
    task._inception.pool, task._inception.weights_id = torch.rand(3 * 32 * 32, 22), "of 22 features"
    found = task.evaluate("test")
    assert found["test/fid"].protocol["n_reference"] == "20"
    (note,) = task.notes(values_of(found))
    assert note.startswith("test/fid is of 20 images")
    assert {split for _, split in task._references} == {"test"}


class Curves:
    """A record of two curves."""

    title = "a run"

    def __init__(self, fid: list[float], estimate: list[float]) -> None:
        self._curves = {"eval/fid": fid, "eval/w1": estimate}

    def curve(self, metric: str, over: str = "epoch") -> list[tuple[float, float]]:
        return [(100.0 * k, value) for k, value in enumerate(self._curves[metric])]

    def references(self, metric: str) -> list[tuple[str, float]]:
        return []


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        ([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 1.0),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 99.0], -1.0),
        ([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 1.0, 2.0], 1 - 6 * 2 / (8 * 63)),  # 1 − 6 Σ d² / n (n² − 1)
        ([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 2.0], None),  # too few ranks
    ],
)
def test_whether_the_critic_tracks_fid(data_root: Path, estimate: list[float], expected: float | None) -> None:
    """The untrained networks at step 0 are no part of it."""
    task = build(data_root, "experiment=cifar10-w1-3", "model.width=2", *FEW)
    fid = [999.0, 90.0, 80.0, 70.0, 65.0, 60.0, 59.0, 58.0, 57.0]
    found = task.look_back(Curves(fid, [0.0, *estimate]))
    if expected is None:
        assert not found
    else:
        (measured,) = found.values()
        assert measured.value == pytest.approx(expected)
        assert measured.protocol == {"evaluations": "8; unrelated values lie within ±0.71 in 95 % of cases"}


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
def test_unrelated_curves_correlate_no_further_than_is_said(data_root: Path) -> None:
    task = build(data_root, "experiment=cifar10-w1-3", "model.width=2", *FEW)
    random = np.random.default_rng(0)
    found = [task.look_back(Curves(*random.random((2, 9)).tolist())) for _ in range(2000)]
    within = [abs(measured.value) <= 0.71 for values in found for measured in values.values()]
    assert len(within) == 2000
    assert np.mean(within) == pytest.approx(0.95, abs=0.02)


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
def test_ten_thousand_are_judged_against_both_splits(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genbench.tasks.gan.image_gan.TEN_THOUSAND", 20)
    task = build(data_root, "experiment=cifar10-w1-3", "model.width=2", *FEW)
    values = task.evaluate("test")
    assert {"test/fid", "test/10k_train_fid", "test/10k_test_fid"} <= set(values)
    assert values["test/10k_test_fid"].protocol["reference_split"] == "cifar10 test"
    assert values["test/10k_test_fid"].protocol["n_generated"] == "20"


@pytest.mark.usefixtures("tiny_images")
def test_missing_weights_are_said_before_training(
    genbench: Callable[..., int],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any) -> None:
        raise DataError("no weights")

    monkeypatch.setattr(inception, "Inception", fail)
    task = build(data_root, "experiment=cifar10-w1-3", "model.width=2", *FEW)
    with pytest.raises(DataError, match=r"no weights\n.*task.fid_samples=null task.final_samples=null"):
        task.before_training()
    few = (*FEW, "model.width=2", "task.batch_norm_batches=2", "trainer.max_steps=1")
    assert genbench("experiment=cifar10-w1-3", *few) == 2
    assert "no weights" in capsys.readouterr().err
    assert not Path("outputs").exists()
    build(data_root, "experiment=cifar10-w1-3", "task.fid_samples=null", "task.final_samples=null").before_training()


def test_what_does_not_fit_is_refused(data_root: Path) -> None:
    with pytest.raises(ConfigError, match="is for images, and dirac holds none"):
        digits(data_root, "dataset=dirac")
    with pytest.raises(ConfigError, match=r"1 × 28 × 28"):
        digits(data_root, "model=dcgan")


def test_pictures_of_latents_show_what_a_linear_generator_makes_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.randn(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    latents, drawn = torch.randn(6, 12, generator=torch.Generator().manual_seed(1)), {}

    def generate(z: Tensor) -> Tensor:
        return torch.tensordot(z, weights, 1)

    for name in ("perturbations", "interpolations"):
        monkeypatch.setattr(latent_figures, name, lambda *arguments, name=name: drawn.update({name: arguments}))
    latent_figures.perturbed(generate, latents[0], "")
    images, changes, chosen, offsets, _ = drawn["perturbations"]
    strength = weights.abs().mean((1, 2, 3)) * (offsets[-1] - offsets[0])
    assert [k - 1 for k in chosen] == strength.argsort(descending=True).tolist()[: len(chosen)]
    torch.testing.assert_close(torch.tensor(changes), strength[[k - 1 for k in chosen]])
    for row, k in zip(images, chosen, strict=True):
        for image, offset in zip(row, offsets, strict=True):
            torch.testing.assert_close(image, generate(latents[:1])[0] + offset * weights[k - 1])

    latent_figures.interpolated(generate, latents, "")
    between, mixed, alphas, _ = drawn["interpolations"]
    ends = generate(latents).view(3, 2, 1, 4, 4)
    for column, alpha in enumerate(alphas):
        expected = (1 - alpha) * ends[:, 0] + alpha * ends[:, 1]
        torch.testing.assert_close(between[:, column], expected)
        torch.testing.assert_close(mixed[:, column], expected)


def test_without_fid_a_sweeper_must_be_told_its_objective(data_root: Path) -> None:
    quantities = digits(data_root).quantities
    assert [one.name for one in quantities if one.name.startswith("eval/")] == ["eval/jsd"]
    with pytest.raises(ConfigError, match=r"no objective\n  set objective=NAME, one of .*test/classifier_frechet"):
        objective_among(quantities)
    assert objective_among(quantities, "test/classifier_frechet").better == "lower"
    assert objective_among(digits(data_root, "task.fid_samples=100").quantities).name == "eval/fid"


class TestClassifier:
    @pytest.fixture(scope="class")
    @classmethod
    def task(cls, data_root: Path) -> ImageGan:
        """Its classifier is trained once for all."""
        return digits(data_root)

    def test_it_knows_the_digits(self, task: ImageGan) -> None:
        state = torch.get_rng_state()
        classifier = task._recognition.classifier
        assert torch.equal(torch.get_rng_state(), state)
        assert classifier.accuracy > 0.9
        confidence, found = classifier.probabilities(task.dataset.to_float(task.dataset.valid)).max(1)
        sure = (found == task.dataset.labels["valid"]) & (confidence >= 0.5)
        assert classifier.accuracy == sure.double().mean()
        images = task.dataset.to_float(task.dataset.test)
        right = classifier.probabilities(images).argmax(1) == task.dataset.labels["test"]
        assert right.double().mean() > 0.93

    def test_real_digits_are_recognized(self, task: ImageGan) -> None:
        real = task.dataset.to_float(task.dataset.valid[:25])
        task.generate = lambda latents: real  # type: ignore[method-assign]
        values = task._recognized()
        assert values["test/classes"].value >= 8
        assert values["test/recognized"].value > 0.8

    def test_an_untrained_generator_makes_no_digits(self, data_root: Path, task: ImageGan) -> None:
        for seed in (1, 2):
            other = digits(data_root, f"seed={seed}")
            other.__dict__["_recognition"] = task._recognition
            values = other._recognized()
            assert values["test/recognized"].value <= 0.02
            assert values["test/classes"].value <= 1

    def test_it_is_the_same_in_every_run(self, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its features are what distances are measured in: not a seed's own."""
        monkeypatch.setattr("genbench.metrics.classifier.IMAGES_SEEN", 500)
        first, second = (digits(data_root, f"seed={seed}") for seed in (1, 2))
        few = first.dataset.to_float(first.dataset.valid[:5])
        assert torch.equal(*(task._recognition.classifier.features(few) for task in (first, second)))

    def test_its_features_are_what_it_decides_by(self, task: ImageGan) -> None:
        classifier, few = task._recognition.classifier, task.dataset.to_float(task.dataset.valid[:50])
        features = classifier.features(few)
        assert features.shape == (50, 128)
        logits = classifier._network[-1](features)
        torch.testing.assert_close(logits.softmax(1)[:, :-1], classifier.probabilities(few))

    def test_held_out_digits_are_near_to_the_data(self, task: ImageGan) -> None:
        found = task._recognition.of_real
        assert task._recognition.count == 1000
        for name in ("precision", "recall", "density", "coverage"):
            assert 0.8 < found[name] < 1.1, name
        assert found["share_distance"] < 0.05

    @pytest.mark.parametrize("kind", ["noise", "untrained", "four steps"])
    def test_what_is_no_digit_is_far_from_the_data(self, data_root: Path, task: ImageGan, kind: str) -> None:
        """A generator of four training steps must fail."""
        other = digits(data_root)
        other.__dict__["_recognition"] = task._recognition
        if kind == "noise":
            torch.manual_seed(0)
            other.generate = lambda latents: torch.rand(len(latents), 1, 28, 28)  # type: ignore[method-assign]
        if kind == "four steps":
            batches = Batches(other.training_data, 64, seed=0)
            for _ in range(4):
                other.prepare_step()
                other.training_step(*batches.next())
        values = other._recognized()
        for name in ("precision", "recall", "density", "coverage"):
            assert values[f"test/classifier_{name}"].value <= 0.02, name
        frechet = values["test/classifier_frechet"]
        assert frechet.value > 20 * frechet.truth
        assert values["test/classifier_share_distance"].value > 0.9

    @pytest.mark.parametrize("images", [1, 100])
    def test_repeated_images_or_one_class_are_no_data(self, task: ImageGan, images: int) -> None:
        """They look right, and the recognized share is 1: only what compares distributions fails them."""
        recognition, dataset = task._recognition, task.dataset
        threes = dataset.to_float(dataset.train[dataset.labels["train"] == 3][:images])
        found = recognition.scores(threes.repeat(math.ceil(1000 / images), 1, 1, 1)[:1000])
        assert found["precision"] > 0.8
        assert found["recall"] < 0.2
        assert found["coverage"] < 0.2
        assert found["frechet"] > 10 * recognition.of_real["frechet"]
        assert found["share_distance"] == pytest.approx(0.9, abs=0.02)

    def test_scores_stand_beside_those_of_real_images(self, task: ImageGan) -> None:
        real = task.dataset.to_float(task._recognition._held_out)
        task.generate = lambda latents: real[: len(latents)]  # type: ignore[method-assign]
        values = task._recognized()
        for name, value in task._recognition.of_real.items():
            found = values[f"test/classifier_{name}"]
            assert found.value == found.truth == value
            assert found.protocol["n_generated"] == "1000"
            assert found.protocol["reference_split"] == "mnist5k train"
        labels = {quantity.name: quantity.truth_label for quantity in ImageGan.quantities}
        assert {labels[name] for name, found in values.items() if found.truth is not None} == {"real against real"}

    @pytest.mark.parametrize(
        "kind", ["uniform", "grey", "salt", "black", "white", "shuffled", "blurred", "inverted", "mean"]
    )
    def test_what_is_no_digit_is_not_recognized(self, task: ImageGan, kind: str) -> None:
        """Kinds that it was trained on, and others."""
        real = task.dataset.to_float(task.dataset.test)
        torch.manual_seed(0)
        images = {
            "uniform": torch.rand(500, 1, 28, 28),
            "grey": 0.5 + 0.1 * torch.rand(500, 1, 28, 28),
            "salt": (torch.rand(500, 1, 28, 28) > 0.8).float(),
            "black": torch.zeros(1, 1, 28, 28),
            "white": torch.ones(1, 1, 28, 28),
            "shuffled": real.flatten(1)[:, torch.randperm(784)].view_as(real),
            "blurred": torch.nn.functional.avg_pool2d(real, 9, 1, 4),
            "inverted": 1 - real,
            "mean": real.mean(0, keepdim=True),
        }[kind]
        recognized = task._recognition.classifier.probabilities(images).amax(1) >= RECOGNIZED
        assert recognized.double().mean() <= 0.02

    def test_digits_with_the_flaws_of_generated_ones_are_recognized(self, task: ImageGan) -> None:
        real, labels = task.dataset.to_float(task.dataset.test), task.dataset.labels["test"]
        torch.manual_seed(0)
        for flawed in (0.8 * real, (real + 0.1 * torch.randn_like(real)).clamp(0, 1)):
            confidence, found = task._recognition.classifier.probabilities(flawed).max(1)
            assert ((confidence >= RECOGNIZED) & (found == labels)).double().mean() > 0.88

    def test_the_walk_goes_from_one_class_to_another(self, task: ImageGan, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Any] = []
        monkeypatch.setattr("genbench.tasks.gan.latent_figures.latent_walk", lambda *words: seen.append(words))
        real = task.dataset.to_float(task.dataset.valid[:100])
        walk(lambda latents: real[: len(latents)], task.latents(100, 0), task._recognition.classifier, "title")
        images, _, labels = seen[0]
        assert len(images) == 9
        assert labels[0] != labels[1]

    @pytest.mark.parametrize("surest", [0, 7])
    def test_the_walk_moves_where_all_images_are_of_one_class(
        self, task: ImageGan, monkeypatch: pytest.MonkeyPatch, surest: int
    ) -> None:
        monkeypatch.setattr("genbench.tasks.gan.latent_figures.latent_walk", lambda images, *_: images)
        confidence = torch.full((100, 10), 0.02)
        confidence[:, 3], confidence[surest, 3] = 0.8, 0.82
        classifier = SimpleNamespace(probabilities=lambda images: confidence)
        images = walk(lambda latents: latents, task.latents(100, 0), classifier, "title")  # type: ignore[arg-type]
        assert len(torch.as_tensor(images).unique(dim=0)) == 9


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
def test_a_run_draws_everything_and_can_be_redrawn(genbench: Callable[..., int], tmp_path: Path) -> None:
    words = ("model.width=2", "trainer.max_steps=2", "task.grid=9", "task.batch_norm_batches=2", *FEW)
    assert genbench("experiment=svhn-w1-lp", *words) == 0
    (run,) = tmp_path.glob("outputs/*/*")
    names = {path.stem for path in (run / "figures").glob("*.png")}
    final = {"curves", "divergence-beside-fid", "walk", "perturbations", "interpolations", "stages"}
    assert names == {f"{name}-end" for name in final} | {f"samples-{stage}" for stage in ("start", "middle", "end")}
    summary = json.loads((run / "summary.json").read_text())
    assert summary["metrics"]["test/fid"]["protocol"]["n_generated"] == "24"
    assert summary["metrics"]["test/fid"]["protocol"]["dataset"] == "svhn"
    assert summary["metrics"]["eval/fid"]["best"]["value"] <= summary["metrics"]["eval/fid"]["final"]["value"]

    from genbench.commands.figures import main as figures

    before = {path.name: path.read_bytes() for path in (run / "figures").glob("*-end.png")}
    for path in (run / "figures").glob("*-end.png"):
        path.unlink()
    figures(["redraw", str(run)])
    assert {path.name: path.read_bytes() for path in (run / "figures").glob("*-end.png")} == before


@pytest.mark.usefixtures("tiny_images")
def test_a_gan_that_is_interrupted_goes_on_exactly(data_root: Path) -> None:
    """Batch norm, spectral norm, lazy penalties, averages and both optimizers survive."""
    words = ("experiment=cifar10-ns-r1-resnet", "model.width=4", "regularizer.every=3", "task.fid_samples=null")

    def start() -> tuple[ImageGan, Batches]:
        task = build(data_root, *words, "task.final_samples=null", "task.critic_steps=2")
        return task, Batches(task.training_data, 8, seed=0, per_step=2)

    def steps(task: ImageGan, batches: Batches, count: int) -> list[dict[str, float]]:
        rows = []
        for _ in range(count):
            task.prepare_step()
            rows.append({name: value.item() for name, value in task.training_step(*batches.next()).items()})
        return rows

    task, batches = start()
    whole = steps(task, batches, 6)
    task, batches = start()
    steps(task, batches, 2)
    task.evaluate("valid")
    saved = task.state_dict(), batches.state_dict(), torch.get_rng_state()
    other, other_batches = start()
    other.load_state_dict(saved[0])
    other_batches.load_state_dict(saved[1])
    torch.set_rng_state(saved[2])
    assert steps(other, other_batches, 4) == whole[2:]
