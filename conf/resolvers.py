"""The functions that conf/*.yaml calls as ${name:arguments}; importing this registers them."""

import os
import re
from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf


def environment_name(env_id: str, pomdp: Mapping[str, Any] | None) -> str:
    """Name an environment and what is hidden of it for a path: `ALE/Pong-v5` is `ALE-Pong-v5`."""
    return re.sub(r"[^\w.+-]+", "-", "-".join([str(env_id), *(pomdp or {})]))


def job_suffix() -> str:
    """Number the jobs of a sweep: two may start within the same second. Empty for a single run."""
    is_job = HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().job, "num")
    return f"-job{HydraConfig.get().job.num}" if is_job else ""


def run_directory(resume: str | None, run_dir: str) -> str:
    """Choose where Hydra works: in the directory of the run that goes on, or in a new one."""
    return run_dir if resume is None else resume


def output_folder(resume: str | None) -> str | None:
    """Name the folder of Hydra's own files; a run that goes on keeps those of its beginning."""
    return ".hydra" if resume is None else None


OmegaConf.register_new_resolver("environment_name", environment_name, replace=True)
OmegaConf.register_new_resolver("job_suffix", job_suffix, replace=True)
OmegaConf.register_new_resolver("absolute_path", os.path.abspath, replace=True)
OmegaConf.register_new_resolver("run_directory", run_directory, replace=True)
OmegaConf.register_new_resolver("output_folder", output_folder, replace=True)
