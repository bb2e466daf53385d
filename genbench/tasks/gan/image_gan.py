"""Image GANs: the adversarial game on images, judged by what Inception sees and by what a classifier recognizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from torch import Tensor

from genbench.engine.batches import Batch, in_chunks
from genbench.engine.device import isolated_rng
from genbench.engine.measurement import Measurement, Quantity
from genbench.engine.task import STAGE_TITLES, Progress, Record, Samples, Stage, unseen
from genbench.errors import ConfigError, DataError
from genbench.figures.classes import class_bars
from genbench.figures.curves import Band, two_scales
from genbench.figures.grids import image_grid, stages
from genbench.figures.style import divergence_name
from genbench.metrics import inception, transformers
from genbench.metrics.classifier import Classifier
from genbench.metrics.features import Extractor, Features, to_bytes
from genbench.metrics.fidelity import RealFeatures
from genbench.metrics.real_features import check_reference, real_features
from genbench.metrics.recognition import Recognition
from genbench.registry import OneOf, Range, Text, register
from genbench.tasks.base import Parts, require, require_images
from genbench.tasks.classes import CLASS_ACCURACY, CLASSIFIED
from genbench.tasks.gan import latent_figures
from genbench.tasks.gan.adversarial import Adversarial
from genbench.tasks.gan.recognized import RECOGNITION, compared, recognized
from genbench.tasks.gan.scored import OF_NETWORKS, of_network, scored
from genbench.tasks.pictures import StagedSamples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ImageGan"]

ImageCount = Annotated[int, Range(minimum=2, maximum=10**6)]

TEN_THOUSAND = 10_000
FEWEST_RANKED = 8
TRACKS = Quantity("test/critic_tracks_fid", "rank correlation of the critic’s divergence and FID", decimals=2)


DURING = ("eval/fid", "eval/inception_score", "eval/kid")
"""Scores of every evaluation."""


@register("task", "image-gan")
class ImageGan(Samples, StagedSamples, Adversarial):
    """The adversarial game on images in [−1, 1]. Its `settings` are those of `adversarial`.

    `fid_samples` generated images are scored at every evaluation, `final_samples` at the end; null: not at all.
    They are compared with `fid_reference` real images (null: all), during training those of the training split, at
    the end those of the split `fid_split`. `grid` images are shown, from the same latents throughout. `classes` has
    a classifier, trained on the real labelled images, count the classes among them, and compare more of them with
    real images as it sees them; of a class-conditional generator it also says how many are of the class asked for.
    `inception_weights` is the file of the FID network; null: under data_root/inception, else torch-fidelity's
    download. The final scores are also computed in the features of `networks`, names of `transformers.LABELS`.
    """

    evaluation_options = frozenset(
        {"final_samples", "fid_reference", "fid_split", "classes", "inception_weights", "networks"}
    )
    quantities = (
        Quantity("test/fid", "final FID", better="lower", decimals=2),
        Quantity("eval/fid", "FID during training", better="lower", decimals=2),
        Quantity("test/inception_score", "final Inception Score", better="higher", decimals=3),
        Quantity("eval/inception_score", "Inception Score during training", better="higher", decimals=3),
        Quantity("test/kid", "final KID", better="lower", decimals=5),
        Quantity("eval/kid", "KID during training", better="lower", decimals=5),
        Quantity("test/10k_train_fid", "FID of 10,000 images, training split", better="lower", decimals=2),
        Quantity("test/10k_test_fid", "FID of 10,000 images, test split", better="lower", decimals=2),
        TRACKS,
        *OF_NETWORKS,
        *RECOGNITION,
        CLASS_ACCURACY,
    )

    def __init__(
        self,
        parts: Parts,
        *,
        grid: Annotated[int, Range(minimum=1, maximum=10_000)] = 100,
        fid_samples: ImageCount | None = None,
        fid_reference: ImageCount | None = None,
        fid_split: Annotated[str, OneOf("train", "valid", "test")] = "train",
        final_samples: ImageCount | None = None,
        classes: bool = False,
        inception_weights: Text | None = None,
        networks: list[Annotated[str, OneOf(*transformers.LABELS)]] = [],  # noqa: B006 - never written
        **settings: Any,
    ) -> None:
        require(parts.model, "model", "image-gan", "latent_dim")
        require_images(parts.dataset, "image-gan")
        if classes and not parts.dataset.labels:
            raise ConfigError(
                f"{parts.dataset.name} has no labels to train a classifier on", "set task.classes=false"
            )
        if classes:
            parts.dataset.require_every_class("set task.classes=false")
        if networks and not final_samples:
            raise ConfigError("task.networks judge the final images, and there are none", "set task.final_samples")
        if fid_samples or final_samples:
            check_reference(parts.dataset, fid_reference)
        super().__init__(parts, **settings)
        self.fid_samples, self.fid_reference, self.final_samples = fid_samples, fid_reference, final_samples
        self.fid_split = fid_split
        if fid_samples:
            # TensorBoard draws both on one axis, so FID comes in hundreds.
            both = [f"train/{self.loss.symbol}", "eval/fid_in_hundreds"]
            title = f"{divergence_name(self.loss.symbol)} vs. FID / 100"
            self.curves = {**self.curves, title: both, "FID": ["eval/fid"]}
        else:
            self.quantities = tuple(one for one in self.quantities if one.name not in DURING)
        self._names, self._count_classes = networks, classes
        self._weights = Path(inception_weights) if inception_weights else None
        self._samples: dict[str, Tensor] = {}
        self._references: dict[tuple[Extractor, str], RealFeatures] = {}
        # The same at every stage.
        self._latents, *self._labels = *self.noise(grid, parts.seed), *self.labels(grid, parts.seed)

    def before_training(self) -> None:
        if self.fid_samples or self.final_samples:
            self._inception  # noqa: B018 - loads it
            self._networks  # noqa: B018

    @cached_property
    def _inception(self) -> inception.Inception:
        try:
            weights = inception.find_weights(self.parts.data_root, self._weights)
            return inception.Inception(weights, self.parts.device)
        except DataError as error:
            raise DataError(f"{error}\n  or train without: task.fid_samples=null task.final_samples=null") from error

    @cached_property
    def _networks(self) -> dict[str, transformers.Transformer]:
        return {name: transformers.Transformer(name, self.parts.device) for name in self._names}

    @cached_property
    def _recognition(self) -> Recognition:
        return Recognition(Classifier(self.dataset, self.parts.device), self.dataset)

    def real_samples(self, stored: Tensor) -> Tensor:
        return 2 * self.dataset.to_float(stored) - 1

    @torch.no_grad()
    def generate(self, latents: Tensor, *labels: Tensor) -> Tensor:
        """Latents [N, L] → images [N, C, H, W] in [0, 1] of the judged generator."""
        generator = self.judged_generator()
        inputs = in_chunks(self.chunk, latents, *labels)
        return torch.cat([(generator(*chunk) + 1) / 2 for chunk in inputs]).clamp(0, 1)

    @property
    def chunk(self) -> int:  # type: ignore[override]
        return int(self.parts.batch_size)

    def noise(self, count: int, seed: int) -> tuple[Tensor, ...]:
        """Latents."""
        return (self.latents(count, seed),)

    def from_noise(self, *noise: Tensor, progress: Progress = unseen) -> Tensor:
        """Of the judged generator."""
        return self.generate(*noise).cpu()

    def labels(self, count: int, seed: int, label: int | None = None) -> Batch:
        return self.classes.drawn(count, seed, label)

    def decode(self, z: Tensor, label: int | None = None) -> Tensor:
        return self.generate(z, *self.classes.given(len(z), label)).cpu()

    def latents(self, count: int, seed: int) -> Tensor:
        with isolated_rng(seed, self.parts.device):
            latents: Tensor = self.parts.model.sample_latent(count)
        return latents

    def evaluate(self, split: str) -> dict[str, Measurement]:
        if split == "valid":
            values = super().evaluate(split)
            return values | (self._fidelity(self.fid_samples) if self.fid_samples else {})
        values = self._final_fidelity(self.final_samples) if self.final_samples else {}
        if self._count_classes:
            values |= self._recognized() | (self._class_accuracy() if self.classes.count else {})
        return values

    def look_back(self, record: Record) -> dict[str, Measurement]:
        """Whether the critic's estimate of the divergence fell and rose with FID over the evaluations in training:
        Spearman's rank correlation, 1 if it always did. Its protocol says how far from 0 unrelated values lie.

        Nothing for fewer than FEWEST_RANKED values of each, which may be ranked alike by chance.
        """
        fid, estimate = (dict(record.curve(name, "step")) for name in ("eval/fid", self.divergence.name))
        pairs = [(fid[step], estimate[step]) for step in fid if step > 0 and step in estimate]
        if min((len(set(column)) for column in zip(*pairs, strict=True)), default=0) < FEWEST_RANKED:
            return {}
        from scipy.stats import spearmanr, t  # half a second to import

        count = len(pairs)
        quantile = t.ppf(0.975, count - 2)
        chance = f"unrelated values lie within ±{quantile / math.sqrt(count - 2 + quantile**2):.2f} in 95 % of cases"
        protocol = {"evaluations": f"{count}; {chance}"}
        return {TRACKS.name: Measurement(float(spearmanr(pairs).statistic), protocol=protocol)}

    def _fidelity(self, count: int) -> dict[str, Measurement]:
        """FID, KID, and the Inception Score where the weights have a classifier."""
        features = self._inception.features(self._bytes(count))
        values = scored("eval/", features, self._reference("train"), ("fid", "kid", "inception_score"))
        return values | {"eval/fid_in_hundreds": Measurement(values["eval/fid"].value / 100)}

    def _final_fidelity(self, count: int) -> dict[str, Measurement]:
        """Every score of `count` images against `fid_split`, and FID of 10,000 against both splits."""
        features = self._inception.features(self._bytes(count))
        values = scored("test/", features, self._reference(self.fid_split))
        if count >= TEN_THOUSAND:
            few = Features(features.pool[:TEN_THOUSAND])
            values |= scored("test/10k_train_", few, self._reference("train"), ("fid",))
            values |= scored("test/10k_test_", few, self._reference("test"), ("fid",))
        for name, network in self._networks.items():
            values |= of_network(name, network.features(self._bytes(count)), self._reference(self.fid_split, network))
        return values

    def _reference(self, split: str, extractor: Extractor | None = None) -> RealFeatures:
        """`fid_reference` images of the training set, or as many of another split as there are, by default as
        Inception sees them."""
        key = (extractor or self._inception, split)
        if key not in self._references:
            images = self.dataset.split(split)
            count = self.fid_reference or len(images)
            count = count if split == "train" else min(count, len(images))
            cache = self.parts.data_root / ".cache" / "fidelity"
            self._references[key] = real_features(key[0], images, self.dataset.name, split, count, cache)
        return self._references[key]

    def _bytes(self, count: int) -> Iterator[Tensor]:
        """Freshly generated images as bytes, the same ones at every call with the same networks."""
        yield from map(to_bytes, self.chunks(count, self.scoring_seed))

    def _recognized(self) -> dict[str, Measurement]:
        """Of the grid: classes and recognized images. Of many images: their distances from the data."""
        values = recognized(self._recognition.classifier, self.generate(self._latents, *self._labels))
        return values | compared(self._recognition, self._compared_images())

    def _compared_images(self) -> Tensor:
        count, seed = self._recognition.count, self.scoring_seed
        return self.generate(*self.noise(count, seed), *self.labels(count, seed))

    def _class_accuracy(self) -> dict[str, Measurement]:
        seed = self.scoring_seed
        return self.classes.accuracy(self._recognition.classifier, self.sample(CLASSIFIED, seed), seed)

    def notes(self, final: Mapping[str, float]) -> list[str]:
        """What must be said of an FID whose covariances have fewer images than dimensions."""
        notes = []
        scores = (("eval/fid", self.fid_samples, "train"), ("test/fid", self.final_samples, self.fid_split))
        for name, count, split in scores:
            if count is not None and name in final:
                statistics = self._reference(split).statistics
                fewest, features = min(count, statistics.count), len(statistics.mu)
                if fewest < features:
                    notes.append(
                        f"{name} is of {fewest} images, fewer than Inception has features ({features}): it is far too"
                        " high, and comparable only with FIDs of equally many"
                    )
        return notes

    def _draw_samples(self) -> Tensor:
        return self.generate(self._latents, *self._labels).cpu()

    def figures(self, stage: Stage, record: Record) -> dict[str, Figure]:
        columns = math.ceil(math.sqrt(len(self._latents)))
        rows = math.ceil(len(self._latents) / columns)
        title = f"{record.title}, {STAGE_TITLES[stage]}"
        figures = {"samples": image_grid(self.samples(stage), rows, columns, title)}
        if stage == "end":
            figures |= self._final_figures(record)
        return figures

    def _final_figures(self, record: Record) -> dict[str, Figure]:
        few = {STAGE_TITLES[key]: images[:25] for key, images in self._samples.items()}
        # A class-conditional generator keeps to the class of the first latents of the grid.
        generate, title, seed = self._of_one_class, record.title, self.parts.seed
        candidates = self.latents(latent_figures.WALK_CANDIDATES, seed + 2)
        classifier = self._recognition.classifier if self._count_classes and not self.classes.count else None
        figures = {
            "stages": stages(few, f"{title}: samples from the same latents"),
            "walk": latent_figures.walk(generate, candidates, classifier, f"{title}: a walk between two latents"),
            **self.classes.figures(self, title),
        }
        if self._count_classes:
            shares = self._recognition.classifier.shares(self._compared_images()).cpu()
            expected = self._recognition.expected.cpu()
            figures["class-shares"] = class_bars(shares, expected, f"{record.title}: classes of generated images")
        if self.fid_samples and len(fid := record.curve("eval/fid", "step")) > 1:
            seen = Band(self.divergence.title, *np.array(record.curve(self.divergence.name, "step")).T)
            figures["divergence-beside-fid"] = two_scales(seen, Band("FID", *np.array(fid).T), title)
        if self.dataset.shape[0] == 3:
            ends = self.latents(2 * latent_figures.PAIRS, seed + 3)
            figures["perturbations"] = latent_figures.perturbed(
                generate, self._latents[0], f"{title}: single latent dimensions"
            )
            figures["interpolations"] = latent_figures.interpolated(
                generate, ends, f"{title}: interpolation in latents and in pixels"
            )
        return figures

    def _of_one_class(self, latents: Tensor) -> Tensor:
        return self.generate(latents, *(labels[:1].expand(len(latents)) for labels in self._labels))

    def state_dict(self) -> dict[str, Any]:
        # Another device would draw other latents.
        return super().state_dict() | {"samples": dict(self._samples), "latents": self._latents}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._samples = dict(state["samples"])
        self._latents = state["latents"].to(self.parts.device)
