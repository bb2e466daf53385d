"""The configuration lies beside the package in a checkout and inside it in a wheel, and so do the pages of the
documentation that `genbench explain` reads.

`force-include` in pyproject.toml would copy it into site-packages for an editable install too, where the copy
would grow stale beside the checkout.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSIDE = ("conf", "docs/results.md", "docs/results/earlier.md", "docs/sources.md")


class ConfigurationInWheel(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"] |= {path: f"genbench/{path}" for path in INSIDE}
