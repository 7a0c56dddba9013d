"""Refuses to build a wheel that could be published; editable installs pass.

The top-level names (`agents`, `envs`, `networks`, ...) are generic: a wheel of them would overwrite
another distribution's packages silently, and uninstalling it would delete theirs.
"""

import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditableOnly(BuildHookInterface):
    """Stops every wheel build whose version is not "editable"."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Exit with the remedy: pip shows these lines without a traceback."""
        del build_data  # the hook's signature; unused
        if version != "editable":
            sys.exit(
                "NeuRL is an application and is not packaged as a wheel: its top-level names are"
                " generic and would overwrite other distributions.\n"
                "Install it from a checkout: python -m pip install -c constraints.txt -e ."
            )
