"""What is told of each family: its quantities, which way is better, their truths and their protocols."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "CURVES",
    "FAMILIES",
    "SPREAD",
    "Family",
    "Quantity",
    "expected_protocol",
    "family_of",
    "protocol_of",
    "protocol_text",
]


@dataclass(frozen=True)
class Quantity:
    """A metric as tables and pictures name it."""

    metric: str
    label: str
    unit: str = ""
    better: str = ""
    decimals: int | None = None
    """Digits after the point; None: three significant digits."""

    truth: str | float | None = None
    """A number, or the metric that holds it."""

    truth_label: str = "truth"

    @property
    def title(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓"}.get(self.better, "")


@dataclass(frozen=True)
class Family:
    """Tasks that are told of together."""

    key: str
    title: str
    tasks: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    likelihood: str = ""
    """Kind of likelihood that a model of the family gives."""

    curves: tuple[str, ...] = ()
    """Metrics drawn over training, all seeds on one picture."""


Q = Quantity
FAMILIES = (
    Family(
        "dirac",
        "Dirac-GANs",
        ("dirac",),
        (
            Q(
                "eval/multiplier_modulus",
                "modulus of the multiplier |μ|",
                decimals=7,
                truth="theory/multiplier_modulus",
                truth_label="closed form",
            ),
            Q("eval/multiplier_error", "largest error of μ", better="lower"),
            Q("eval/distance", "distance to the equilibrium", better="lower"),
            Q("eval/conserved_drift", "drift of the conserved quantity", better="lower"),
            Q(
                "eval/limit_cycle",
                "|θ| where the cycle crosses ψ0 = 0",
                decimals=4,
                truth="theory/limit_cycle",
                truth_label="gradient flow",
            ),
            Q(
                "eval/ema_gain",
                "share of θ’s oscillation that the average keeps",
                decimals=5,
                truth="theory/ema_gain",
                truth_label="closed form",
            ),
        ),
        curves=("eval/distance",),
    ),
    Family(
        "gan",
        "Image GANs",
        ("image-gan", "adversarial"),
        (
            Q("test/fid", "final FID", better="lower", decimals=2),
            Q("eval/fid", "FID during training", better="lower", decimals=2),
            Q("test/inception_score", "final Inception Score", better="higher", decimals=3),
            Q("eval/inception_score", "Inception Score during training", better="higher", decimals=3),
            Q("test/kid", "KID", better="lower", decimals=5),
            Q("test/10k_train_fid", "FID of 10,000 images, training split", better="lower", decimals=2),
            Q("test/10k_test_fid", "FID of 10,000 images, test split", better="lower", decimals=2),
            Q("test/classes", "classes among the samples", better="higher", decimals=1),
            Q("test/recognized", "share of samples that a classifier recognizes", better="higher", decimals=3),
        ),
        likelihood="none",
        curves=("eval/fid",),
    ),
    Family(
        "divergence",
        "Divergence estimation",
        ("divergence",),
        (
            Q("test/mean_error", "mean absolute error over θ", better="lower", decimals=4),
            Q("test/w1", "Wasserstein-1 distance", decimals=4, truth="theory/w1"),
            Q("test/squared_hellinger", "squared Hellinger distance", decimals=4, truth="theory/squared_hellinger"),
            Q("test/jsd", "Jensen-Shannon divergence", "nats", decimals=4, truth="theory/jsd"),
            Q("test/total_variation", "total variation", decimals=4, truth="theory/total_variation"),
        ),
    ),
    Family(
        "vae",
        "Variational auto-encoders",
        ("variational",),
        (
            Q("valid/elbo", "validation ELBO", "nats", "higher", 2),
            Q("test/elbo", "test ELBO", "nats", "higher", 2),
            Q("test/log_likelihood", "test log p(x), importance-sampled", "nats", "higher", 2),
            Q("valid/kl", "KL term", "nats", decimals=2),
            Q("test/active_units", "active latents", decimals=1),
        ),
        likelihood="bound",
        curves=("valid/elbo", "valid/kl"),
    ),
    Family(
        "autoregressive",
        "Autoregressive models",
        ("autoregressive",),
        (
            Q("valid/log_likelihood", "validation log p(x), exact", "nats", "higher", 2),
            Q("test/log_likelihood", "test log p(x), exact", "nats", "higher", 2),
        ),
        likelihood="exact",
        curves=("valid/log_likelihood",),
    ),
    Family(
        "plane",
        "Planar flows",
        ("density", "energy", "flow-suite"),
        (
            Q("test/nll", "test NLL", "nats", "lower", 3, "theory/entropy", "entropy, no NLL is below"),
            Q("test/kl", "KL(p ‖ q)", "nats", "lower", 4),
            Q("test/log_z", "importance-sampled log Z", "nats", "", 3, "theory/log_z", "log Z, quadrature"),
            Q("test/log_z_error", "error of log Z", "nats", "lower", 4),
            Q("test/reverse_kl", "KL(q ‖ p)", "nats", "lower", 4),
            Q("test/effective_sample_size", "effective sample size, share", "", "higher", 3),
            Q("test/smallest_mode", "rarest mode, of its share", "", "higher", 3, 1.0),
            Q("test/mass", "mass of the density", "", "", 6, 1.0),
        ),
        likelihood="exact",
        curves=("valid/nll", "valid/free_energy"),
    ),
    Family(
        "image-flow",
        "RealNVP",
        ("image-flow",),
        (
            Q("valid/bits_per_dim", "validation bits per dimension", "", "lower", 3),
            Q("test/bits_per_dim", "test bits per dimension", "", "lower", 3),
        ),
        likelihood="exact",
        curves=("valid/bits_per_dim",),
    ),
)

CURVES = {"valid/nll": "validation NLL (nats)", "valid/free_energy": "validation free energy (nats)"}
"""Names of what is drawn over training and has no table."""

# Of a run's protocol: settings of the method, which its configuration tells, and not how it was judged.
METHOD = {
    "anneal",
    "batch_norm_batches",
    "critic_steps",
    "ema",
    "kl",  # both estimators of the bound mean the same bound
    "likelihood",
    "receptive_field",
    "regularizer",
    "seeds",
    "theta",
    "updates",
}
INCEPTION = ("fid", "inception_score", "kid", "kid_std", "precision", "recall")
OWN = {
    "inception_score": "inception_score",
    "kid": "kid",
    "precision": "precision_recall",
    "recall": "precision_recall",
}
SPREAD = "_standard_error"
"""Ends the name of the metric that holds another one's standard error over the images or points of its split."""

SAMPLED = ("test/log_likelihood", "test/bits_per_dim", "valid/bits_per_dim")
# Of models that offer no choice.
DEQUANTIZATION = {"realnvp": "uniform", "realnvp-multiscale": "variational"}
NAMES = {
    "binarization": "binarization",
    "importance_samples": "importance samples M",
    "importance_images": "test images",
    "dequantization": "dequantization",
    "alpha": "logit α",
    "n_generated": "generated images",
    "n_reference": "real images",
    "reference_split": "reference",
    "inception_weights": "weights",
}


def family_of(task: str) -> Family:
    """A task's family; one that no family knows has its own."""
    for family in FAMILIES:
        if task in family.tasks:
            return family
    return Family(re.sub(r"\W+", "-", task), task, (task,), ())


def protocol_of(metric: str, protocol: Mapping[str, Any]) -> dict[str, str]:
    """What a metric's value depends on beside the model, of all that a run says about how it is judged."""
    found = {key: value for key, value in protocol.items() if key not in METHOD and "/" not in key}
    draws = {key: found.pop(key) for key in ("importance_samples", "importance_images") if key in found}
    if metric in SAMPLED:
        split = metric.split("/")[0]
        by_split = {key: value if isinstance(value, Mapping) else {"test": value} for key, value in draws.items()}
        found |= {key: values[split] for key, values in by_split.items() if split in values}
    found |= _inception(metric, protocol)
    if "target" in found:
        found = {"target": found["target"]} | {key: found[key] for key in ("split",) if key in found}
    return {key: str(value) for key, value in found.items()}


def _inception(metric: str, protocol: Mapping[str, Any]) -> dict[str, Any]:
    """How a score was made that Inception's features give: `test/10k_test_fid` says so under its own name."""
    prefixes = [key.removesuffix("fid") for key in protocol if "/" in key and key.endswith("fid")]
    for prefix in sorted(prefixes, key=len, reverse=True):
        name = metric.removeprefix(prefix)
        if metric.startswith(prefix) and name in INCEPTION:
            said = protocol[f"{prefix}fid"]
            return {key: value for key, value in said.items() if key not in OWN.values() or key == OWN.get(name)}
    return {}


def expected_protocol(metric: str, flat: Mapping[str, Any]) -> dict[str, str]:
    """What a flat configuration alone says of a metric's protocol: enough to tell which table a run would join."""
    if "dataset.target" in flat:
        return {"target": str(flat["dataset.target"])}
    known = {key: value for key, value in flat.items() if key.startswith("dataset.") and key != "dataset.theta"}
    if metric == "test/log_likelihood" or metric.endswith("bits_per_dim"):
        draws = flat.get("task.importance_samples")
        known |= {} if draws is None else {"importance_samples": 1 if metric.startswith("valid") else draws}
    if metric.endswith("bits_per_dim"):
        kind = flat.get("model.dequantization", DEQUANTIZATION.get(str(flat.get("model.name"))))
        known |= {"dequantization": kind, "alpha": flat.get("model.alpha")}
    if metric in ("test/fid", "test/inception_score"):
        known["n_generated"] = flat.get("task.final_samples")
    if metric in ("eval/fid", "eval/inception_score"):
        known["n_generated"] = flat.get("task.fid_samples")
    told = {key.removeprefix("dataset.").replace("name", "dataset"): value for key, value in known.items()}
    return {
        key: f"{value:g}" if isinstance(value, float) else str(value)
        for key, value in told.items()
        if value is not None
    }


def protocol_text(protocol: Mapping[str, str]) -> str:
    """One line for a caption."""
    said = dict(protocol)
    first = " ".join(said.pop(key) for key in ("dataset", "target") if key in said)
    rest = [f"{NAMES.get(key, key.replace('_', ' '))} {value}" for key, value in said.items()]
    return "; ".join([first, *rest] if first else rest)
