"""Where jobs run: processes here, tasks on a Ray cluster, or an array of SLURM jobs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.studies.engines.engine import Engine


def build_engine(options: Mapping[str, Any], directory: Path) -> Engine:
    """Build the engine that `engine=` chooses.

    Args:
        options: `engine` of a composed configuration.
        directory: of the study.

    Raises:
        Refusal: what it needs is not installed.
    """
    if options["name"] == "ray":
        from analysis.studies.engines.ray import RayEngine

        return RayEngine(options, directory)
    if options["name"] == "slurm":
        from analysis.studies.engines.slurm import SlurmEngine

        return SlurmEngine(options, directory)
    from analysis.studies.engines.local import LocalEngine

    return LocalEngine(options)
