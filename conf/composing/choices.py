"""A configuration as a flat table: a row for each value, named as on the command line.

The hparams tab and the comparison of runs show these rows.
"""

import json
from collections.abc import Mapping
from typing import Any

from conf.checking.trust import TRUSTED_PACKAGES, is_ours, package_of
from conf.composing.resumption import leaves

Choice = bool | int | float | str | None


def choices(config: Mapping[str, Any]) -> dict[str, Choice]:
    """Flatten a plain configuration: `{"agent.clip_range": 0.2, "memory": "LSTM", ...}`.

    A `_target_` has its own row with the class's name, short unless it is a user's class; lists are
    written as text.
    """
    rows: dict[str, Choice] = {}
    for key, value in leaves(config):
        place, _, name = key.rpartition(".")
        if name == "_target_" and place:
            is_known = is_ours(value, ()) or package_of(value) in TRUSTED_PACKAGES
            rows[place] = value.rpartition(".")[2] if is_known else value
        elif value is None or isinstance(value, bool | int | float | str):
            rows[key] = value
        elif value != {}:
            rows[key] = json.dumps(value, default=str)
    return rows
