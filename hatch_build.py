"""Builds the wheel from the tree that neurl_wheel.py lays out; editable installs use the checkout.

The top-level names (`agents`, `envs`, `networks`, ...) are generic: a wheel that had them would
overwrite other distributions' packages, and uninstalling it would delete theirs.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NestedPackages(BuildHookInterface):
    """Puts everything below `neurl`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Lay out the tree and include it alone."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from neurl_wheel import lay_out

        self._tree = TemporaryDirectory()
        try:
            lay_out(Path(self.root), Path(self._tree.name))
        except ValueError as error:
            sys.exit(f"neurl: {error}")  # pip shows it without a traceback
        build_data["force_include"][f"{self._tree.name}/neurl"] = "neurl"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the tree."""
        del build_data, artifact_path  # the hook's signature; unused
        if version != "editable":
            self._tree.cleanup()
