"""torch-fidelity's Inception network, in whose features FID is defined."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from genbench.errors import DataError, in_one_line
from genbench.metrics.features import Frozen, digest_of_tensors, downloaded

__all__ = ["Inception", "find_weights"]

NETWORK = "torch-fidelity inception-v3-compat (TensorFlow 2015-12-05)"
RESIZE = "bilinear to 299x299, TensorFlow 1 style (corners not aligned, no antialiasing)"
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
FEATURES_ONLY = "weights-inception-2015-12-05-features.pth"
# Published: the first digits of the file's SHA-256, which are part of its name, as torch.hub wants it.
PUBLISHED = WEIGHTS.removesuffix(".pth").rpartition("-")[2]
# The same weights without the classifier, in a file of anybody's making: SHA-256 of the tensors, not of the file.
DERIVED = "1ac889ad074041982a0cc8ed59b68746979be977f78d8d5cc853b2dcd54c448c"
UNKNOWN = "unknown file, SHA-256 "
CLASSIFIER = "fc."  # prefix of the tensors of its last layer


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


class Inception(Frozen):
    """torch-fidelity's `inception-v3-compat`; its `pool` has 2048 features, its `logits` 1008 classes.

    Attributes:
        device: where it computes.
        weights_id: the first 12 digits of the SHA-256 of the weights' file, which says if the file is unknown.
        has_classifier: whether there are logits. Files without the classifier head have NaN in its place.
    """

    layer = "Inception pool"

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
            fold_batch_norms(network)
        except Exception as error:  # a foreign file may raise anything
            raise DataError(
                f"{path} is not a readable file of Inception weights: {in_one_line(error)}\n"
                f"  delete it, or set task.inception_weights to where {WEIGHTS} lies"
            ) from error
        super().__init__(network, device)

    @property
    def protocol(self) -> dict[str, str]:
        return {"inception": NETWORK, "inception_weights": self.weights_id, "resize": RESIZE}


def fold_batch_norms(network: nn.Module) -> None:
    """Put the batch norms of an Inception network in evaluation into the convolutions before them, in place."""
    for block in network.eval().modules():
        match getattr(block, "conv", None), getattr(block, "bn", None):
            case nn.Conv2d() as convolution, nn.BatchNorm2d() as batch_norm:
                block.conv, block.bn = fuse_conv_bn_eval(convolution, batch_norm), nn.Identity()


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
    """Of all tensors but the classifier's."""
    return digest_of_tensors({name: tensor for name, tensor in state.items() if not name.startswith(CLASSIFIER)})


def _download() -> Path:
    """torch-fidelity's place in the cache of torch.hub; a file there that is not the published one is replaced."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    remedy = (
        "download it elsewhere and put it into inception/ under data_root (or $GENBENCH_DATA),"
        " or set task.inception_weights=PATH"
    )
    return downloaded(URL_INCEPTION_V3, WEIGHTS, PUBLISHED, remedy)
