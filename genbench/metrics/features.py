"""Features of images from a frozen network of torch-fidelity's: what the scores of generated images compare."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from genbench.data.download import digest_of, fetch
from genbench.engine.device import inference_batch, inference_layout, repeatable
from genbench.errors import DataError

__all__ = [
    "ROUNDING",
    "Extractor",
    "Features",
    "Frozen",
    "digest_of_tensors",
    "downloaded",
    "library_version",
    "to_bytes",
]

ROUNDING = "clamp to [0, 1], then the byte nearest to 255 x"


def to_bytes(images: Tensor) -> Tensor:
    """[N, C, H, W] floats in [0, 1] → uint8: clamped, then the nearest byte, `round(255 x)`, half to even.

    The inverse of bytes / 255, exactly. NaN counts as black.
    """
    return (images.float().nan_to_num(nan=0.0).clamp(0, 1) * 255).round().to(torch.uint8)


@dataclass(frozen=True)
class Features:
    """A network's features of N images, float32 on its device (Inception's of 50,000 images take 410 MB).

    Attributes:
        pool: [N, D], the last layer before any classifier.
        logits: [N, K] of the classifier without its bias; None if there is none.
    """

    pool: Tensor
    logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pool)


class Extractor(Protocol):
    """Turns images into features, as `Inception` does.

    Attributes:
        weights_id: tells weights apart.
        device: where it computes.
        layer: whose output the features are.
        protocol: name of the network, its weights, and how it resizes images, for the protocol of scores.
    """

    weights_id: str
    device: torch.device

    @property
    def layer(self) -> str: ...

    @property
    def protocol(self) -> Mapping[str, str]: ...

    def features(self, batches: Iterable[Tensor]) -> Features: ...


class Frozen:
    """A feature extractor of torch-fidelity's on a device, frozen."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.device = device
        # Layout and number of images change features by rounding only (1e-5).
        self._chunk = inference_batch(device)
        self.network = network.to(device).to(memory_format=inference_layout(device)).eval().requires_grad_(False)

    def features(self, batches: Iterable[Tensor]) -> Features:
        """Features of uint8 images [N, 3, H, W] or grey [N, 1, H, W], in batches of any size, on any device.

        Raises ValueError for images of another type or shape, and if there are none.
        """
        parts: list[tuple[Tensor, ...]] = []
        for batch in batches:
            if batch.dtype != torch.uint8 or batch.dim() != 4 or batch.shape[1] not in (1, 3):
                raise ValueError(f"expected uint8 images [N, 3 or 1, H, W], got {batch.dtype} {list(batch.shape)}")
            parts += [self._forward(chunk) for chunk in batch.split(self._chunk) if len(chunk)]
        if not parts:
            raise ValueError("there are no images")
        return Features(*(torch.cat(layer) for layer in zip(*parts, strict=True)))

    def _forward(self, images: Tensor) -> tuple[Tensor, ...]:
        # Scores must not depend on the GPU. The mode is set around this call only, since `batches` may be a generator
        # that computes in between.
        with torch.no_grad(), repeatable():
            layers: tuple[Tensor, ...] = self.network(images.to(self.device).expand(-1, 3, -1, -1))
        return layers


def library_version() -> str:
    """Of torch-fidelity, whose networks compute the features."""
    return importlib.metadata.version("torch-fidelity")


def digest_of_tensors(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes of tensors, in order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def downloaded(url: str, name: str, sha256: str, remedy: str) -> Path:
    """The file `name` in torch.hub's cache, whose SHA-256 begins with `sha256`; downloaded if it is not there.

    Raises DataError, which ends in `remedy`, if it is missing and cannot be downloaded.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    try:
        if not path.is_file() or not digest_of(path, "sha256").startswith(sha256):
            fetch([url], path, "sha256", sha256)
    except OSError as error:
        raise DataError(f"{name} is not at {path} and cannot be downloaded from {error}\n  {remedy}") from error
    return path
