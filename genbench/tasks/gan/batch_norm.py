"""Batch-norm statistics of a generator that is to be judged."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from genbench.engine.batches import Batch

__all__ = ["recompute_statistics"]

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def recompute_statistics(network: nn.Module, batches: Iterable[Batch]) -> None:
    """Put a network into training mode and set its batch-norm statistics to their means over `batches` of inputs.

    As torch.optim.swa_utils.update_bn does, which reads a counter on the host for every layer and batch.
    """
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORMS)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    network.train()
    for norm in norms:
        norm.reset_running_stats()
    for number, batch in enumerate(batches, start=1):
        for norm in norms:
            norm.momentum = 1 / number
        network(*batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
