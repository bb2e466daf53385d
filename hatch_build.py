"""The configuration lies beside the package in a checkout and inside it in a wheel.

`force-include` in pyproject.toml would copy it into site-packages for an editable install too, where the copy
would grow stale beside the checkout.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ConfigurationInWheel(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"]["conf"] = "genbench/conf"
