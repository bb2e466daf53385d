"""Scores of generated images as measurements."""

from __future__ import annotations

from collections.abc import Collection

from genbench.engine.measurement import Better, Measurement, Quantity
from genbench.metrics import fidelity
from genbench.metrics.features import Features
from genbench.metrics.fidelity import RealFeatures
from genbench.metrics.transformers import LABELS

__all__ = ["OF_NETWORKS", "of_network", "scored"]

# What is called FID and KID in Inception's features has other names in those of other networks.
NAMES = {"fid": "fd", "kid": "kd", "precision": "precision", "recall": "recall"}


def _key(score: str, network: str) -> str:
    return f"test/{NAMES[score]}_{network.replace('-', '_')}"


MEASURED: tuple[tuple[str, str, Better, int], ...] = (
    ("fid", "Fréchet distance", "lower", 1),
    ("kid", "kernel distance", "lower", 5),
    ("precision", "precision", "higher", 3),
    ("recall", "recall", "higher", 3),
)
OF_NETWORKS = tuple(
    Quantity(_key(score, network), f"{label}, {shown}", better=better, decimals=decimals)
    for network, shown in LABELS.items()
    for score, label, better, decimals in MEASURED
)


def scored(
    prefix: str, features: Features, reference: RealFeatures, which: Collection[str] = fidelity.SCORES
) -> dict[str, Measurement]:
    """The scores named by `which`, with the protocol of each; names begin with `prefix`."""
    return {
        f"{prefix}{name}": Measurement(value, protocol=fidelity.protocol(features, reference, {name}))
        for name, value in fidelity.scores(features, reference, which).items()
    }


def of_network(network: str, features: Features, reference: RealFeatures) -> dict[str, Measurement]:
    """Scores in the features of one of `transformers.LABELS`: `test/fd_dinov2_vit_b_14` and the like."""
    return {_key(name, network): found for name, found in scored("", features, reference, NAMES).items()}
