"""Class-conditional tasks: labels are those of their images, samples are of their class, the rest is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genbench.build import build_task, make_batches
from genbench.compose import configuration
from genbench.data.dataset import Dataset, as_stored
from genbench.engine.task import Task
from genbench.errors import ConfigError
from genbench.tasks import classes
from genbench.tasks.autoregressive import Autoregressive
from genbench.tasks.classes import CLASS_ACCURACY
from genbench.tasks.vae import use

CPU = torch.device("cpu")
ANNEALED = ("task.annealed_images=5", "task.annealing_steps=2", "task.annealing_chains=8")
GAN, VAE, PIXELCNN = "mnist5k-gan-conditional", "vae-mnist5k-conditional", "pixelcnn-gated-mnist5k-conditional"
EXPERIMENTS = (GAN, VAE, PIXELCNN)
CLASSES, ROWS = 5, 60
SMALL = {
    GAN: ("task.batch_norm_batches=2", "task.grid=9"),
    VAE: ("model.width=8", "model.latent_dim=3", "task.importance_samples=5"),
    PIXELCNN: ("model.channels=2", "model.blocks=2"),
}


def told_images(labels: Tensor) -> Tensor:
    """Images of 8 × 8 that say their label: so many pixels of the first row are white."""
    images = torch.zeros(len(labels), 1, 8, 8)
    images[:, 0, 0] = (torch.arange(8) <= labels.unsqueeze(1)).float()
    return images


def labels_of(images: Tensor) -> Tensor:
    """What `told_images` were made of; grey values may have been scaled."""
    return (images[:, 0, 0] > 0.5).sum(1) - 1


def told_dataset(binary: bool) -> Dataset:
    """Class k is k + 1 times as frequent as class 0."""
    labels = torch.arange(CLASSES).repeat_interleave(torch.arange(1, CLASSES + 1) * ROWS // 15)
    labels = labels[torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))]
    images = told_images(labels)
    return Dataset(
        "told", images, images, images, as_stored, binary, {"split": "thrice the same"},
        labels=dict.fromkeys(("train", "valid", "test"), labels),
    )  # fmt: skip


def build(experiment: str, *words: str, dataset: Dataset | None = None) -> Any:
    config = configuration(f"experiment={experiment}", *SMALL[experiment], "trainer.batch_size=7", *words)
    return build_task(config, CPU, dataset or told_dataset(binary=experiment != GAN))


def watched_players(
    task: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Labels that the generator is given, images that it makes of them; images that the critic sees, with labels."""
    asked: list[Tensor] = []
    made: list[Tensor] = []
    scored: list[tuple[Tensor, Tensor]] = []
    generate, score = task.generator.forward, task.critic.forward

    def generator(z: Tensor, labels: Tensor) -> Tensor:
        asked.append(labels)
        made.append(generate(z, labels))
        return made[-1]

    def critic(x: Tensor, labels: Tensor) -> Tensor:
        scored.append((x, labels))
        return score(x, labels)

    monkeypatch.setattr(task.generator, "forward", generator)
    monkeypatch.setattr(task.critic, "forward", critic)
    return asked, made, scored


@pytest.mark.parametrize("critic_steps", [1, 3])
def test_the_players_see_labels_with_their_images(critic_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real ones with their own, fake ones with those that they were made of."""
    task = build(GAN, f"task.critic_steps={critic_steps}", "regularizer=gp", "regularizer.coefficient=1")
    asked, made, scored = watched_players(task, monkeypatch)
    batch = make_batches(configuration(f"experiment={GAN}", "trainer.batch_size=7"), task).next()
    batch = batch if critic_steps == 1 else tuple(tensor[:6].repeat(3, *[1] * (tensor.dim() - 1)) for tensor in batch)
    task.prepare_step()
    task.training_step(*batch)
    real = [(x, y) for x, y in scored if set(x.unique().tolist()) == {-1.0, 1.0}]
    assert len(real) == critic_steps
    for x, y in real:
        assert torch.equal(labels_of(x), y)
    assert len(scored) == 3 * critic_steps + 1  # real, fake and between; and the generator's own update
    for labels, images in zip(asked, made, strict=True):
        assert [torch.equal(y, labels) for x, y in scored if torch.equal(x, images)] == [True]


def test_what_is_judged_has_labels_of_the_datas_frequencies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch-norm statistics of class 0 alone would be those of no generator; nor are its images compared with all."""
    task = build(GAN, "task.ema=null", "task.batch_norm_batches=60")
    asked, made, scored = watched_players(task, monkeypatch)
    task.judged_generator()
    counts, shares = torch.bincount(torch.cat(asked), minlength=CLASSES), torch.arange(1, CLASSES + 1) / 15
    total = counts.sum()
    assert total == 7 * 60
    assert ((counts - total * shares).abs() < 4 * (total * shares * (1 - shares)).sqrt()).all()
    asked.clear()
    made.clear()
    task.evaluate("valid")
    assert torch.equal(torch.cat(asked), task.dataset.labels["valid"])
    for images, labels in zip(made, asked, strict=True):
        assert [torch.equal(y, labels) for x, y in scored if x is images] == [True]


@pytest.mark.parametrize(
    ("experiment", "words"), [(VAE, ()), (VAE, ("loss.samples=3", "loss.kl=mc")), (VAE, ANNEALED), (PIXELCNN, ())]
)
def test_a_likelihood_is_given_the_images_own_labels(
    experiment: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training steps, with several samples of each image, and in evaluation, in whatever chunks."""
    monkeypatch.setattr("genbench.tasks.autoregressive.EVALUATION_BATCH", 7)
    task = build(experiment, *words, "task.classes=false")
    model, seen = task.model, []

    def watched(name: str, image: int) -> None:
        method = getattr(model, name)

        def call(*arguments: Tensor) -> Any:
            seen.append((arguments[image], arguments[-1]))
            return method(*arguments)

        monkeypatch.setattr(model, name, call)

    for name, image in {VAE: [("encode", 0), ("log_likelihood", 1)], PIXELCNN: [("log_prob", 0)]}[experiment]:
        watched(name, image)
    batches = make_batches(configuration(f"experiment={experiment}", "trainer.batch_size=7"), task)
    for _ in range(3):
        task.prepare_step()
        task.training_step(*batches.next())
    task.evaluate("valid"), task.evaluate("test")
    assert sum(len(y) for _, y in seen) >= 3 * 7 + 2 * ROWS
    for x, y in seen:
        assert torch.equal(labels_of(x), y)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_labels_are_sampled_as_often_as_the_data_have_them(experiment: str) -> None:
    task, count = build(experiment), 15_000
    (labels,) = task.classes.drawn(count, seed=4)
    shares = torch.arange(1, CLASSES + 1) / 15
    error = (shares * (1 - shares) / count).sqrt()
    assert ((labels.bincount() / count - shares).abs() < 4 * error).all()
    assert torch.equal(labels, task.classes.drawn(count, seed=4)[0])
    assert not torch.equal(labels, task.classes.drawn(count, seed=5)[0])
    assert task.classes.drawn(6, 4, label=3)[0].tolist() == [3] * 6


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_samples_are_of_the_class_that_is_asked_for(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, given = build(experiment), []
    network = task.generator if experiment == GAN else task.model
    name = {GAN: "forward", VAE: "decode", PIXELCNN: "sampler"}[experiment]
    method = getattr(network, name)
    told: list[float] = []
    sample = task.sample
    expected = sample(5, 1, told.append, label=2)
    assert expected.shape == (5, 1, 8, 8)
    task.evaluate("valid")  # whatever is drawn meanwhile
    if experiment == GAN:
        task.judged_generator().forward = lambda z, y: (given.append(y), method(z, y))[1]
    else:
        monkeypatch.setattr(network, name, lambda z, y: (given.append(y), method(z, y))[1])
    sample(5, 1, told.append, label=2)
    assert given[-1].tolist() == [2] * 5
    sample(5, 1, told.append)
    assert torch.equal(given[-1], task.classes.drawn(5, 1)[0])
    for label in (-1, CLASSES):
        with pytest.raises(ConfigError, match=rf"no class {label}: this model knows 0 to 4"):
            sample(5, 1, told.append, label=label)


@pytest.mark.parametrize("experiment", [*EXPERIMENTS, "realnvp-mnist5k"])
def test_a_model_without_classes_is_asked_for_none(experiment: str, data_root: Path) -> None:
    words = ["model.couplings=2", "model.width=4"] if experiment == "realnvp-mnist5k" else ["model.conditional=false"]
    words += [] if experiment in (GAN, "realnvp-mnist5k") else ["task.classes=false"]
    task = build_task(configuration(f"experiment={experiment}", *words, f"data_root={data_root}"), CPU)
    assert len(task.training_data) == 1
    assert "conditional" not in task.protocol
    assert len(task.sample(2, 0)) == 2
    with pytest.raises(ConfigError, match=r"knows no classes.*\n.*model.conditional=true"):
        task.sample(2, 0, label=1)


def test_the_share_of_samples_that_are_what_they_are_to_be() -> None:
    """Of images that say their label, every third wrongly, by a classifier that reads it."""

    class Reader:
        accuracy = 0.98

        def recognizes(self, images: Tensor, labels: Tensor) -> Tensor:
            return labels_of(images) == labels

    classes, count = build(GAN).classes, 200
    (labels,) = classes.drawn(count, seed=3)
    wrong = torch.arange(count) % 3 == 0
    found = classes.accuracy(Reader(), told_images(torch.where(wrong, (labels + 1) % CLASSES, labels)), seed=3)
    share = 1 - 67 / count
    assert found[CLASS_ACCURACY.name].value == pytest.approx(share)
    error = (share * (1 - share) / (count - 1)) ** 0.5
    assert found[CLASS_ACCURACY.name].standard_error == pytest.approx(error)
    assert found["test/classifier_accuracy"].value == 0.98


@pytest.mark.parametrize("experiment", [VAE, PIXELCNN])
def test_a_classifier_judges_samples_of_classes_alone(experiment: str) -> None:
    with pytest.raises(ConfigError, match=r"knows no classes.*\n.*task.classes=false or model.conditional=true"):
        build(experiment, "model.conditional=false")


def test_every_class_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of a column are from the same random numbers."""
    shown: list[Any] = []
    monkeypatch.setattr("genbench.tasks.classes.labelled_rows", lambda *words: shown.append(words))
    for experiment in EXPERIMENTS:
        task = build(experiment)
        assert list(task.classes.figures(task, "a run")) == ["classes"]
        images, names, title = shown[-1]
        assert images.shape == (CLASSES, 10, 1, 8, 8)
        assert (names[0], names[-1], title) == ("class 0", "class 4", "a run: every class")
        for k in range(CLASSES):
            own = task.sample(10, task.parts.seed, label=k)
            torch.testing.assert_close(images[k], own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_latents_and_likelihoods_need_the_class(experiment: str) -> None:
    task, images = build(experiment), told_images(torch.full((4,), 3))
    with torch.no_grad():  # at first all classes may be alike
        for parameter in (task.average.network if experiment == GAN else task.model).parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    calls = {
        GAN: [lambda **label: task.decode(task.latents(4, 0), **label)],
        VAE: [
            lambda **label: task.decode(task.latents(4, 0), **label),
            lambda **label: task.encode(images, **label),
            lambda **label: task.log_prob(images, 5, **label).value,
        ],
        PIXELCNN: [lambda **label: task.log_prob(images, 5, **label).value],
    }[experiment]
    for call in calls:
        assert len(call(label=3)) == 4
        assert not torch.equal(call(label=3), call(label=1))
        with pytest.raises(ConfigError, match=r"was not told a class\n.*0 to 4"):
            call()
        with pytest.raises(ConfigError, match=r"no class 9"):
            call(label=9)


def test_a_stand_in_has_as_many_of_each_class() -> None:
    """Of a trained model without its data: samples stay what they were."""
    dataset = told_dataset(binary=True)
    stand_in = Dataset.stand_in(json.loads(json.dumps(dataset.outline())))
    assert stand_in.class_counts == dataset.class_counts
    assert len(stand_in.labels["test"]) == len(stand_in.test)
    without = replace(dataset, labels={})
    assert Dataset.stand_in(without.outline()).labels == {}


@pytest.mark.parametrize(
    "words",
    [
        ("experiment=vae-binmnist-L100", "model.conditional=true"),
        ("experiment=pixelcnn-gated-binmnist", "model.conditional=true"),
    ],
)
@pytest.mark.usefixtures("tiny_binmnist")
def test_a_run_on_data_without_labels_is_refused_before_it_starts(
    words: tuple[str, ...], genbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert genbench(*words) == 2
    told = capsys.readouterr().err
    assert "needs labels, and this data set has none" in told and "model.conditional=false" in told
    assert not (tmp_path / "outputs").exists()


def test_a_task_that_trains_without_labels_takes_no_conditional_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Autoregressive, "training_data", Task.training_data)
    with pytest.raises(ConfigError, match=r"task=autoregressive trains on images alone.*\n.*conditional=false"):
        build(PIXELCNN)


def test_class_counts_are_known_wherever_the_data_are() -> None:
    """A rehearsal may not read labels."""
    dataset = told_dataset(binary=True)
    assert dataset.class_counts == (4, 8, 12, 16, 20)
    moved = told_dataset(binary=True).to(torch.device("meta"))
    assert (moved.class_counts, moved.classes) == (dataset.class_counts, CLASSES)
    assert replace(dataset, labels={}).classes == 0
    few = replace(dataset, labels={"train": torch.tensor([0, 2])})
    assert few.class_counts == (1, 0, 1)


@pytest.mark.usefixtures("tiny_instruments")
def test_a_run_says_that_it_is_conditional(genbench: Callable[..., int], tmp_path: Path) -> None:
    """In the protocol of all that it measured, and beside it how many samples are of their class."""
    words = ("model.width=8", "model.latent_dim=3", "task.importance_samples=5", "trainer.max_steps=2")
    assert genbench(f"experiment={VAE}", *words) == 0
    (run,) = (tmp_path / "outputs" / VAE).iterdir()
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    measured = {name: entry["protocol"] for name, entry in metrics.items() if "protocol" in entry}
    assert {"test/log_likelihood", "valid/elbo", "test/class_accuracy"} <= measured.keys()
    assert {protocol["conditional"] for protocol in measured.values()} == {"class"}
    assert (run / "figures" / "classes-end.png").is_file()


def test_a_classifier_of_binary_images_is_shown_binary_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    task, shown = build(VAE, "task.classes=true"), []
    monkeypatch.setattr(use, "Classifier", lambda dataset, device: None)
    monkeypatch.setattr(task.classes, "accuracy", lambda classifier, images, seed: shown.append(images) or {})
    task.evaluate("test")
    assert shown[0].unique().tolist() == [0.0, 1.0]


def test_a_picture_of_classes_calls_them_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    data, drawn = told_dataset(binary=True), []
    monkeypatch.setattr(classes, "labelled_rows", lambda images, names, title: drawn.append((names, title)))
    build(VAE, dataset=data).classes.figures(build(VAE, dataset=data), "run")
    names = ("apples", "b" * 40, "c", "d", "e")
    monkeypatch.setattr(classes, "SHOWN_CLASSES", 2)
    task = build(VAE, dataset=replace(data, class_names=names))
    task.classes.figures(task, "run")
    assert drawn == [
        ([f"class {k}" for k in range(CLASSES)], "run: every class"),
        (["apples", "b" * 23 + "…"], "run: 2 of 5 classes"),
    ]
