"""Entry points to the configuration: their command lines, checked before Hydra runs them.

An invalid command line is refused before torch or an environment is imported and before a
directory is created: one line for each problem on stderr, exit code 2.
"""

import argparse
import functools
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from conf.checking.refusals import InvalidConfiguration, flag_problem, split_problems
from conf.composing.composer import (
    CONFIG_DIRECTORY,
    VERSION_BASE,
    Composer,
    register_directories,
)
from conf.composing.configuration import configure, has_key, load, read_only
from conf.composing.presets import Settled
from conf.composing.runs import spelled_out
from conf.composing.sweeps import command_line, configure_jobs, fitting_words, user_directory
from conf.schema.types import show

__all__ = ["InvalidConfiguration", "check", "has_key", "launch", "load"]

EXIT_CODE, INTERRUPTED = 2, 130  # 128 + SIGINT, as shells have it


def launch(
    task: Callable[[DictConfig], Any],
    config_name: str = "config",
    job: Callable[[DictConfig, list[str]], Any] | None = None,
) -> None:
    """Check the command line, then run the task with Hydra, once or for each job of a sweep.

    The task gets a resolved, typed and read-only configuration. Import torch inside it: by then
    the command line is valid.

    Args:
        job: runs a job of a sweep instead of the task; it also gets the command line of that
            single run.
    """
    # Without its place in the code.
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    decorate = hydra.main(config_path=CONFIG_DIRECTORY, config_name=config_name, **VERSION_BASE)
    try:
        runs, sys.argv[1:] = check(sys.argv[1:], config_name)
        register_directories()  # `--help` composes nothing before
        decorate(_CheckedTask(task, job, config_name, runs))()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def check(argv: Sequence[str], config_name: str = "config") -> tuple[list[Settled], list[str]]:
    """Refuse an invalid command line, for a run, a sweep or `--cfg`.

    Returns:
        The configuration of each run, and the command line for Hydra: with the overrides that
        adjust a preset, each with a warning that says why, and its flags last.
    """
    try:
        flags = _flags(argv)
        runs, words = list[Settled](), spelled_out(flags.overrides, config_name)
        switches = [word for word in argv if word not in flags.overrides]
        if not (flags.help or flags.hydra_help or flags.shell_completion or flags.info):
            composer = Composer(flags.config_name or config_name, flags.config_dir)
            settings = composer.hydra_settings(composer.parse(words))
            if flags.multirun or settings.mode == RunMode.MULTIRUN:
                runs, words = configure_jobs(composer, words, config_name)
            else:
                run = configure(composer, words, config_name).sound()
                runs, words = [run], run.words
    except InvalidConfiguration as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(EXIT_CODE)
    return runs, [*words, *switches]


@dataclass(eq=False)
class _CheckedTask:
    """Passes a checked configuration to a task; a class, as launchers send it to other processes.

    Hydra's composition is not the final one: presets are adjusted, and resumed runs have their own
    configuration.
    """

    task: Callable[[DictConfig], Any]
    job: Callable[[DictConfig, list[str]], Any] | None
    config_name: str
    runs: Sequence[Settled]

    def __post_init__(self) -> None:
        functools.update_wrapper(self, self.task)

    def __call__(self, config: DictConfig) -> Any:
        settings = HydraConfig.get()
        if settings.mode != RunMode.MULTIRUN:
            return self.task(_in_directory(config, self.runs[0]))
        composer = Composer(settings.job.config_name or self.config_name, user_directory(settings))
        words = [*settings.overrides.hydra, *settings.overrides.task]
        run = configure(composer, words, self.config_name, settings.job.num)
        if run.problems:  # it may lack a key that other jobs have
            words = fitting_words(run, words)
            run = configure(composer, words, self.config_name, settings.job.num)
        run.notices.clear()  # they were told
        checked = _in_directory(config, run.sound())
        if self.job is None:
            return self.task(checked)
        return self.job(checked, command_line(settings, words, checked))


def _in_directory(config: DictConfig, run: Settled) -> DictConfig:
    """Return a run's configuration with the directory that Hydra made, if it made a new one."""
    if "run_dir" in run.typed and run.typed["resume"] is None:
        run.typed["run_dir"] = config.run_dir
    return read_only(run.typed)


def _flags(argv: Sequence[str]) -> argparse.Namespace:
    """Read Hydra's flags, and the overrides among them."""
    parser = argparse.ArgumentParser(add_help=False, usage=argparse.SUPPRESS, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    for switch in ("-m --multirun", "-r --run", "--resolve", "-h --help", "--hydra-help",
                   "--version", "-sc --shell-completion"):  # fmt: skip
        parser.add_argument(*switch.split(), action="store_true")
    for flag in ("-cn --config-name", "-cd --config-dir", "-p --package"):
        parser.add_argument(*flag.split())
    parser.add_argument("-c", "--cfg", choices=["job", "hydra", "all"])
    parser.add_argument("-i", "--info", nargs="?", const="all")
    flags, unknown = parser.parse_known_intermixed_args(list(argv))
    problems = list(split_problems([word for word in argv if word in (*flags.overrides, *unknown)]))
    problems = problems or [flag_problem(flag) for flag in unknown]  # -1, of a list that was split
    names = ("run", "multirun", "cfg", "shell_completion", "info")
    modes = [f"--{name.replace('_', '-')}" for name in names if getattr(flags, name)]
    if len(modes) > 1:
        problems.append(f"{', '.join(modes)}: only one of them at a time")
    if flags.resolve and not (flags.cfg or flags.help):
        problems.append("--resolve: goes with --cfg job or --help")
    if flags.config_dir is not None and not os.path.isdir(flags.config_dir):
        problems.append(f"--config-dir: no directory {show(flags.config_dir)}")
    if problems:
        raise InvalidConfiguration(problems)
    return flags
