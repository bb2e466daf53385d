"""What pyproject.toml cannot say of a built package.

The configuration lies beside the package in a checkout and inside it in a wheel, and so do the pages of the
documentation that `genbench explain` reads. `force-include` would copy them into site-packages for an editable
install too, where the copies would grow stale beside the checkout.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

INSIDE = ("conf", "docs/results.md", "docs/results/earlier.md", "docs/sources.md")


class ConfigurationInWheel(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"] |= {path: f"genbench/{path}" for path in INSIDE}


class ReadmeElsewhere(MetadataHookInterface):
    """The README as a package index shows it: links and pictures lead to the repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        repository = metadata["urls"]["Repository"]
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = re.sub(r"(!\[[^\]]*\]\()(?!https?:)", rf"\g<1>{repository}/raw/main/", text)
        text = re.sub(r"((?<!!)\[[^\]]*\]\()(?!https?:)", rf"\g<1>{repository}/blob/main/", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
