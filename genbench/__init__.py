"""genbench: one bench for the classic deep generative models.

run = genbench.load("outputs/vae-mnist5k/seed=1-…")    a trained model: sample, encode, log_prob, …
genbench.runs("outputs")                               what there is, as a table
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genbench.door import load, runs

__all__ = ["load", "runs"]


def __getattr__(name: str) -> Any:
    """`load` and `runs`, imported when they are asked for: PyTorch takes seconds."""
    if name in __all__:
        from genbench import door

        return getattr(door, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
