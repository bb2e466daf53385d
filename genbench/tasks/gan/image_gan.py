"""Image GANs: the adversarial game on images, judged by what Inception sees and by what a classifier recognizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from genbench.engine.device import isolated_rng
from genbench.engine.measurement import Measurement, Quantity
from genbench.engine.task import STAGE_TITLES, Progress, Record, Samples, Stage, unseen
from genbench.errors import ConfigError, DataError
from genbench.figures.classes import class_bars
from genbench.figures.grids import image_grid, stages
from genbench.figures.style import divergence_name
from genbench.figures.walks import interpolations, latent_walk, perturbations
from genbench.metrics import fidelity, inception
from genbench.metrics.classifier import Classifier
from genbench.metrics.fidelity import FEATURES, RealFeatures
from genbench.metrics.real_features import check_reference, real_features
from genbench.metrics.recognition import Recognition
from genbench.registry import OneOf, Range, Text, register
from genbench.tasks.base import Parts, require, require_images
from genbench.tasks.gan.adversarial import Adversarial
from genbench.tasks.gan.recognized import RECOGNITION, compared, recognized
from genbench.tasks.pictures import StagedSamples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ImageGan"]

Images = Annotated[int, Range(minimum=2, maximum=10**6)]

TEN_THOUSAND = 10_000
WALK_STEPS = 7
WALK_CANDIDATES = 100  # latents among which two different classes are looked for
PERTURBED = 10  # latent dimensions that are shown
OFFSETS = (-4.0, -2.0, 0.0, 2.0, 4.0)  # in standard deviations of the prior
PAIRS = 3
ALPHAS = tuple(k / 10 for k in range(11))


@register("task", "image-gan")
class ImageGan(Samples, StagedSamples, Adversarial):
    """The adversarial game on images in [−1, 1]. Its `settings` are those of `adversarial`.

    `fid_samples` generated images are scored at every evaluation, `final_samples` at the end; null: not at all.
    `fid_reference` real images are the reference, at the end of the split `fid_split`; null: all of them. `grid`
    images are shown, from the same latents throughout. `classes` has a classifier, trained on the real labelled
    images, count the classes among them, and compare more of them with real images as it sees them.
    `inception_weights` is the file of the FID network; null: under data_root/inception, else torch-fidelity's
    download.
    """

    evaluation_options = frozenset({"final_samples", "fid_reference", "fid_split", "classes", "inception_weights"})
    quantities = (
        Quantity("test/fid", "final FID", better="lower", decimals=2),
        Quantity("eval/fid", "FID during training", better="lower", decimals=2),
        Quantity("test/inception_score", "final Inception Score", better="higher", decimals=3),
        Quantity("eval/inception_score", "Inception Score during training", better="higher", decimals=3),
        Quantity("test/kid", "KID", better="lower", decimals=5),
        Quantity("test/10k_train_fid", "FID of 10,000 images, training split", better="lower", decimals=2),
        Quantity("test/10k_test_fid", "FID of 10,000 images, test split", better="lower", decimals=2),
        *RECOGNITION,
    )

    def __init__(
        self,
        parts: Parts,
        *,
        grid: Annotated[int, Range(minimum=1, maximum=10_000)] = 100,
        fid_samples: Images | None = None,
        fid_reference: Images | None = None,
        final_samples: Images | None = None,
        fid_split: Annotated[str, OneOf("train", "valid", "test")] = "train",
        classes: bool = False,
        inception_weights: Text | None = None,
        **settings: Any,
    ) -> None:
        require(parts.model, "model", "image-gan", "latent_dim")
        require_images(parts.dataset, "image-gan")
        if classes and not parts.dataset.labels:
            raise ConfigError(
                f"{parts.dataset.name} has no labels to train a classifier on", "set task.classes=false"
            )
        if fid_samples or final_samples:
            check_reference(parts.dataset, fid_reference)
        super().__init__(parts, **settings)
        self.fid_samples, self.fid_reference, self.final_samples = fid_samples, fid_reference, final_samples
        self.fid_split = fid_split
        # TensorBoard draws both on one axis, so FID comes in hundreds.
        both = [f"train/{self.loss.symbol}", "eval/fid_in_hundreds"]
        self.curves = {**self.curves, f"{divergence_name(self.loss.symbol)} beside FID / 100": both}
        if fid_samples:
            self.curves = {**self.curves, "FID": ["eval/fid"]}
        self._count_classes = classes
        self._weights = Path(inception_weights) if inception_weights else None
        self._samples: dict[str, Tensor] = {}
        self._references: dict[str, RealFeatures] = {}
        self._latents = self.latents(grid, parts.seed)  # the same at every stage

    def before_training(self) -> None:
        if self.fid_samples or self.final_samples:
            self._inception  # noqa: B018 - loads it

    @cached_property
    def _inception(self) -> inception.Inception:
        try:
            weights = inception.find_weights(self.parts.data_root, self._weights)
            return inception.Inception(weights, self.parts.device)
        except DataError as error:
            raise DataError(f"{error}\n  or train without: task.fid_samples=null task.final_samples=null") from error

    @cached_property
    def _recognition(self) -> Recognition:
        return Recognition(Classifier(self.dataset, self.parts.device), self.dataset)

    def real_samples(self, stored: Tensor) -> Tensor:
        return 2 * self.dataset.to_float(stored) - 1

    @torch.no_grad()
    def generate(self, latents: Tensor) -> Tensor:
        """Latents [N, L] → images [N, C, H, W] in [0, 1] of the judged generator."""
        generator = self.judged_generator()
        return torch.cat([(generator(chunk) + 1) / 2 for chunk in latents.split(self.chunk)]).clamp(0, 1)

    @property
    def chunk(self) -> int:  # type: ignore[override]
        return int(self.parts.batch_size)

    def noise(self, count: int, seed: int) -> tuple[Tensor, ...]:
        """Latents."""
        return (self.latents(count, seed),)

    def from_noise(self, *noise: Tensor, progress: Progress = unseen) -> Tensor:
        """Of the judged generator."""
        return self.decode(*noise)

    def decode(self, z: Tensor) -> Tensor:
        return self.generate(z).cpu()

    def latents(self, count: int, seed: int) -> Tensor:
        with isolated_rng(seed, self.parts.device):
            latents: Tensor = self.parts.model.sample_latent(count)
        return latents

    def evaluate(self, split: str) -> dict[str, Measurement]:
        if split == "valid":
            values = super().evaluate(split)
            return values | (self._fidelity(self.fid_samples) if self.fid_samples else {})
        values = self._final_fidelity(self.final_samples) if self.final_samples else {}
        return values | (self._recognized() if self._count_classes else {})

    def _fidelity(self, count: int) -> dict[str, Measurement]:
        """FID, and the Inception Score where the weights have a classifier."""
        features = self._inception.features(self._bytes(count))
        values = self._score("eval/", "train", features, ("fid", "inception_score"))
        return values | {"eval/fid_in_hundreds": Measurement(values["eval/fid"].value / 100)}

    def _final_fidelity(self, count: int) -> dict[str, Measurement]:
        """Every score of `count` images against the training set, and FID of 10,000 against both splits."""
        features = self._inception.features(self._bytes(count))
        values = self._score("test/", self.fid_split, features, fidelity.SCORES)
        if count >= TEN_THOUSAND:
            few = inception.Features(features.pool[:TEN_THOUSAND])
            values |= self._score("test/10k_train_", "train", few, ("fid",))
            values |= self._score("test/10k_test_", "test", few, ("fid",))
        return values

    def _score(
        self, prefix: str, split: str, features: inception.Features, which: tuple[str, ...]
    ) -> dict[str, Measurement]:
        reference = self._reference(split)
        found = fidelity.scores(features, reference, which)
        return {
            f"{prefix}{name}": Measurement(value, protocol=fidelity.protocol(features, reference, {name}))
            for name, value in found.items()
        }

    def _reference(self, split: str) -> RealFeatures:
        """`fid_reference` images of the training set, or as many of another split as there are."""
        if split not in self._references:
            images = self.dataset.split(split)
            count = self.fid_reference or len(images)
            cache = self.parts.data_root / ".cache" / "fidelity"
            self._references[split] = real_features(
                self._inception,
                images,
                self.dataset.name,
                split,
                count if split == "train" else min(count, len(images)),
                cache,
            )
        return self._references[split]

    def _bytes(self, count: int) -> Iterator[Tensor]:
        """Freshly generated images as bytes, the same ones at every call with the same networks."""
        yield from map(inception.to_bytes, self.chunks(count, self.scoring_seed))

    def _recognized(self) -> dict[str, Measurement]:
        """Of the grid: classes and recognized images. Of many images: their distances from the data."""
        values = recognized(self._recognition.classifier, self.generate(self._latents))
        return values | compared(self._recognition, self._compared_images())

    def _compared_images(self) -> Tensor:
        return self.generate(self.latents(self._recognition.count, self.scoring_seed))

    def notes(self, final: Mapping[str, float]) -> list[str]:
        """What must be said of an FID whose covariances have fewer images than dimensions."""
        notes = []
        for name, count in (("eval/fid", self.fid_samples), ("test/fid", self.final_samples)):
            if count is not None and name in final:
                fewest = min(count, self._reference("train").statistics.count)
                if fewest < FEATURES:
                    notes.append(
                        f"{name} is of {fewest} images, fewer than Inception has features ({FEATURES}): it is far too"
                        " high, and comparable only with FIDs of equally many"
                    )
        return notes

    def _draw_samples(self) -> Tensor:
        return self.generate(self._latents).cpu()

    def figures(self, stage: Stage, record: Record) -> dict[str, Figure]:
        side = math.ceil(math.sqrt(len(self._latents)))
        title = f"{record.title}, {STAGE_TITLES[stage]}"
        figures = {"samples": image_grid(self.samples(stage), side, side, title)}
        if stage == "end":
            figures |= self._final_figures(record)
        return figures

    def _final_figures(self, record: Record) -> dict[str, Figure]:
        few = {STAGE_TITLES[key]: images[:25] for key, images in self._samples.items()}
        figures = {
            "stages": stages(few, f"{record.title}: samples from the same latents"),
            "walk": self._walk(f"{record.title}: a walk between two latents"),
        }
        if self._count_classes:
            shares = self._recognition.classifier.shares(self._compared_images()).cpu()
            expected = self._recognition.expected.cpu()
            figures["classes"] = class_bars(shares, expected, f"{record.title}: classes of generated images")
        if self.dataset.shape[0] == 3:
            figures["perturbations"] = self._perturbations(f"{record.title}: single latent dimensions")
            figures["interpolations"] = self._interpolations(
                f"{record.title}: interpolation in latents and in pixels"
            )
        return figures

    def _walk(self, title: str) -> Figure:
        """Nine images; with a classifier between two different classes, those it is surest of."""
        with isolated_rng(self.parts.seed + 2, self.parts.device):
            latents = self.parts.model.sample_latent(WALK_CANDIDATES)
        first, last, labels = 0, 1, None
        if self._count_classes:
            confidence, found = self._recognition.classifier.probabilities(self.generate(latents)).max(1)
            first = int(confidence.argmax())
            last = int(confidence.where(found != found[first], -1).argmax())
            if found[first] != found[last]:
                labels = (f"a {found[first]}", f"a {found[last]}")
        alphas = torch.linspace(0, 1, WALK_STEPS + 2, device=latents.device).unsqueeze(1)
        walk = torch.lerp(latents[first], latents[last], alphas)
        return latent_walk(self.generate(walk).cpu(), title, labels)

    def _perturbations(self, title: str) -> Figure:
        """One latent, moved along each dimension in turn (report 001, problem 3)."""
        latent = self._latents[0]
        axes = torch.eye(len(latent), device=latent.device)
        ends = self.generate(torch.cat([latent + OFFSETS[0] * axes, latent + OFFSETS[-1] * axes]))
        low, high = ends.tensor_split(2)
        changes = (high - low).abs().flatten(1).mean(1).cpu()
        chosen = changes.argsort(descending=True)[:PERTURBED].tolist()
        points = torch.stack([latent + offset * axes[k] for k in chosen for offset in OFFSETS])
        images = self.generate(points).cpu().unflatten(0, (len(chosen), len(OFFSETS)))
        return perturbations(images, changes[chosen].tolist(), chosen, OFFSETS, title)

    def _interpolations(self, title: str) -> Figure:
        """g((1 − α) z0 + α z1) beside (1 − α) x0 + α x1 (report 001, problem 3)."""
        with isolated_rng(self.parts.seed + 3, self.parts.device):
            ends = self.parts.model.sample_latent(2 * PAIRS).view(PAIRS, 2, -1)
        alphas = torch.tensor(ALPHAS, device=ends.device)
        between = torch.lerp(ends[:, :1], ends[:, 1:], alphas.view(1, -1, 1))
        latent = self.generate(between.flatten(0, 1)).cpu().unflatten(0, (PAIRS, len(ALPHAS)))
        pixel = torch.lerp(latent[:, :1], latent[:, -1:], alphas.cpu().view(1, -1, 1, 1, 1))
        return interpolations(latent, pixel, ALPHAS, title)

    def state_dict(self) -> dict[str, Any]:
        # Another device would draw other latents.
        return super().state_dict() | {"samples": dict(self._samples), "latents": self._latents}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._samples = dict(state["samples"])
        self._latents = state["latents"].to(self.parts.device)
