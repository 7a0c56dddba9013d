"""Trains an agent: `python train.py [group=option] [key=value] ...`; see `--help`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.checking.trust import trust_words
from conf.composing.command_line import check, launch, load, refusals_end, started_ranks
from conf.schema.layout import command
from training.process.leaving import leave
from training.runs.refusal import refusing

if TYPE_CHECKING:
    from omegaconf import DictConfig


ROOT = Path(__file__).resolve().parent


def train(config: DictConfig) -> float:
    """Train one run; return the mean return of its last evaluation, for sweepers to maximise."""
    from training.building.environments import build_environments
    from training.runs.directory import discard, finished
    from training.runs.progression import goal_of
    from training.stream.episodes import shown_return

    if config.resume is not None:
        goal = goal_of(config)
        over = finished(Path(config.resume), total_env_steps=config.total_env_steps, goal=goal)
        if over is not None:
            steps, score = over
            print(
                f"{config.resume} has finished: {steps:,} steps, evaluation {shown_return(score)}; "
                f"{'evaluation.stop_at=null' if goal else 'a larger total_env_steps'} resumes it, "
                f"{command('evaluate')} evaluates it again"
            )
            return score
    try:
        with refusing(ValueError, exit_code=2):
            if started_ranks() > 1:
                from training.runs.ranks import begin

                begin(config)
            environments = build_environments(
                config, num_envs=config.env.num_envs // started_ranks()
            )

        # Imported late: torch takes a second, and a wrong environment is refused before that.
        from training.runs.session import train_run

        return train_run(config, environments)
    except BaseException:
        discard(Path(config.run_dir))
        raise


def train_job(config: DictConfig, words: list[str]) -> float:
    """Train one job of a sweep in a separate process, from its command line."""
    from training.runs.sweep import run_job

    if started_ranks() > 1:
        sys.exit("--multirun: several ranks train one run; start torchrun once for each")
    trust = trust_words(config.env.packages, config.trusted_packages)
    return run_job(ROOT / "train.py", words, Path(config.run_dir), trust=trust)


def main() -> None:
    """Train the run or sweep of the command line, or a part of the run beside other processes."""
    if started_ranks() == 1:
        on_ray = [word for word in sys.argv[1:] if word.startswith(("engine=", "engine."))]
        with refusals_end():
            start_ranks(on_ray) if on_ray else lead()
    else:
        from training.runs.ranks import one_of_several

        one_of_several(lead)


def start_ranks(words: list[str]) -> None:
    """Train one run in several processes, where words such as `engine=ray` say."""
    from analysis.studies.engines.ray_train import train_on_ray

    engine = load(words, "compare").engine
    run = [word for word in sys.argv[1:] if word not in words]
    check(run)
    train_on_ray(engine, run)


def lead() -> None:
    """Train the run or sweep, and report on the jobs of a sweep."""
    from training.runs.sweep import outcomes, table

    with outcomes() as found:
        launch(train, job=train_job)
    if found:
        print(f"{len(found)} jobs:", table(found), sep="\n", flush=True)
    failed = [outcome.problem for outcome in found if outcome.problem]
    if failed:
        print(f"{len(failed)} of the jobs failed:", *failed, sep="\n  ", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    leave(main)
