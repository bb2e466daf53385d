"""Features of images from torch-fidelity's Inception network."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from genbench.data.download import digest_of, fetch
from genbench.engine.device import inference_layout, repeatable
from genbench.errors import DataError

__all__ = [
    "NETWORK",
    "RESIZE",
    "ROUNDING",
    "Extractor",
    "Features",
    "Inception",
    "find_weights",
    "library_version",
    "to_bytes",
]

NETWORK = "torch-fidelity inception-v3-compat (TensorFlow 2015-12-05)"
RESIZE = "bilinear to 299x299, TensorFlow 1 style (corners not aligned, no antialiasing)"
ROUNDING = "clamp to [0, 1], then the byte nearest to 255 x"
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
FEATURES_ONLY = "weights-inception-2015-12-05-features.pth"
# Published: the first digits of the file's SHA-256, which are part of its name, as torch.hub wants it.
PUBLISHED = WEIGHTS.removesuffix(".pth").rpartition("-")[2]
# The same weights without the classifier, in a file of anybody's making: SHA-256 of the tensors, not of the file.
DERIVED = "1ac889ad074041982a0cc8ed59b68746979be977f78d8d5cc853b2dcd54c448c"
UNKNOWN = "unknown file, SHA-256 "
CLASSIFIER = "fc."  # prefix of the tensors of its last layer
BATCH_SIZE = 32  # images per forward pass; only rounding depends on it


def to_bytes(images: Tensor) -> Tensor:
    """[N, C, H, W] floats in [0, 1] → uint8: clamped, then the nearest byte, `round(255 x)`, half to even.

    The inverse of bytes / 255, exactly. NaN counts as black.
    """
    return (images.float().nan_to_num(nan=0.0).clamp(0, 1) * 255).round().to(torch.uint8)


def find_weights(data_root: Path, chosen: Path | None) -> Path | None:
    """Path of Inception's weights: `chosen`, else a file in `data_root`/inception, else None (download them).

    A file with the classifier head is preferred. Raises DataError if `chosen` does not exist.
    """
    if chosen is not None:
        if not chosen.expanduser().is_file():
            raise DataError(
                f"there are no Inception weights at {chosen}\n"
                f"  set task.inception_weights to where {WEIGHTS} lies, or unset it to let it be found"
            )
        return chosen.expanduser()
    found = (data_root / "inception").glob("weights-inception-2015-12-05*.pth")
    return min(found, key=lambda path: (path.name != WEIGHTS, path.name), default=None)


@dataclass(frozen=True)
class Features:
    """Inception's features of N images, float32 on its device (50,000 images take 410 MB, with logits 610 MB).

    Attributes:
        pool: [N, 2048], the last pooling layer.
        logits: [N, 1008] of the classifier without its bias; None if the weights have no classifier head.
    """

    pool: Tensor
    logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pool)


class Extractor(Protocol):
    """Turns images into features, as `Inception` does."""

    weights_id: str
    device: torch.device

    def features(self, batches: Iterable[Tensor]) -> Features: ...


class Inception:
    """torch-fidelity's `inception-v3-compat` on a device, frozen.

    Attributes:
        device: where it computes.
        weights_id: the first 12 digits of the SHA-256 of the weights' file, which says if the file is unknown.
        has_classifier: whether there are logits. Files without the classifier head have NaN in its place.
    """

    def __init__(self, weights: Path | None, device: torch.device) -> None:
        """`weights` from `find_weights`; None downloads them to torch-fidelity's place.

        Raises DataError if they cannot be downloaded or read.
        """
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # seconds to import

        path = _download() if weights is None else weights
        try:
            content = path.read_bytes()
            # torch-fidelity unpickles any file: first make sure that this one holds only tensors.
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            finite = {key: bool(tensor.isfinite().all()) for key, tensor in state.items()}
            self.weights_id = _identify(path, content, state)
            if bad := [key for key, good in finite.items() if not good and not key.startswith(CLASSIFIER)]:
                raise ValueError(f"{bad[0]} is not finite")
            self.has_classifier = all(finite.values())
            layers = ["2048", "logits_unbiased"] if self.has_classifier else ["2048"]
            with torch.random.fork_rng(devices=[]):  # the layers draw random weights before loading
                network = FeatureExtractorInceptionV3(
                    "inception-v3-compat", layers, feature_extractor_weights_path=io.BytesIO(content)
                )
        except Exception as error:  # a foreign file may raise anything
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise DataError(
                f"{path} is not a readable file of Inception weights: {reason}\n"
                f"  delete it, or set task.inception_weights to where {WEIGHTS} lies"
            ) from error
        self.device = device
        # Another layout changes features by rounding only (1e-5).
        self._network = network.to(device, memory_format=inference_layout(device)).eval().requires_grad_(False)

    def features(self, batches: Iterable[Tensor]) -> Features:
        """Features of uint8 images [N, 3, H, W] or grey [N, 1, H, W], in batches of any size, on any device.

        Raises ValueError for images of another type or shape, and if there are none.
        """
        parts: list[tuple[Tensor, ...]] = []
        for batch in batches:
            if batch.dtype != torch.uint8 or batch.dim() != 4 or batch.shape[1] not in (1, 3):
                raise ValueError(f"expected uint8 images [N, 3 or 1, H, W], got {batch.dtype} {list(batch.shape)}")
            parts += [self._forward(chunk) for chunk in batch.split(BATCH_SIZE) if len(chunk)]
        if not parts:
            raise ValueError("there are no images")
        return Features(*(torch.cat(layer) for layer in zip(*parts, strict=True)))

    def _forward(self, images: Tensor) -> tuple[Tensor, ...]:
        # Scores must not depend on the GPU. The mode is set around this call only, since `batches` may be a generator
        # that computes in between.
        with torch.no_grad(), repeatable():
            layers: tuple[Tensor, ...] = self._network(images.to(self.device).expand(-1, 3, -1, -1))
        return layers


def library_version() -> str:
    """Of torch-fidelity, whose network computes the features."""
    return importlib.metadata.version("torch-fidelity")


def _identify(path: Path, content: bytes, state: dict[str, Tensor]) -> str:
    """`weights_id` of a file. Raises ValueError if it has the name of a known one and is not that one.

    A flipped bit in a weight leaves a file that loads, and an FID that may be anything.
    """
    stamp = path.stat()
    key = (str(path), stamp.st_size, stamp.st_mtime_ns)
    if key not in _identified:
        digest = hashlib.sha256(content).hexdigest()
        known = digest.startswith(PUBLISHED) or _digest_of_features(state) == DERIVED
        if not known and path.name in (WEIGHTS, FEATURES_ONLY):
            raise ValueError(f"it is damaged, its SHA-256 {digest[:12]}… is not that of the file with this name")
        _identified[key] = f"{'' if known else UNKNOWN}{digest[:12]}"
    return _identified[key]


_identified: dict[tuple[str, int, int], str] = {}  # files are hashed once in a process, however many runs it trains


def _digest_of_features(state: dict[str, Tensor]) -> str:
    """SHA-256 of names, shapes and bytes of all tensors but the classifier's, in order of their names."""
    digest = hashlib.sha256()
    for name in sorted(name for name in state if not name.startswith(CLASSIFIER)):
        tensor = state[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _download() -> Path:
    """torch-fidelity's place in the cache of torch.hub; a file there that is not the published one is replaced."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    try:
        if not path.is_file() or not digest_of(path, "sha256").startswith(PUBLISHED):
            fetch([URL_INCEPTION_V3], path, "sha256", PUBLISHED)
    except OSError as error:
        raise DataError(
            f"{WEIGHTS} is not at {path} and cannot be downloaded from {error}\n"
            f"  download it elsewhere and put it into inception/ under data_root (or $GENBENCH_DATA),"
            f" or set task.inception_weights=PATH"
        ) from error
    return path
