"""Features of DINOv2 and CLIP, whose distances follow people's judgement of photographs better than Inception's.

Stein et al. 2023 (arXiv 2306.04675) recommend the Fréchet distance in features of DINOv2. Numbers of different
networks are not comparable, so each is a quantity of its own.
"""

from __future__ import annotations

import http.client
import warnings
from typing import Any

import torch

from genbench.errors import DataError, first_line
from genbench.metrics.features import Frozen, digest_of_tensors, downloaded

__all__ = ["LABELS", "Transformer"]

LABELS = {
    "dinov2-vit-s-14": "DINOv2 ViT-S/14",
    "dinov2-vit-b-14": "DINOv2 ViT-B/14",
    "dinov2-vit-l-14": "DINOv2 ViT-L/14",
    "clip-vit-b-32": "CLIP ViT-B/32",
    "clip-vit-b-16": "CLIP ViT-B/16",
    "clip-vit-l-14": "CLIP ViT-L/14",
}
"""Names of the networks in torch-fidelity, and in tables."""


class Transformer(Frozen):
    """One of LABELS: torch-fidelity's `dinov2-…` (Oquab et al. 2023) or `clip-…` (Radford et al. 2021).

    The weights are in torch.hub's cache (`$TORCH_HOME/hub`) or downloaded there; those of DINOv2 come with code from
    its authors' repository, which torch.hub runs.

    Attributes:
        name: one of LABELS.
        device: where it computes.
        weights_id: the first 12 digits of the SHA-256 of its tensors.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        """Raises DataError if the weights are missing and cannot be downloaded, or cannot be read."""
        self.name = name
        try:
            with torch.random.fork_rng(devices=[]):  # the layers draw random weights before loading
                network = _clip(name) if name.startswith("clip") else _dinov2(name)
        except (OSError, http.client.HTTPException, RuntimeError, ValueError, KeyError, ImportError) as error:
            reason = first_line(error)
            raise DataError(f"the weights of {LABELS[name]} cannot be had: {reason}\n  {_remedy(name)}") from error
        self.weights_id = digest_of_tensors(network.state_dict())[:12]
        self._side = getattr(network, "resolution", None) or network.INPUT_IMAGE_SIZE
        super().__init__(network, device)

    @property
    def layer(self) -> str:
        return LABELS[self.name]

    @property
    def protocol(self) -> dict[str, str]:
        side = self._side
        return {
            "network": f"torch-fidelity {self.name}",
            "network_weights": self.weights_id,
            "resize": f"bilinear to {side}x{side}, TensorFlow 1 style (corners not aligned, no antialiasing)",
        }


def _dinov2(name: str) -> Any:
    from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

    return FeatureExtractorDinoV2(name, ["dinov2"])


def _clip(name: str) -> Any:
    from torch_fidelity.feature_extractor_clip import MODEL_METADATA, MODEL_URLS, FeatureExtractorCLIP

    # Under the name that torch-fidelity gives it. It is a TorchScript archive: only the published one is opened.
    digest = MODEL_METADATA[name]["hash"]
    path = downloaded(MODEL_URLS[name], f"{name}-{digest}.pt", digest, _remedy(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch.jit.load, which torch-fidelity calls
        return FeatureExtractorCLIP(name, ["clip"], feature_extractor_weights_path=str(path))


def _remedy(name: str) -> str:
    return (
        f"load {name} once by torch-fidelity where there is internet, and copy torch.hub's folder here"
        " ($TORCH_HOME/hub), or leave the network out of task.networks"
    )
