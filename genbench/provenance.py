"""What computes: the code and its commit, versions of libraries, the device."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import genbench
from genbench import registry
from genbench.config import COMPONENTS, Config, group_of
from genbench.engine import device as devices

__all__ = ["git_commit", "made_by", "versions"]

PACKAGE = Path(genbench.__file__).parent
PACKAGES = ("genbench", "torch", "torchvision", "numpy", "hydra-core")


def made_by(config: Config, device: torch.device) -> dict[str, str | None]:
    """What may change between two starts of a run and decides its numbers."""
    components = {key: getattr(config, key) for key in COMPONENTS}
    found = [registry.lookup(group_of(key), chosen["name"]) for key, chosen in components.items() if chosen]
    packages = {_package(component.__module__) for component in found}  # a plug-in's, too
    return {
        "code": _digest(frozenset(packages)),
        "commit": git_commit(),
        "torch": str(torch.__version__),
        "device": devices.describe(device),
    }


def _package(module: str) -> str:
    """The outermost package of a module that has a file of its own: a namespace package has none."""
    parts = module.split(".")
    names = [".".join(parts[: count + 1]) for count in range(len(parts))]
    return next((name for name in names if getattr(sys.modules[name], "__file__", None)), module)


@cache  # of the code that is loaded: files may change while a sweep goes on
def _digest(packages: frozenset[str]) -> str:
    """Eight hexadecimal digits that change with the source of a package."""
    digest = hashlib.sha256()
    for package in sorted(packages):
        where = Path(sys.modules[package].__file__ or "")
        for path in sorted(where.parent.rglob("*.py")) if where.name == "__init__.py" else [where]:
            digest.update(path.relative_to(where.parent).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


@cache
def git_commit() -> str | None:
    """The commit of this code, `+` if the checkout has changes; None where it is not a checkout."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(PACKAGE), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno", ".").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Of Python and the packages that compute."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            found[package] = "not installed"
    return found
