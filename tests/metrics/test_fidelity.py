"""The scores against closed forms, torch-fidelity called directly, and real CIFAR-10 images where they are."""

from __future__ import annotations

import hashlib
import math
import operator
import os
import urllib.error
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from genbench.errors import ConfigError, DataError
from genbench.metrics import features, fidelity, inception
from genbench.metrics.features import Features
from genbench.metrics.fidelity import Statistics
from genbench.metrics.inception import Inception
from genbench.metrics.real_features import real_features

DATA = Path(os.environ.get("GENBENCH_DATA", "data")).absolute()
FEATURES_ONLY = "weights-inception-2015-12-05-features.pth"
CPU = torch.device("cpu")


def noise(count: int, seed: int, dimension: int = 16) -> Tensor:
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))


def pictures(count: int, seed: int = 0, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, 8, 8), dtype=torch.uint8, generator=generator)


def numpy_state() -> list[int]:
    return np.random.get_state(legacy=False)["state"]["key"].tolist()  # noqa: NPY002


class Fake:
    """Pixels as features; remembers how often it looked."""

    weights_id = "fake"
    layer = "pixels"
    device = CPU

    def __init__(self) -> None:
        self.calls = 0

    @property
    def protocol(self) -> dict[str, str]:
        return {"inception": "pixels", "inception_weights": self.weights_id}

    def features(self, batches: Iterable[Tensor]) -> Features:
        self.calls += 1
        return Features(torch.cat([batch.flatten(1)[:, :16].float() for batch in batches]))


# Bytes


def test_every_byte_survives_the_way_to_floats_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(features.to_bytes(every.float() / 255), every)


def test_floats_become_the_nearest_byte() -> None:
    x = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 127.4 / 255, 127.6 / 255, 1.5, float("inf"), float("nan")])
    found = features.to_bytes(x.view(1, 1, 2, 4))
    assert found.dtype == torch.uint8
    assert found.flatten().tolist() == [0, 0, 1, 127, 128, 255, 255, 0]


# Formulas


def test_frechet_distance_of_commuting_covariances() -> None:
    rng = np.random.RandomState(0)
    basis, _ = np.linalg.qr(rng.randn(6, 6))
    a, b = rng.uniform(0.5, 2, (2, 6))
    mu_a, mu_b = rng.randn(2, 6)
    first, second = (
        Statistics(torch.from_numpy(mu), torch.from_numpy(basis * values @ basis.T), 10)
        for mu, values in ((mu_a, a), (mu_b, b))
    )
    found = fidelity.frechet_distance(first, second)
    assert found == pytest.approx(((mu_a - mu_b) ** 2).sum() + ((a**0.5 - b**0.5) ** 2).sum(), rel=1e-10)


def test_frechet_distance_is_torch_fidelitys() -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    a, b = noise(300, 1), noise(200, 2) + 0.3
    theirs = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), verbose=False)
    ours = fidelity.statistics(a), fidelity.statistics(b)
    assert fidelity.frechet_distance(*ours) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-5)
    assert (ours[0].count, ours[1].count) == (300, 200)
    assert {each.dtype for own in ours for each in (own.mu, own.sigma)} == {torch.float64}


@pytest.mark.parametrize(("count", "dimension"), [(300, 32), (20, 64)])
def test_a_reference_is_decomposed_once(count: int, dimension: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is compared; each comparison costs the eigenvalues of one symmetric matrix. Of fewer images
    than dimensions too, where half of the eigenvalues are 0."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    calls: list[str] = []
    for name in ("eigh", "eigvalsh", "eigvals", "eig", "svd", "svdvals"):
        function = getattr(torch.linalg, name)
        monkeypatch.setattr(torch.linalg, name, lambda *a, n=name, f=function, **k: calls.append(n) or f(*a, **k))
    real = noise(count, 0, dimension) + 0.2
    reference = fidelity.statistics(real)
    for seed in range(1, 4):
        generated = noise(count, seed, dimension)
        theirs = fid_statistics_to_metric(
            *(fid_features_to_statistics(features.double()) for features in (generated, real)), verbose=False
        )
        own = fidelity.frechet_distance(fidelity.statistics(generated), reference)
        assert own == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert calls == ["eigh", *["eigvalsh"] * 3]


def test_mean_and_covariance_of_many_images() -> None:
    """More than are converted at a time."""
    pool = noise(2500, 1)
    found, x = fidelity.statistics(pool), pool.double()
    torch.testing.assert_close(found.mu, x.mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.sigma, torch.cov(x.T), rtol=0, atol=1e-12)
    assert found.count == 2500


def test_one_image_is_no_distribution() -> None:
    with pytest.raises(ValueError, match="at least two images"):
        fidelity.statistics(noise(1, 1))


def test_settings_are_torch_fidelitys() -> None:
    from torch_fidelity.defaults import DEFAULTS
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    ours = (fidelity.KID_SUBSETS, fidelity.KID_SUBSET_SIZE, fidelity.NEIGHBOURHOOD, fidelity.IS_SPLITS, fidelity.SEED)
    names = ("kid_subsets", "kid_subset_size", "prc_neighborhood", "isc_splits", "rng_seed")
    assert ours == tuple(DEFAULTS[name] for name in names)
    assert URL_INCEPTION_V3.endswith(f"/{inception.WEIGHTS}")


def test_kernel_distance_is_torch_fidelitys(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity.metric_kid import kid_features_to_metric

    monkeypatch.setattr(fidelity, "KID_SUBSETS", 5)  # of a hundred: seconds
    a, b = noise(1200, 1), noise(1100, 2) + 0.3
    found = fidelity.kernel_distance(a, b)
    assert found == kid_features_to_metric(a, b, kid_subsets=5, verbose=False)["kernel_inception_distance_mean"]
    assert found > 0.01
    assert abs(fidelity.kernel_distance(a, noise(1100, 2))) < 0.005


def test_kernel_distance_of_fewer_images_than_a_subset() -> None:
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = noise(60, 1), noise(90, 2)
    theirs = kid_features_to_metric(a, b, kid_subset_size=60, verbose=False)["kernel_inception_distance_mean"]
    assert fidelity.kernel_distance(a, b) == theirs


def test_kernel_distance_is_that_of_the_definition() -> None:
    """Pair by pair, none of an image with itself; here every subset holds all the images."""
    a, b = noise(30, 1, dimension=4).double(), 0.8 * noise(30, 2, dimension=4).double() + 0.3

    def kernels(first: Tensor, second: Tensor) -> list[list[float]]:
        return [[(sum(map(operator.mul, x, y)) / 4 + 1) ** 3 for y in second.tolist()] for x in first.tolist()]

    def among(images: Tensor) -> float:
        found = kernels(images, images)
        return sum(found[i][j] for i in range(30) for j in range(30) if i != j) / (30 * 29)

    expected = among(a) + among(b) - 2 * sum(map(sum, kernels(a, b))) / 30**2
    assert fidelity.kernel_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_precision_and_recall_of_the_same_and_of_distant_sets() -> None:
    a = noise(200, 1)
    assert fidelity.precision_recall(a, a) == (1.0, 1.0)
    assert fidelity.precision_recall(a, a + 100) == (0.0, 0.0)
    assert fidelity.precision_recall(a[:2], a[:2]) == (1.0, 1.0)  # one neighbour only


def test_precision_without_recall_where_half_of_the_modes_are_dropped() -> None:
    real = noise(400, 1, dimension=2)
    real[200:] += 50
    precision, recall = fidelity.precision_recall(noise(400, 2, dimension=2), real)
    assert precision > 0.9
    assert recall == pytest.approx(0.5, abs=0.05)


def test_precision_and_recall_are_torch_fidelitys() -> None:
    from torch_fidelity.metric_prc import prc_features_to_metric

    a, b = noise(1500, 1, dimension=4), 0.7 * noise(1500, 2, dimension=4)
    theirs = prc_features_to_metric(a, b, verbose=False)
    assert fidelity.precision_recall(a, b) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-3)
    assert 0.1 < theirs["precision"] < theirs["recall"] < 1


def test_precision_and_recall_compare_equally_many() -> None:
    a, b = noise(300, 1, dimension=4), noise(900, 2, dimension=4)
    some = b[torch.from_numpy(fidelity.rows(900, 300))]
    assert fidelity.precision_recall(a, b) == fidelity.precision_recall(a, some)
    assert fidelity.precision_recall(b, a) == fidelity.precision_recall(some, a)


def share_inside(images: Tensor, others: Tensor, k: int) -> float:
    """By hand: how many images lie in a ball around one of the others that reaches to its k-th neighbour."""
    centres = others.tolist()
    radii = [sorted(math.dist(one, other) for other in centres)[k] for one in centres]  # the nearest is itself
    balls = list(zip(centres, radii, strict=True))
    inside = [any(math.dist(image, centre) <= radius for centre, radius in balls) for image in images.tolist()]
    return sum(inside) / len(images)


@pytest.mark.parametrize(("count", "k"), [(60, 3), (3, 2)])
def test_precision_and_recall_are_those_of_the_definition(count: int, k: int) -> None:
    """Kynkäänniemi et al. 2019, image by image; of three images, each has but two neighbours."""
    generated, real = noise(count, 1, dimension=3).double(), 0.6 * noise(count, 2, dimension=3).double() + 0.3
    expected = share_inside(generated, real, k), share_inside(real, generated, k)
    assert fidelity.precision_recall(generated, real) == pytest.approx(expected, abs=1e-6)
    assert expected[0] < expected[1]


def neighbours_by_hand(generated: Tensor, real: Tensor, k: int) -> tuple[float, float]:
    """Density and coverage as the paper writes them, image by image."""
    memberships, covered = 0, 0
    for i, centre in enumerate(real):
        others = sorted(math.dist(centre, other) for j, other in enumerate(real) if j != i)
        inside = [math.dist(centre, image) < others[k - 1] for image in generated]
        memberships += sum(inside)
        covered += any(inside)
    return memberships / (k * len(generated)), covered / len(real)


@pytest.mark.parametrize(("generated", "real"), [(30, 40), (40, 30)])
def test_density_and_coverage_are_those_of_the_definition(
    generated: int, real: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fidelity, "BLOCK", 7)
    a, b = noise(generated, 1, dimension=3), 0.7 * noise(real, 2, dimension=3) + 0.3
    for k in (1, 5):
        assert fidelity.density_coverage(a, b, k) == pytest.approx(neighbours_by_hand(a, b, k), rel=1e-12)


def test_density_and_coverage_of_points_on_a_line() -> None:
    real = torch.tensor([[0.0], [1.0], [3.0], [10.0]])  # balls to the nearest: of radius 1, 1, 2, 7
    assert fidelity.density_coverage(torch.tensor([[0.5]]), real, 1) == (2.0, 0.5)  # in the first two
    assert fidelity.density_coverage(torch.tensor([[0.5], [4.0]]), real, 1) == (2.0, 1.0)  # and in the last two
    assert fidelity.density_coverage(torch.tensor([[-5.0]]), real, 1) == (0.0, 0.0)
    # An outlier among the real images has a large ball, which hardly counts.
    assert fidelity.density_coverage(torch.tensor([[8.0]]), real, 1) == (1.0, 0.25)
    # There are but three neighbours.
    assert fidelity.density_coverage(real[:1], real, 5) == fidelity.density_coverage(real[:1], real, 3)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("dimension", [2, 32])
def test_of_one_distribution_density_and_coverage_are_those_of_the_paper(k: int, dimension: int) -> None:
    """Whatever the distribution; a half of the modes is half of the coverage, and a repeated image almost none."""
    found = [
        fidelity.density_coverage(noise(500, 2 * seed, dimension), noise(500, 2 * seed + 1, dimension), k)
        for seed in range(20)
    ]
    density, coverage = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
    expected = 1 - math.prod((500 - i) / (1000 - i) for i in range(1, k + 1))
    assert density == pytest.approx(1, abs=0.06)
    assert coverage == pytest.approx(expected, abs=0.015)
    assert expected == pytest.approx(1 - 2**-k, abs=0.01)
    real = noise(400, 1, dimension)
    real[200:] += 500
    assert fidelity.density_coverage(noise(400, 2, dimension), real, k)[1] <= 0.5
    assert fidelity.density_coverage(real[:1].expand(400, -1), real, k)[1] < 0.2


@pytest.mark.parametrize("classes", [1, 4])
def test_inception_score_of_certain_and_balanced_classes_is_their_number(classes: int) -> None:
    logits = 100 * torch.eye(8)[torch.arange(8000) % classes]
    assert fidelity.inception_score(logits) == pytest.approx(classes, rel=3e-3)


def test_inception_score_of_uncertain_classes_is_one() -> None:
    assert fidelity.inception_score(noise(1, 1).expand(50, -1)) == pytest.approx(1)
    assert fidelity.inception_score(noise(3, 1)) >= 1  # fewer than ten splits


def test_inception_score_is_that_of_the_definition() -> None:
    """Salimans et al. 2016, in ten splits of 10 or 11 images, sorted by class until they are shuffled."""
    logits = 2 * noise(103, 1, dimension=5).double() + 3 * torch.eye(5)[torch.arange(103) // 21]
    order = np.random.RandomState(2020).permutation(103)
    odds = np.exp(logits.numpy()[order])
    p = odds / odds.sum(1, keepdims=True)
    expected = []
    for i in range(10):
        split = p[103 * i // 10 : 103 * (i + 1) // 10]
        expected.append(math.exp(np.mean(np.sum(split * np.log(split / split.mean(0)), 1))))
    assert fidelity.inception_score(logits) == pytest.approx(sum(expected) / 10, rel=1e-10)


def test_scores_leave_the_global_generators_alone() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), numpy_state()
    fake = Fake()
    real = real_features(fake, pictures(60), "set", "test", 50, None)
    first = fidelity.scores(Features(fake.features([pictures(40, 1)]).pool, noise(40, 1)), real)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert numpy_state() == before[1]
    assert first == fidelity.scores(Features(fake.features([pictures(40, 1)]).pool, noise(40, 1)), real)


# What is measured, and what is said about it


def test_scores_that_were_asked_for() -> None:
    real = real_features(Fake(), pictures(60), "set", "test", 60, None)
    generated = Features(Fake().features([pictures(40, 1)]).pool, noise(40, 1))
    assert list(fidelity.scores(generated, real)) == list(fidelity.SCORES)
    assert list(fidelity.scores(generated, real, ["recall"])) == ["recall"]
    assert fidelity.scores(generated, real, []) == {}
    with pytest.raises(ValueError, match="unknown score 'is'"):
        fidelity.scores(generated, real, ["is"])
    with pytest.raises(ValueError, match="at least two images"):
        fidelity.scores(Features(generated.pool[:1]), real, ["kid"])


def test_no_inception_score_without_a_classifier() -> None:
    real = real_features(Fake(), pictures(60), "set", "test", 60, None)
    generated = Fake().features([pictures(40, 1)])
    assert list(fidelity.scores(generated, real)) == ["fid", "kid", "precision", "recall"]
    assert fidelity.protocol(generated, real)["inception_score"] == "unavailable: weights without classifier head"


def test_protocol() -> None:
    real = real_features(Fake(), pictures(60), "set", "test", 50, None)
    generated = Features(noise(1200, 1), noise(1200, 1))
    assert fidelity.protocol(generated, real) == {
        "n_generated": "1200",
        "n_reference": "50",
        "reference_split": "set test",
        "reference_rows": "RandomState(2020).choice(60, 50, replace=False)",
        "inception": "pixels",
        "inception_weights": "fake",
        "rounding": "clamp to [0, 1], then the byte nearest to 255 x",
        "kid": "100 subsets of 50, out of 1200 generated and 50 real images",
        "precision_recall": "50 images of each, neighbourhood 3, pixels",
        "inception_score": "10 splits",
    }
    large = replace(real, pool=noise(3000, 2))
    assert fidelity.protocol(generated, large, ["kid"])["kid"].startswith("100 subsets of 1000, out of")
    assert not {"precision_recall", "inception_score"} & set(fidelity.protocol(generated, large, ["kid"]))


# Real images and their cache


def test_reference_of_all_rows_and_of_some() -> None:
    images = pictures(60)
    every = real_features(Fake(), images, "set", "test", 60, None)
    assert torch.equal(every.pool, Fake().features([images]).pool)
    assert every.chosen == "all 60"
    some = real_features(Fake(), images, "set", "test", 20, None)
    chosen = np.random.RandomState(2020).choice(60, 20, replace=False)
    assert torch.equal(some.pool, Fake().features([images[torch.from_numpy(chosen)]]).pool)
    assert some.statistics.count == 20
    torch.testing.assert_close(some.statistics.mu, some.pool.double().mean(0))


def test_features_are_kept_of_some_rows_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("genbench.metrics.real_features.POOL_ROWS", 10)
    for _ in range(2):  # computed, then found
        real = real_features(Fake(), pictures(60), "set", "test", 60, tmp_path)
        assert real.pool.shape == (10, 16)
        assert real.statistics.count == 60


@pytest.mark.parametrize("count", [1, 61])
def test_more_images_than_there_are(count: int) -> None:
    with pytest.raises(ConfigError, match=rf"{count} reference images of set, split test, .* it has 60\n.*2 to 60"):
        real_features(Fake(), pictures(60), "set", "test", count, None)


def test_a_reference_is_computed_once(tmp_path: Path) -> None:
    fake = Fake()
    first = real_features(fake, pictures(60), "set", "test", 50, tmp_path / "new" / "fidelity")
    second = real_features(fake, pictures(60), "set", "test", 50, tmp_path / "new" / "fidelity")
    assert fake.calls == 1
    assert torch.equal(first.pool, second.pool)
    assert torch.equal(first.statistics.mu, second.statistics.mu)
    assert torch.equal(first.statistics.sigma, second.statistics.sigma)
    names = ("name", "split", "chosen", "network", "layer")
    assert [getattr(first, name) for name in names] == [getattr(second, name) for name in names]
    assert len(list((tmp_path / "new" / "fidelity").iterdir())) == 1


@pytest.mark.parametrize("change", ["images", "name", "split", "count", "weights", "rows", "library"])
def test_another_reference_is_computed_anew(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, images = Fake(), pictures(60)
    real_features(fake, images, "set", "test", 50, tmp_path)
    if change == "images":
        images[fidelity.rows(60, 50)[0], 0, 0, 0] ^= 1
    if change == "rows":  # the same fifty images, now all there are
        images = images[torch.from_numpy(fidelity.rows(60, 50))]
    if change == "weights":
        fake.weights_id = "others"
    if change == "library":
        monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0")
    name = "other" if change == "name" else "set"
    split = "train" if change == "split" else "test"
    real_features(fake, images, name, split, 40 if change == "count" else 50, tmp_path)
    assert fake.calls == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "pickle"])
def test_a_damaged_cache_is_computed_anew(damage: str, tmp_path: Path) -> None:
    fake = Fake()
    first = real_features(fake, pictures(60), "set", "test", 50, tmp_path)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "foreign":  # named as ours, but of something else
        with path.open("wb") as file:
            np.savez(file, key=np.array("other"), mu=np.zeros(16), sigma=np.eye(16), pool=np.zeros((50, 16)))
    else:
        with path.open("wb") as file:
            np.savez(file, key=np.array([{}], dtype=object), mu=np.zeros(16), sigma=np.eye(16), pool=np.zeros(16))
    for calls in (2, 2):  # and mended
        again = real_features(fake, pictures(60), "set", "test", 50, tmp_path)
        assert torch.equal(again.pool, first.pool)
        assert fake.calls == calls


def test_without_a_place_to_write_it_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    fake = Fake()
    for calls in (1, 2):
        real_features(fake, pictures(60), "set", "test", 50, tmp_path / "file" / "fidelity")
        assert fake.calls == calls


# Inception and its weights


def test_weights_under_the_data_root(tmp_path: Path) -> None:
    assert inception.find_weights(tmp_path, None) is None
    place = tmp_path / "inception"
    place.mkdir()
    (place / "notes.txt").touch()
    assert inception.find_weights(tmp_path, None) is None
    (place / FEATURES_ONLY).touch()
    assert inception.find_weights(tmp_path, None) == place / FEATURES_ONLY
    (place / inception.WEIGHTS).touch()
    assert inception.find_weights(tmp_path, None) == place / inception.WEIGHTS
    assert inception.find_weights(tmp_path, place / FEATURES_ONLY) == place / FEATURES_ONLY


def test_chosen_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no Inception weights at .*absent\.pth\n.*task\.inception_weights"):
        inception.find_weights(tmp_path, tmp_path / "absent.pth")


def test_weights_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", fail)
    with pytest.raises(DataError) as caught:
        Inception(None, CPU)
    message = str(caught.value)
    assert f"{inception.WEIGHTS} is not at {tmp_path}" in message
    assert f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{inception.WEIGHTS}" in message
    assert "no network" in message
    assert "task.inception_weights=PATH" in message
    assert "inception/ under data_root" in message


@pytest.fixture(scope="module")
def random_state() -> dict[str, Tensor]:
    """A state that torch-fidelity's network accepts, untrained."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        return module.FeatureExtractorInceptionV3("untrained", ["2048"]).state_dict()


@pytest.fixture(scope="module")
def untrained(random_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "untrained.pth"
    torch.save(random_state, path)
    return path


def test_features_of_a_network_with_a_classifier(
    untrained: Path,
    random_state: dict[str, Tensor],
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    before = torch.get_rng_state()
    network = Inception(untrained, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert network.has_classifier
    assert network.layer == "Inception pool"
    assert network.protocol == {
        "inception": "torch-fidelity inception-v3-compat (TensorFlow 2015-12-05)",
        "inception_weights": network.weights_id,
        "resize": "bilinear to 299x299, TensorFlow 1 style (corners not aligned, no antialiasing)",
    }
    assert network.weights_id == f"unknown file, SHA-256 {hashlib.sha256(untrained.read_bytes()).hexdigest()[:12]}"
    found = network.features([pictures(2), pictures(0), pictures(1, seed=1)])
    assert capfd.readouterr() == ("", "")
    assert not [w for w in recwarn if not issubclass(w.category, DeprecationWarning)]
    assert found.pool.shape == (3, 2048) and found.pool.dtype == torch.float32
    assert not found.pool.requires_grad
    assert found.logits is not None
    torch.testing.assert_close(found.logits, found.pool @ random_state["fc.weight"].T)  # no bias
    one = network.features([pictures(1, seed=1)])
    torch.testing.assert_close(one.pool, found.pool[2:])


def test_features_are_torch_fidelitys(random_state: dict[str, Tensor], tmp_path: Path) -> None:
    """Which computes batch norms as they are; here none is the identity."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    generator = torch.Generator().manual_seed(0)
    state = dict(random_state)
    for name, tensor in random_state.items():
        if name.endswith(("bn.weight", "bn.running_var")):
            state[name] = 0.5 + torch.rand(tensor.shape, generator=generator)
        elif name.endswith(("bn.bias", "bn.running_mean")):
            state[name] = torch.randn(tensor.shape, generator=generator) / 4
    path = tmp_path / "random.pth"
    torch.save(state, path)
    images = pictures(3)
    plain = FeatureExtractorInceptionV3("plain", ["2048"], feature_extractor_weights_path=str(path)).eval()
    with torch.no_grad():
        (expected,) = plain(images)
    assert expected.std() > 0.1 * expected.mean()
    torch.testing.assert_close(Inception(path, CPU).features([images]).pool, expected, rtol=1e-4, atol=1e-4)


def test_grey_images_have_three_equal_channels(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Inception(untrained, CPU)
    grey = pictures(3, channels=1)
    found = network.features([grey])
    monkeypatch.setattr(network, "_chunk", 2)  # and however they are chunked
    torch.testing.assert_close(network.features([grey.repeat(1, 3, 1, 1)]).pool, found.pool)


def test_what_is_no_image(untrained: Path) -> None:
    network = Inception(untrained, CPU)
    for wrong in (pictures(2).float(), pictures(2, channels=2), pictures(2)[0]):
        with pytest.raises(ValueError, match="expected uint8 images"):
            network.features([wrong])
    with pytest.raises(ValueError, match="no images"):
        network.features([])


def test_weights_without_a_classifier(random_state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "without_classifier.pth"
    state = {key: torch.full_like(x, torch.nan) if key.startswith("fc.") else x for key, x in random_state.items()}
    torch.save(state, path)
    network = Inception(path, CPU)
    assert not network.has_classifier
    assert network.features([pictures(1)]).logits is None


@pytest.fixture
def known(random_state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Takes the place of the features-only weights, which are known by their tensors."""
    monkeypatch.setattr(inception, "DERIVED", inception._digest_of_features(random_state))
    path = tmp_path / FEATURES_ONLY
    torch.save({key: x for key, x in random_state.items() if "fc." not in key} | CLASSIFIER, path)
    return path


CLASSIFIER = {"fc.weight": torch.full((1008, 2048), torch.nan), "fc.bias": torch.full((1008,), torch.nan)}


def test_known_weights_are_known_by_their_tensors(known: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(known.read_bytes()).hexdigest()
    assert Inception(known, CPU).weights_id == digest[:12]
    torch.save(torch.load(known, weights_only=True), tmp_path / "again.pth", _use_new_zipfile_serialization=False)
    assert not Inception(tmp_path / "again.pth", CPU).weights_id.startswith("unknown")


@pytest.mark.parametrize("name", [FEATURES_ONLY, inception.WEIGHTS])
def test_a_flipped_bit_in_known_weights_is_refused(known: Path, name: str, tmp_path: Path) -> None:
    """In an exponent: the file loads, and every number in it is finite."""
    state = torch.load(known, weights_only=True)
    weight = state["Conv2d_2b_3x3.conv.weight"].view(-1)
    weight.view(torch.int32)[7] ^= 1 << 29
    assert weight.isfinite().all()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    torch.save(state, damaged / name)
    with pytest.raises(DataError, match=rf"{name} is not .*: it is damaged, its SHA-256 .*\n.*delete it"):
        Inception(damaged / name, CPU)
    other = damaged / "other.pth"
    (damaged / name).rename(other)
    assert Inception(other, CPU).weights_id.startswith("unknown file, SHA-256 ")


def test_a_file_is_identified_once_in_a_process(known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Inception(known, CPU).weights_id
    monkeypatch.setattr(inception, "_digest_of_features", None)
    assert Inception(known, CPU).weights_id == first


def test_the_published_file_is_known_by_the_digits_in_its_name() -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    assert inception.PUBLISHED == "6726825d"
    assert torch.hub.HASH_REGEX.search(URL_INCEPTION_V3).group(1) == inception.PUBLISHED


def test_the_features_only_file_is_a_known_one() -> None:
    path = DATA / "inception" / FEATURES_ONLY
    if not path.is_file():
        pytest.skip("Inception's weights are not under the data root")
    assert inception._digest_of_features(torch.load(path, weights_only=True)) == inception.DERIVED


@pytest.mark.parametrize("there", ["nothing", "a broken download", "the file"])
def test_a_broken_download_is_replaced(there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    content, fetched = b"weights", []
    monkeypatch.setattr(inception, "PUBLISHED", hashlib.sha256(content).hexdigest()[:8])
    path = tmp_path / "hub" / "checkpoints" / inception.WEIGHTS
    path.parent.mkdir(parents=True)
    if there != "nothing":
        path.write_bytes(content[: 3 if there == "a broken download" else None])

    def fetch(urls: list[str], target: Path, algorithm: str, digest: str) -> None:
        assert (target, algorithm, digest) == (path, "sha256", inception.PUBLISHED)
        fetched.append(urls)
        target.write_bytes(content)

    monkeypatch.setattr(features, "fetch", fetch)
    assert inception._download().read_bytes() == content
    assert len(fetched) == (0 if there == "the file" else 1)


class Harmful:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("content", ["absent", "text", "pickle", "list", "other network", "not finite"])
def test_files_that_are_no_weights(content: str, random_state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("not a checkpoint")
    elif content == "pickle":
        torch.save(Harmful(tmp_path / "harm"), path)
    elif content == "list":
        torch.save([1, 2], path)
    elif content == "other network":
        torch.save({"weight": torch.zeros(2)}, path)
    elif content == "not finite":
        torch.save({**random_state, "Mixed_7c.branch1x1.bn.weight": torch.full((320,), torch.inf)}, path)
    with pytest.raises(DataError, match=r"not a readable file of Inception weights: .+\n.*task\.inception_weights"):
        Inception(path, CPU)
    assert not (tmp_path / "harm").exists()


# CIFAR-10


def cifar10(*files: str) -> Tensor:
    """[N, 3, 32, 32] of the published binary files: a label and 3072 pixels a record."""
    paths = [DATA / "cifar-10-batches-bin" / file for file in files]
    if not all(path.is_file() for path in paths):
        pytest.skip("CIFAR-10's binary files are not under the data root")
    records = np.concatenate([np.fromfile(path, dtype=np.uint8).reshape(-1, 3073) for path in paths])
    return torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32))


def measure(count: int) -> float:
    """FID between `count` training and `count` test images of CIFAR-10."""
    splits = cifar10(*(f"data_batch_{i}.bin" for i in range(1, 6))), cifar10("test_batch.bin")
    weights = inception.find_weights(DATA, None)
    if weights is None:
        pytest.skip("Inception's weights are not under the data root")
    network = Inception(weights, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    found = [network.features([x[torch.from_numpy(fidelity.rows(len(x), count))]]) for x in splits]
    return fidelity.frechet_distance(*(fidelity.statistics(each.pool) for each in found))


def test_fid_of_256_training_and_test_images() -> None:
    assert measure(256) == pytest.approx(110.2808, rel=1e-4)


@pytest.mark.acceptance
@pytest.mark.long
def test_fid_of_5000_training_and_test_images() -> None:
    assert measure(5000) == pytest.approx(10.3233, abs=1e-3)
