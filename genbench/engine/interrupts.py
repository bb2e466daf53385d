"""Signals that ask a run to stop: it finishes what must not be torn apart, saves, and ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

__all__ = ["Interrupted", "Interrupts"]

ALWAYS = (signal.SIGINT, signal.SIGTERM)
# A closed terminal (but nohup), a scheduler's warning.
UNLESS_IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)


class Interrupted(BaseException):
    """The run was asked to stop. Not an Exception, so no error handler catches it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.exit_code = 128 + signum  # the shell's convention: 130 for SIGINT, 143 for SIGTERM


class Interrupts:
    """As a context manager, turns signals into `Interrupted`, raised where it does no harm.

    A signal is recorded in `pending`. It raises at the next `check()`, or at once within an `interruptible()` block.
    A second SIGINT raises KeyboardInterrupt, wherever that is. Whoever handled a signal before, such as a scheduler's
    library that puts the job back into the queue, handles it at the end. So does Python, if `resend` is set and the
    signal came too late to raise anything.
    """

    def __init__(self, resend: bool = False) -> None:
        self.pending: int | None = None
        self._unheard = resend
        self._raises = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # Python installs handlers only there
            for signum in (*ALWAYS, *UNLESS_IGNORED):
                # None: a handler that Python did not install, and cannot put back.
                if signum in ALWAYS or signal.getsignal(signum) not in (signal.SIG_IGN, None):
                    self._previous[signum] = signal.signal(signum, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        previous, self._previous = self._previous, {}
        for signum, handler in previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        if self.pending is None:
            return
        handler = previous.get(self.pending)
        if self._unheard or (callable(handler) and handler is not signal.default_int_handler):
            signal.raise_signal(self.pending)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self.pending == signum == signal.SIGINT:
            self._unheard = False
            raise KeyboardInterrupt
        self.pending = signum
        if self._raises:
            self._raises = False  # what is on its way up is not interrupted again
            self.check()

    def check(self) -> None:
        """Raise Interrupted if a signal has arrived."""
        if self.pending is not None:
            self._unheard = False
            raise Interrupted(self.pending)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that a signal ends at once: it changes nothing that a checkpoint or a log holds."""
        self.check()
        self._raises = True
        try:
            yield
        finally:
            self._raises = False
