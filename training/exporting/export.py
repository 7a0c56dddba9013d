"""Writes a run's policy to a file that acts without this project, and checks that it does."""

import hashlib
import logging
import re
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig

from agents.agent import Agent
from conf.schema.layout import installing
from envs.seeding import environment_seeds, reset_with_seeds
from envs.spaces import one_line
from networks.mirror import Array
from networks.observations import map_observations, mask_of, share_of
from training.building.environments import build_environments
from training.building.instantiation import plain
from training.evaluation.restore import load_agent
from training.exporting.acting import ActingPolicy
from training.runs.identity import versions
from training.saving.files import replace, to_json

_FILES = {"onnx": "policy.onnx", "torch": "policy.pt2"}
# What the file does not do: the caller's environment must show what the run's showed.
_ENVIRONMENT = (
    "id", "kwargs", "packages", "wrappers", "frame_stack", "previous_action", "previous_reward",
)  # fmt: skip
_OTHERS = ("state", "is_first", "action_mask")
_OUTPUTS = ["action", "next_state"]
_STEPS, _RESTART = 200, 50
_TRIES = 100

Inputs = dict[str, Array]
Act = Callable[[Inputs], tuple[Array, Array]]
"""Arrays by the names of the contract -> actions and the state after the step."""
Step = tuple[Inputs, tuple[Array, Array]]


class Unexportable(ValueError):
    """A policy that cannot be exported, or acts otherwise than the run's."""


class Exported(NamedTuple):
    """Where a policy lies, and how exactly it acts as the run's.

    Attributes:
        difference: largest absolute difference of an action or a state.
    """

    path: Path
    difference: float


def export_run(config: DictConfig) -> Exported:
    """Export a run as configured; raises an `Unexportable` or what loading it raises."""
    run, checkpoint, format = Path(config.run), config.checkpoint, config.format
    directory = run / "export" if config.directory is None else Path(config.directory)
    trusted = config.trusted_packages
    run_config, agent = load_agent(run, checkpoint=checkpoint, trusted_packages=trusted)
    if format == "onnx" and run_config.precision == "bf16":
        told = "precision=bf16 is bfloat16, which ONNX Runtime has no layers for on a CPU"
        raise Unexportable(f"format=onnx: {told}; use format=torch")
    played = _recorded(run_config, agent)
    inputs, outputs = played[0]
    path, made = directory / _FILES[format], directory / f"new-{_FILES[format]}"
    act = _write(ActingPolicy(agent, has_masks="action_mask" in inputs), inputs, format, made)
    difference = _largest_difference(act, agent, played, config.tolerance)
    if not difference <= config.tolerance:
        made.unlink()
        what = f"is {difference:.2g} off the run's; expected at most tolerance={config.tolerance:g}"
        if np.isinf(difference):
            what = "chooses other actions than the run's"
        raise Unexportable(f"run={run}: the exported policy {what}")
    made.replace(path)
    seen = {key: plain(run_config.env)[key] for key in _ENVIRONMENT}
    contract = {
        "run": str(run),
        "checkpoint": checkpoint,
        "environment": {**seen, "pomdp": plain(run_config.pomdp)},
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "inputs": {name: _kind(rows) for name, rows in inputs.items()},
        "outputs": dict(zip(_OUTPUTS, map(_kind, outputs), strict=True)),
        "initial_state": agent.initial_state(1)[0].tolist(),
        "observation_space": one_line(agent.actor.inputs.space),
        "action_space": one_line(agent.policy_head.space),
        "largest_difference": difference,
        "versions": versions(),
    }
    # A list in one line: an LSTM's initial state is long.
    text = re.sub(rb"\[[^][{}]*\]", lambda found: b" ".join(found[0].split()), to_json(contract))
    replace(directory / "contract.json", text)
    return Exported(path, difference)


def _recorded(config: DictConfig, agent: Agent) -> list[Step]:
    """Play with the run's policy; returns the inputs and outputs of every step."""
    head, played = agent.policy_head, []
    with closing(build_environments(config, num_envs=2, for_acting=True)) as environments:
        observation, _ = reset_with_seeds(environments, environment_seeds(config.seed, 2, "export"))
        state, is_first, ended = agent.initial_state(2), *np.zeros((2, 2), np.bool_)
        for step in range(_STEPS):
            is_first = is_first | (step % _RESTART == 0)  # in the middle of long episodes too
            rows: Any = map_observations(lambda part: np.array(part), observation)
            # Named `observation`, or `observation.PART`.
            read, mask = share_of(rows, "actor"), mask_of(rows)
            parts = read if isinstance(read, dict) else {"": read}
            named = {f"observation.{name}".rstrip("."): part for name, part in parts.items()}
            before = {**named, "state": state.copy(), "is_first": is_first}
            if mask is not None:
                before["action_mask"] = mask
            actions, state = agent.act(rows, state, is_first, explore=False)
            sent = head.to_environment(actions)
            played.append((before, (sent, state.copy())))
            observation, _, terminated, truncated, _ = environments.step(sent)
            is_first, ended = ended, terminated | truncated
    return played


def _write(policy: ActingPolicy, inputs: Inputs, format: str, path: Path) -> Act:
    """Trace the policy and write it; returns a function that acts with the file.

    Raises:
        Unexportable: PyTorch cannot trace it, or a package is missing.
    """
    if format == "onnx":
        _require_onnx()
    path.parent.mkdir(parents=True, exist_ok=True)
    given, batch = _arguments(inputs), {0: torch.export.Dim("batch")}
    shapes = (map_observations(lambda part: batch, given[0]), *(batch for _ in given[1:]))
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(policy, given, dynamic_shapes=shapes, strict=False)
            if format == "torch":
                torch.export.save(program, path)
                return _acting_in_torch(path)
            _to_onnx(program, list(inputs)).save(path)
            return _acting_in_onnx(path)
    except Exception as error:
        path.unlink(missing_ok=True)
        raise Unexportable(f"format={format}: cannot be exported: {one_line(error)}") from error


def _arguments(inputs: Inputs) -> tuple[Any, ...]:
    """Return tensors as the module takes them: the observation, by part if it has some, first."""
    rows = {name: torch.from_numpy(each) for name, each in inputs.items()}
    others = [rows.pop(name) for name in _OTHERS if name in rows]
    parts = {name.partition(".")[2]: part for name, part in rows.items()}
    return parts.get("", parts), *others


def _require_onnx() -> None:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise Unexportable(
            f"format=onnx: {error.name} is not installed; {installing('onnx')}, or format=torch"
        ) from error
    onnxruntime.set_default_logger_severity(3)


def _to_onnx(program: Any, names: list[str]) -> Any:
    for library in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(library).setLevel(logging.ERROR)
    how: Any = {"input_names": names, "output_names": _OUTPUTS, "verbose": False}
    return torch.onnx.export(program, (), dynamo=True, **how)


def _acting_in_onnx(path: Path) -> Act:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda inputs: tuple(session.run(_OUTPUTS, inputs))


def _acting_in_torch(path: Path) -> Act:
    module = torch.export.load(path).module()

    def act(inputs: Inputs) -> tuple[Array, Array]:
        actions, after = module(*_arguments(inputs))
        return actions.numpy(), after.numpy()

    return act


@torch.no_grad()
def _largest_difference(act: Act, agent: Agent, played: list[Step], tolerance: float) -> float:
    """Act along a record with a state of its own; infinite where a choice differs.

    Absolute below 1, else relative. Where rounding decides between two choices, either will do.
    """
    largest, state = 0.0, played[0][0]["state"]
    for inputs, (chosen, after) in played:
        actions, state = act({**inputs, "state": state})
        pairs = [(state, after)]
        if actions.dtype.kind == "f":
            pairs.append((actions, chosen))
        elif not np.array_equal(actions, chosen) and not _is_tie(agent, inputs, actions, tolerance):
            return np.inf
        for mine, its in pairs:
            if mine.size:
                off = np.abs(mine.astype(np.float64) - its) / np.maximum(1.0, np.abs(its))
                largest = float(np.maximum(largest, off.max()))  # nan, if there is one
    return largest


def _is_tie(agent: Agent, inputs: Inputs, actions: Array, tolerance: float) -> bool:
    """Whether the run's policy may choose these too, where summaries differ by the tolerance."""
    observation, state, is_first, *masks = _arguments(inputs)
    step = map_observations(lambda part: part[None], observation)
    summary = agent.actor(step, state, is_first[None])[0][0]
    legal = agent.policy_head.legal(*masks) if masks else None
    noise = torch.randn(_TRIES, *summary.shape, generator=torch.Generator().manual_seed(0))
    summaries = summary + tolerance * summary.abs().clamp(min=1.0) * noise
    modes = [agent.networks.policy(each, legal).mode().numpy() for each in summaries]
    chosen = np.array([agent.policy_head.to_environment(mode) for mode in modes])
    return bool((chosen == actions).any(0).all())


def _kind(rows: Array) -> dict[str, Any]:
    return {"shape": ["batch", *rows.shape[1:]], "dtype": str(rows.dtype)}
