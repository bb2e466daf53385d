"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["forget_old_parts", "part_of", "replacing", "write_text"]

FORGOTTEN = 3600.0  # seconds after which a part that nothing is added to belongs to a process that was killed


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` once it is whole and on disk.

    Where writing fails, `path` stays as it was, and nothing is left of what was written. Of several that write at
    once, each replaces it with a file that is whole; the last one stays.
    """
    forget_old_parts(path)
    part = part_of(path)
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError) and not error.filename:
            error.filename = str(path)  # writing knows the file's number only
        raise
    _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """A reader sees the old text or the new one."""
    with replacing(path) as file:
        file.write(text.encode())


def part_of(path: Path) -> Path:
    """A name for what is to become `path`; no other process has it, though several machines may write here."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def forget_old_parts(path: Path) -> None:
    """Delete what killed processes left of `path`: `.<name>.<whose>.part` beside it."""
    with suppress(OSError):  # another process may be about the same
        for part in path.parent.glob(f".{path.name}.*.part"):
            if time.time() - part.stat().st_mtime > FORGOTTEN:
                part.unlink()


def _sync(directory: Path) -> None:
    """Make a rename durable; not every platform lets a directory be opened."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        with suppress(OSError):  # nor does every file system sync one
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
