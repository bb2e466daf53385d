"""Downloads that end: they time out, go on where they broke off, try other addresses, and leave nothing half-done."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from genbench.atomic import forget_old_parts, part_of

__all__ = ["digest_of", "fetch"]

STALLED = 30.0  # seconds without a byte
ATTEMPTS = 3  # at each address; those that bring the download forward do not count
BLOCK = 2**20


def digest_of(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file by an algorithm of hashlib's."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def fetch(urls: Sequence[str], path: Path, algorithm: str, digest: str) -> None:
    """Download a file to `path`, which appears there only complete and verified.

    Args:
        urls: of the same file, tried in this order.
        algorithm: of hashlib's, such as "md5".
        digest: with which the file's hexadecimal digest begins.

    Raises:
        OSError: if no address delivers it; the message tells what happened at each. Nothing new remains.
    """
    part = part_of(path)
    new = [directory for directory in path.parents if not directory.exists()]
    failures = []
    try:
        for url in urls:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                forget_old_parts(path)
                _fetch_from(url, part)
                found = digest_of(part, algorithm)
                if not found.startswith(digest):
                    raise OSError(f"what is there has the {algorithm} checksum {found}, not {digest}")
                part.replace(path)
                return
            # No such address, no space, a broken connection, an answer that is no HTTP.
            except (OSError, ValueError, http.client.HTTPException) as error:
                failures.append(f"{url}: {error or type(error).__name__}")
                part.unlink(missing_ok=True)
        raise OSError("; ".join(failures))
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
            for directory in new:  # removed if still empty
                directory.rmdir()


def _fetch_from(url: str, part: Path) -> None:
    """Download all of `url` to `part`, starting again where the connection breaks off."""
    failed = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _go_on(url, part, before)
            return
        except urllib.error.HTTPError:
            raise  # the server has answered: it has no such file
        except (OSError, http.client.HTTPException):
            failed = 0 if part.exists() and part.stat().st_size > before else failed + 1
            if failed == ATTEMPTS:
                raise


def _go_on(url: str, part: Path, have: int) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "genbench"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=STALLED) as answer:
        # A server that does not know ranges sends everything again.
        have = have if answer.status == http.client.PARTIAL_CONTENT else 0
        length = answer.headers.get("Content-Length")
        with part.open("ab" if have else "wb") as file:
            while block := answer.read1(BLOCK):
                file.write(block)
            received = file.tell() - have
    if length is not None and received < int(length):
        raise ConnectionError(f"the connection ended after {have + received} of {have + int(length)} bytes")
