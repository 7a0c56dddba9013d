"""Entry to the configuration: for entry points (`launch`), for Python (`load`).

An invalid command line is refused before torch or an environment is imported and before a
directory is created: one line for each problem on stderr, exit code 2.
"""

import argparse
import functools
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from conf.checking.pretraining import missing_sources
from conf.checking.refusals import InvalidConfiguration, flag_problem
from conf.checking.trust import package_problems, target_problems, targets, trusted_names
from conf.checking.validation import checked
from conf.composing.composer import CONFIG_DIRECTORY, VERSION_BASE, Composer
from conf.composing.presets import Settled, settled
from conf.composing.resolution import frozen, hydra_configuration, inspected, read_only
from conf.composing.resumption import known_to_the_run, links, resumed, stored_configuration
from conf.composing.sweeps import command_line, compose_jobs, fitting_words, key_of, optional
from conf.schema.registry import options_of

__all__ = ["InvalidConfiguration", "check", "compose", "frozen", "launch", "load"]

EXIT_CODE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_KEPT = ("checkpoints", "pretraining")
"""Paths of a run that must not be overwritten."""
_HYDRA_PLUGINS = ("hydra._internal.core_plugins", "hydra.experimental.callbacks", "hydra_plugins")


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
    warnings.formatwarning = _one_line_warning
    sys.argv[1:] = check(sys.argv[1:], config_name)
    decorate = hydra.main(
        version_base=VERSION_BASE, config_path=CONFIG_DIRECTORY, config_name=config_name
    )
    try:
        decorate(_CheckedTask(task, job, config_name, _flags(sys.argv[1:])))()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def check(argv: Sequence[str], config_name: str = "config") -> list[str]:
    """Refuse an invalid command line, for a run, a sweep or `--cfg`.

    Returns:
        The same command line with its flags first, as Hydra needs it, and with the overrides that
        adjust a preset, each with a warning that says why.
    """
    with _refusals():
        flags = _flags(argv)
        words = flags.overrides
        if not (flags.help or flags.hydra_help or flags.shell_completion or flags.info):
            _, words, notices = _composed(flags, config_name)
            _tell(notices)
    return [*(word for word in argv if word not in flags.overrides), *words]


def compose(argv: Sequence[str], config_name: str = "config") -> DictConfig:
    """Return a command line's configuration, resolved, typed and read-only; of a sweep, the first.

    Every job of a sweep is checked. An invalid command line ends the process.
    """
    with _refusals():
        (config, *_), _, notices = _composed(_flags(argv), config_name)
    _tell(notices)
    return config


def load(overrides: Sequence[str], config_name: str = "config") -> DictConfig:
    """Return the configuration of one run, resolved, typed and read-only.

    Raises:
        InvalidConfiguration: with every problem.
    """
    run = _one(Composer(config_name, None), overrides, config_name, None)
    config = _sound(run)
    _tell(run.notices)
    return config


def has_key(overrides: Sequence[str], key: str, config_name: str = "config") -> bool:
    """Tell whether the chosen options have a key, even if the configuration is invalid."""
    config, _, _ = Composer(config_name, None).compose(overrides)
    absent = object()
    return OmegaConf.select(config, key, default=absent) is not absent


class _CheckedTask:
    """Passes a frozen configuration to a task; a class, as launchers send it to other processes."""

    def __init__(
        self,
        task: Callable[[DictConfig], Any],
        job: Callable[[DictConfig, list[str]], Any] | None,
        config_name: str,
        flags: argparse.Namespace,
    ) -> None:
        functools.update_wrapper(self, task)
        self.task, self.job, self.config_name = task, job, config_name
        self.config_file, self.config_directory = flags.config_name, flags.config_dir

    def __call__(self, config: DictConfig) -> Any:
        hydra = HydraConfig.get()
        is_job = hydra.mode == RunMode.MULTIRUN
        if config.get("resume") is None and not is_job:
            return self.task(frozen(config, self.config_name))
        # Hydra's composition is not the final one: presets are adjusted, and resumed runs have
        # their own configuration.
        composer = Composer(self.config_file or self.config_name, self.config_directory)
        words = [*hydra.overrides.hydra, *hydra.overrides.task]
        run = _one(composer, words, self.config_name, hydra.job.num if is_job else None)
        if run.problems and is_job:
            words = fitting_words(run, words)
            run = _one(composer, words, self.config_name, hydra.job.num)
        if "run_dir" in config and run.typed.get("resume") is None:  # otherwise of the resumed run
            run.typed["run_dir"] = config.run_dir
        if not is_job or self.job is None:
            return self.task(_sound(run))
        flags = {"--config-dir": self.config_directory, "--config-name": self.config_file}
        return self.job(_sound(run), command_line(flags, words, run.typed, hydra.job.num))


def _one_line_warning(message: Warning | str, *place: Any, **line: Any) -> str:
    """Write a warning for users: without its place in the code."""
    return f"warning: {message}\n"


@contextmanager
def _refusals() -> Iterator[None]:
    """End the process on an invalid configuration."""
    try:
        yield
    except InvalidConfiguration as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(EXIT_CODE)


def _flags(argv: Sequence[str]) -> argparse.Namespace:
    """Read Hydra's flags; other arguments are overrides."""
    parser = get_args_parser()
    parser.usage = argparse.SUPPRESS  # its errors are one line then
    flags, unknown = parser.parse_known_intermixed_args(list(argv))
    problems = [flag_problem(flag) for flag in unknown]
    if flags.config_path is not None:
        problems.append(
            "--config-path: would replace the defaults; add configurations with --config-dir"
        )
    if flags.experimental_rerun is not None:
        problems.append("--experimental-rerun: not supported, it reads a pickle")
    names = ("run", "multirun", "cfg", "shell_completion", "info")
    modes = [f"--{name}".replace("_", "-") for name in names if getattr(flags, name)]
    if len(modes) > 1:
        problems.append(f"{', '.join(modes)}: only one of them at a time")
    if flags.resolve and not (flags.cfg or flags.help):
        problems.append("--resolve: goes with --cfg job or --help")
    if problems:
        raise InvalidConfiguration(problems)
    return flags


def _composed(
    flags: argparse.Namespace, config_name: str
) -> tuple[list[DictConfig], list[str], list[str]]:
    """Compose and check every run of a command line.

    Returns:
        The configurations, the overrides for Hydra, and notices to print.
    """
    composer = Composer(flags.config_name or config_name, flags.config_dir)
    parsed = composer.parse(flags.overrides)
    settings = composer.hydra_settings(parsed)
    if not (flags.multirun or settings.mode == RunMode.MULTIRUN):
        run = _one(composer, flags.overrides, config_name, None)
        return [_sound(run)], run.words, run.notices
    is_basic = "BasicSweeper" in settings.sweeper.get("_target_", "")
    params = settings.sweeper.get("params") if is_basic else None
    defaults = [f"{key}={value}" for key, value in (params or {}).items()]
    intervals = [o for o in parsed if o.is_sweep_override() and not o.is_discrete_sweep()]
    problems = [
        f"{o.key_or_group}: an interval needs another hydra/sweeper" for o in intervals if is_basic
    ]
    jobs = composer.jobs([*defaults, *flags.overrides])
    runs, lacking, notices = compose_jobs(
        composer, jobs, lambda words, number: _one(composer, words, config_name, number)
    )
    lacking |= {key_of(word) for run in runs for word in run.words if word.startswith("++")}
    problems += [problem for run in runs for problem in run.problems]
    configs = [read_only(run.typed) for run in runs]
    problems += _shared_directories(configs) if not problems else []
    if problems:
        raise InvalidConfiguration(problems)
    return configs, [optional(w) if key_of(w) in lacking else w for w in flags.overrides], notices


def _sound(run: Settled) -> DictConfig:
    """Return the configuration of a run.

    Raises:
        InvalidConfiguration: with all its problems.
    """
    if run.problems:
        raise InvalidConfiguration(run.problems)
    return read_only(run.typed)


def _tell(notices: Sequence[str]) -> None:
    for notice in notices:
        warnings.warn(notice, stacklevel=3)


def _one(
    composer: Composer, overrides: Sequence[str], config_name: str, job_number: int | None
) -> Settled:
    """Compose and check one run; a job of a sweep has a number."""
    optional_words: set[str] = set()

    def inspect(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        typed, problems, invented = _inspected(composer, words, config_name, job_number)
        optional_words.update(invented)
        return typed, problems

    try:
        run = settled(composer, overrides, inspect)
        if run.typed.get("resume") is not None:
            resume = run.typed["resume"]
            if run.problems:
                run.problems = known_to_the_run(run.problems, resume, config_name)
            else:
                run.typed, run.problems = _resumed(composer, run.typed, overrides, config_name)
        else:
            run.problems += _occupied(run.typed)
            if not run.problems and "extractor" in run.typed:
                run.problems += missing_sources(run.typed)
    except InvalidConfiguration as refusal:
        return Settled(list(overrides), {}, refusal.problems, [])
    run.words = [optional(word) if word in optional_words else word for word in run.words]
    return run


def _inspected(
    composer: Composer, words: Sequence[str], config_name: str, job_number: int | None
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Compose and check overrides; the last are keys that only the class has, not the YAML."""
    config, problems, invented = composer.compose(words)
    plugins = OmegaConf.to_container(config.hydra, resolve=False)
    problems += [f"hydra.{problem}" for problem in target_problems(plugins, _HYDRA_PLUGINS)]
    if config.hydra.job.chdir:
        problems.append("hydra.job.chdir: derived from run_dir, which is the key to set")
    if job_number is not None:
        OmegaConf.update(config, "hydra.job.num", job_number, force_add=True)
    with hydra_configuration(config):
        typed, found = inspected(config, config_name)
    problems += found
    declared = [line for line in invented if _is_declared(line.partition("=")[0], typed)]
    unknown = [line for line in invented if line not in declared]
    return typed, problems + _needs_plus(unknown, problems), declared


def _is_declared(key: str, typed: dict[str, Any]) -> bool:
    """Tell whether a key belongs to a class with known keys; an unknown one is reported so."""
    target = dict(targets(typed)).get(f"{key.rpartition('.')[0]}._target_")
    return isinstance(target, str) and options_of(target, trusted_names(typed)) is not None


def _resumed(
    composer: Composer, given: dict[str, Any], overrides: Sequence[str], config_name: str
) -> tuple[dict[str, Any], list[str]]:
    """Replace a new configuration by that of the run to resume."""
    try:
        stored = stored_configuration(Path(given["resume"]), config_name)
    except ValueError as error:
        raise InvalidConfiguration([f"resume: {error}"]) from error
    # The run cannot declare trusted packages; the user who resumes it can.
    stored["trusted_packages"] = given["trusted_packages"]
    before, problems = checked(stored, config_name)
    if not problems:
        problems = package_problems(before["env"]["packages"], before["trusted_packages"])
    if problems:
        where = f"resume: {given['resume']}/config.yaml: "
        return before, [where + problem for problem in problems]
    default, _, _ = composer.compose([])
    with hydra_configuration(default):
        usual, _ = inspected(default, config_name)
    said = [o.package or o.key_or_group for o in composer.parse(overrides)]
    merged, problems = resumed(before, given, usual, said)
    problems += links(Path(given["resume"]))
    # Changed values must fit the others, or the run could not be opened again.
    return merged, problems or checked(merged, config_name)[1]


def _needs_plus(invented: Sequence[str], problems: Sequence[str]) -> list[str]:
    """Explain new keys, in a mapping that accepts any, which need a plus."""
    paths = [re.split(r"[:\[]", p)[0].removesuffix("._target_") + "." for p in problems]
    lines = []
    for line in invented:
        key = line.partition("=")[0]
        is_told = any(path.startswith(f"{key}.") or f"{key}.".startswith(path) for path in paths)
        lines += [] if is_told else [f"{key}: does not exist yet; add it with a plus: +{line}"]
    return lines


def _occupied(typed: dict[str, Any]) -> list[str]:
    """Refuse a directory that has a run, which is never overwritten, or cannot be created."""
    run_dir = typed.get("run_dir")
    if not isinstance(run_dir, str):
        return []
    if any(any(Path(run_dir).glob(f"{kept}/*/manifest*.json")) for kept in _KEPT):
        return [
            f"run_dir: {run_dir} holds a run already; go on with it: resume={run_dir}, "
            "or choose another"
        ]
    existing = next(path for path in (Path(run_dir), *Path(run_dir).parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return [f"run_dir: {run_dir} cannot be made, as {existing} cannot be written to"]
    return []


def _shared_directories(configs: Sequence[DictConfig]) -> list[str]:
    """Refuse a sweep whose jobs would write into one another's directory."""
    counts = Counter(str(config.get("run_dir")) for config in configs if "run_dir" in config)
    return [
        f"run_dir: {count} jobs would share {path}; put what differs into it: "
        f"run_dir='{path}/${{seed}}'"
        for path, count in counts.items()
        if count > 1
    ]
