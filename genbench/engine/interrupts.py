"""SIGINT and SIGTERM: finish the step, then stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

__all__ = ["Interrupted", "Interrupts"]


class Interrupted(BaseException):
    """The run was asked to stop. Not an Exception, so no error handler catches it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.exit_code = 128 + signum  # the shell's convention: 130 for SIGINT, 143 for SIGTERM


class Interrupts:
    """Turns SIGINT and SIGTERM into `Interrupted`, never in the middle of a training step.

    Within `hold()` a signal is only recorded in `pending`; elsewhere it raises at once. A second SIGINT raises
    KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.pending: int | None = None
        self._holding = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # Python installs handlers only there
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        self._previous.clear()

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self.pending is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.pending = signum
        if not self._holding:
            raise Interrupted(signum)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """A block that signals do not interrupt; raises Interrupted at its end if one arrived."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self.pending is not None:
            raise Interrupted(self.pending)
