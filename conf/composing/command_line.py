"""Entry points to the configuration: their command lines, checked before Hydra runs them.

An invalid command line is refused before torch or an environment is imported and before a
directory is created: one line for each problem on stderr, exit code 2.
"""

import argparse
import functools
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from conf.checking.refusals import Ending, InvalidConfiguration, flag_problem, split_problems
from conf.composing.composer import (
    CONFIG_DIRECTORY,
    VERSION_BASE,
    Composer,
    register_directories,
)
from conf.composing.configuration import configure, has_key, load, read_only
from conf.composing.presets import Settled, written
from conf.composing.resumption import runs_in
from conf.composing.sweeps import command_line, configure_jobs, fitting_words, user_directory
from conf.schema.layout import command
from conf.schema.scripts import ROOTS, FinishedRun
from conf.schema.types import show

__all__ = ["InvalidConfiguration", "check", "has_key", "launch", "load"]

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


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
    if config_name != "config" and started_ranks() > 1:
        if os.environ["RANK"] == "0":  # in one line
            told = f"torchrun: ranks train one run, by {command('train')}; start this one alone"
            print(told, file=sys.stderr)
        sys.exit(Ending.exit_code)
    decorate = hydra.main(config_path=CONFIG_DIRECTORY, config_name=config_name, **VERSION_BASE)
    try:
        runs, sys.argv[1:] = check(sys.argv[1:], config_name)
        register_directories()  # `--help` composes nothing before
        decorate(_CheckedTask(task, job, config_name, runs))()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


@contextmanager
def refusals_end() -> Iterator[None]:
    """End the process where a command is refused, with its lines on stderr and its exit code."""
    try:
        yield
    except Ending as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(refusal.exit_code)


def started_ranks() -> int:
    """Return how many processes torchrun started for this run; 1 if this one came without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def check(argv: Sequence[str], config_name: str = "config") -> tuple[list[Settled], list[str]]:
    """Refuse an invalid command line, for a run, a sweep or `--cfg`.

    Returns:
        The configuration of each run, and the command line for Hydra: with the overrides that
        adjust a preset, each with a warning that says why, and its flags last.
    """
    with refusals_end():
        flags = _flags(argv)
        runs, words = list[Settled](), _spelled_out(flags.overrides, config_name)
        switches = [word for word in argv if word not in flags.overrides]
        if not (flags.help or flags.hydra_help or flags.shell_completion or flags.info):
            composer = Composer(flags.config_name or config_name, flags.config_dir, config_name)
            settings = composer.hydra_settings(composer.parse(words))
            if flags.multirun or settings.mode == RunMode.MULTIRUN:
                runs, words = configure_jobs(composer, words)
            else:
                run = configure(composer, words).sound()
                runs, words = [run], run.words
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

    @refusals_end()
    def __call__(self, config: DictConfig) -> Any:
        settings = HydraConfig.get()
        if settings.mode != RunMode.MULTIRUN:
            return self.task(_in_directory(config, self.runs[0]))
        name = settings.job.config_name or self.config_name
        composer = Composer(name, user_directory(settings), self.config_name)
        words = [*settings.overrides.hydra, *settings.overrides.task]
        run = configure(composer, words, settings.job.num)
        if run.problems:  # it may lack a key that other jobs have
            words = fitting_words(run, words)
            run = configure(composer, words, settings.job.num)
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


def _spelled_out(words: Sequence[str], config_name: str) -> list[str]:
    """Write `run=last` and `resume=last` as the newest run, and a path alone as `run=`."""
    spelled, opens = [], issubclass(ROOTS[config_name], FinishedRun)
    for word in words:
        is_path = "/" in word or os.path.isdir(word)
        if opens and re.match("[^=~+-][^=]*$", word) and (word == "last" or is_path):
            word = written("run", word)
        if word in ("run=last", "resume=last"):
            newest = runs_in(Path("runs"))
            if not newest:
                raise InvalidConfiguration([f"{word}: there is no run under runs/"])
            word = written(word.partition("=")[0], str(newest[0]))
        spelled.append(word)
    return spelled


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
    split = [word for word in unknown if not word.startswith("--")]  # -1, of a list
    problems = list(split_problems([word for word in argv if word in (*flags.overrides, *split)]))
    problems += [flag_problem(flag) for flag in unknown if not (problems and flag in split)]
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
