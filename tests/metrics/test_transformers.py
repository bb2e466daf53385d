"""DINOv2 and CLIP through torch-fidelity, with small random networks in their place."""

from __future__ import annotations

import hashlib
import urllib.error
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics, feature_extractor_clip
from torch_fidelity.metric_fid import KEY_METRIC_FID
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL

from genbench.errors import DataError
from genbench.metrics import features
from genbench.metrics.real_features import real_features
from genbench.metrics.transformers import LABELS, Transformer
from genbench.tasks.gan.scored import OF_NETWORKS, of_network

CPU = torch.device("cpu")
CLIP, DINO = "clip-vit-b-32", "dinov2-vit-s-14"

HUBCONF = """
import torch

def dinov2_vits14():
    torch.manual_seed(3)
    patches = torch.nn.Conv2d(3, 12, 14, 14)
    return torch.nn.Sequential(patches, torch.nn.GELU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
"""


class Images(Dataset[Tensor]):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Tensor:
        return self.images[row]


def pictures(count: int, seed: int) -> Tensor:
    """Smooth random images, so that resizing leaves something of them."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return features.to_bytes(nn.functional.interpolate(coarse**seed, 32, mode="bilinear"))


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """torch.hub's folder with a small CLIP, whose digest is taken for the published one, and a small "DINOv2"."""
    torch.hub.set_dir(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.manual_seed(0)
    network = feature_extractor_clip.CLIPVisual(16, 32, 2, 64, 16)
    network.text_projection = nn.Parameter(torch.zeros(1, 16))
    network.forward = lambda x: network.visual(x)  # type: ignore[method-assign]
    part = tmp_path / "checkpoints" / "part.pt"
    with warnings.catch_warnings():  # the published files are of this kind, too
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network, torch.rand(1, 3, 32, 32)), part)
    digest = hashlib.sha256(part.read_bytes()).hexdigest()
    part.rename(part.with_name(f"{CLIP}-{digest}.pt"))
    monkeypatch.setitem(feature_extractor_clip.MODEL_METADATA, CLIP, {"hash": digest, "filename": "ViT-B-32"})
    repository = tmp_path / "facebookresearch_dinov2_main"
    repository.mkdir()
    (repository / "hubconf.py").write_text(HUBCONF)
    monkeypatch.setattr("torch.hub.urlopen", _unreachable)
    yield tmp_path
    torch.hub._hub_dir = None


def _unreachable(*_: object, **__: object) -> None:
    raise urllib.error.URLError("no internet")


@pytest.mark.filterwarnings("ignore:`torch.jit.load`:FutureWarning")  # of the library called directly
@pytest.mark.parametrize("name", [CLIP, DINO])
def test_scores_are_those_of_the_library(name: str, weights: Path) -> None:
    generated, real = pictures(40, 1), pictures(40, 2)
    before = torch.get_rng_state()
    network = Transformer(name, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    found = of_network(name, network.features([generated]), real_features(network, real, "set", "test", 40, None))
    settings = {"feature_extractor_weights_path": next(weights.glob("*/clip*.pt"))} if name == CLIP else {}
    theirs = calculate_metrics(
        input1=Images(generated),
        input2=Images(real),
        feature_extractor=name,
        fid=True,
        kid=True,
        kid_subset_size=40,
        prc=True,
        cuda=False,
        verbose=False,
        cache=False,
        save_cpu_ram=True,
        **settings,
    )
    key = name.replace("-", "_")
    values = [found[f"test/{score}_{key}"].value for score in ("fd", "kd", "precision", "recall")]
    names = (KEY_METRIC_FID, KEY_METRIC_KID_MEAN, KEY_METRIC_PRECISION, KEY_METRIC_RECALL)
    assert values == pytest.approx([theirs[each] for each in names], rel=1e-4, abs=1e-6)
    assert values[0] > 0
    protocol = found[f"test/fd_{key}"].protocol
    assert protocol["network"] == f"torch-fidelity {name}" and protocol["network_weights"] == network.weights_id
    assert not {"inception", "inception_weights"} & protocol.keys()
    assert found[f"test/precision_{key}"].protocol["precision_recall"].endswith(LABELS[name])


def test_other_weights_have_another_name(weights: Path) -> None:
    first = Transformer(DINO, CPU).weights_id
    assert Transformer(DINO, CPU).weights_id == first
    conf = weights / "facebookresearch_dinov2_main" / "hubconf.py"
    conf.write_text(HUBCONF.replace("manual_seed(3)", "manual_seed(4)"))
    assert Transformer(DINO, CPU).weights_id != first


def test_a_damaged_file_is_not_opened(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(weights.glob("*/clip*.pt"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    def fetch(urls: list[str], *_: object) -> None:
        raise OSError(f"{urls[0]}: no internet")

    monkeypatch.setattr(features, "fetch", fetch)
    with pytest.raises(DataError, match=r"clip-vit-b-32-.*\.pt is not at .*\n.*\$TORCH_HOME/hub.*task\.networks"):
        Transformer(CLIP, CPU)


def test_weights_that_cannot_be_had(weights: Path) -> None:
    (weights / "facebookresearch_dinov2_main" / "hubconf.py").unlink()
    (weights / "facebookresearch_dinov2_main").rmdir()
    with pytest.raises(DataError, match=r"the weights of DINOv2 ViT-S/14 cannot be had: .*\n.*task\.networks"):
        Transformer(DINO, CPU)


def test_every_network_is_one_of_the_librarys() -> None:
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    assert set(LABELS) <= set(FEATURE_EXTRACTORS_REGISTRY)
    names = [quantity.name for quantity in OF_NETWORKS]
    assert len(set(names)) == len(names) == 4 * len(LABELS)
