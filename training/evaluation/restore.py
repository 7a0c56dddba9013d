"""Loads an agent from a run directory without executing stored code."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from omegaconf import DictConfig
from torch import Tensor

from agents.agent import Agent
from conf.checking.refusals import InvalidConfiguration
from conf.checking.trust import package_problems
from conf.checking.validation import checked
from conf.composing.configuration import read_only
from conf.composing.resumption import stored_configuration
from conf.composing.stored import nodes
from conf.schema.registry import KNOWN
from conf.schema.types import at
from envs.interface import Environments
from envs.spaces import one_line
from training.building.build import build_agent_for
from training.building.environments import Source, open_environments, with_values
from training.building.extractors import Own, with_extractor
from training.evaluation.policy import Policy, refuse_other_spaces
from training.process.threads import set_num_threads
from training.saving.checkpoint import load_checkpoint, part_of

Which = Literal["last", "best"]


def load_policy(
    run: str | Path,
    *,
    checkpoint: Which = "last",
    device: str = "cpu",
    trusted_packages: Sequence[str] = (),
    env: Source = None,
    extractor: Own = None,
) -> Policy:
    """Load the policy of a run, or one that `Policy.save` has saved.

    The configuration is validated like a command line. It cannot declare packages trusted: only
    the caller can. `neurl.fit` counts steps from 0, and a replay buffer begins empty.

    Args:
        trusted_packages: packages of your own whose classes the run may name.
        env: your own environment, if the policy was built for one that is not registered.
        extractor: a module like the one that was handed in when the policy was built.

    Raises:
        ValueError: there is no such run, its configuration is wrong, or its environment cannot be
            made.
        DamagedCheckpoint: the weights are missing or damaged.
    """
    if checkpoint not in get_args(Which):
        raise ValueError(f"checkpoint={checkpoint!r}: expected 'last' or 'best'")
    if not isinstance(extractor, Own):
        raise ValueError(f"extractor: expected a module as neurl.build had it, got {extractor!r}")
    run = Path(run)
    own = {"trusted_packages": list(trusted_packages), "device": device, "compile": False}
    stored = {**stored_configuration(run), **own}
    typed, problems = checked(stored if extractor is None else with_extractor(stored, extractor))
    problems = problems or package_problems(typed["env"]["packages"], trusted_packages)
    if problems:
        with _remedy(stored, extractor):
            raise InvalidConfiguration(problems)
    _leave_out_weights(typed)  # they are in the checkpoint
    config = read_only({**typed, "init_from": None})
    tensors, _ = load_checkpoint(run / "checkpoints" / checkpoint)
    # For its spaces alone, without processes.
    own_process = {"vectorization": "sync"} if config.env.vectorization == "async" else {}
    single = with_values(config, env=own_process)
    with open_environments(single, env, num_envs=1) as (_, made), _remedy(stored, extractor):
        agent = build_agent_for(config, made, extractor)
        if agent.evaluated == ("behaviour",):
            load_source(config, agent, made)
    try:
        agent.load_state_dict(_fitting(part_of(tensors, "agent"), agent))
    except RuntimeError as error:
        reason = one_line(error)
        raise ValueError(f"the weights in {run} are of another network: {reason}") from error
    agent.learner.begin_anew()
    set_num_threads(config.num_threads, agent)
    return Policy(config, agent, extractor)


def _leave_out_weights(typed: dict[str, Any]) -> None:
    for _, node in nodes([typed["extractor"], typed["critic"]["extractor"]]):
        if isinstance(node, dict) and node.get("weights"):
            node["weights"] = None
        if isinstance(node, dict) and isinstance(node.get("pretrain"), dict):
            node["pretrain"]["frames"] = 0


def _fitting(found: dict[str, Tensor], agent: Agent) -> dict[str, Tensor]:
    """Leave out the environments' own tensors where a rank has some of a run's environments."""
    own = agent.state_dict()
    for name in own.keys() & found.keys():
        is_of_environments = name.endswith((".critic_state", ".accumulator"))
        if is_of_environments and len(found[name]) != len(own[name]):
            found[name] = own[name]
    return found


@contextmanager
def _remedy(stored: Mapping[str, Any], extractor: Own) -> Iterator[None]:
    """Say in a refusal of a class that is not ours that a module may have been handed in."""
    try:
        yield
    except ValueError as error:
        target = str(at(stored, "extractor._target_"))
        if extractor or target in KNOWN or "extractor" not in str(error):
            raise
        raise ValueError(f"{error}; your own needs neurl.load(..., extractor=module)") from error


def load_source(config: DictConfig, agent: Agent, environments: Environments) -> None:
    """Load the policy of `agent.source`, which acts in training, unless it is random.

    Raises:
        ValueError: there is no such run, or it has other spaces.
    """
    if agent.behaviour is None or agent.behaviour.is_known:
        return
    source, trusted = config.agent.source, config.trusted_packages
    try:
        _, acting = load_agent(Path(source), device=config.device, trusted_packages=trusted)
        if "policy" not in acting.evaluated:
            raise ValueError("a run that trains an encoder alone has no policy to act")
        refuse_other_spaces(acting, environments)
        own, other = agent.policy_head, acting.policy_head
        if (own.action_shape, own.action_dtype) != (other.action_shape, other.action_dtype):
            raise ValueError("its policy tells actions in another form")
    except ValueError as error:
        raise ValueError(f"agent.source={source}: {error}") from error
    agent.behaviour.source = acting


def load_agent(run: Path, **options: Any) -> tuple[DictConfig, Agent]:
    """Load a run's configuration and agent; arguments and errors as of `load_policy`."""
    policy = load_policy(run, **options)
    return policy.config, policy.agent
