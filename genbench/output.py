"""The outer frame of every command: errors become a message and an exit code, and output that cannot be written stops
nothing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from genbench.errors import GenbenchError, explained

__all__ = ["command"]


@contextmanager
def command(name: str) -> Iterator[None]:
    """A block that a closed pipe or a full disk behind stdout and stderr does not stop.

    A GenbenchError in it is printed as one message, without a traceback, and becomes SystemExit with the error's exit
    code; for Ctrl-C that is 130.
    """
    streams = {stream: getattr(sys, stream) for stream in ("stdout", "stderr") if getattr(sys, stream) is not None}
    for stream, original in streams.items():
        setattr(sys, stream, _Optional(original))
    try:
        yield
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # another one would show how Python ends
        print(f"{name}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        known = explained(error)
        if not isinstance(known, GenbenchError):
            raise  # a bug
        print(f"{name}: {known}", file=sys.stderr)
        raise SystemExit(known.exit_code) from None
    finally:
        for stream, original in streams.items():
            getattr(sys, stream).flush()
            setattr(sys, stream, original)


class _Optional:
    """A text stream that drops what cannot be written: a closed pipe, a terminal that is gone, a full disk."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError:
            self._give_up()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Send what is still buffered, and all that comes, to nowhere: Python flushes once more when it ends."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
