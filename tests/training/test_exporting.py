"""An exported policy acts as the run's, without this project, memory and resets included."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import neurl
from conf.composing.command_line import load
from tests.doors import MASKED, TWO
from tests.envs.misbehaving import Steady
from training.building.environments import build_environments
from training.exporting.acting import ActingPolicy
from training.exporting.export import Unexportable, export_run
from training.runs.session import train_run

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "device=cpu",
    "num_threads=1",
    "env.num_envs=2",
    "total_env_steps=64",
    "evaluation.interval=0",
    "evaluation.num_envs=1",
    "evaluation.final_episodes=1",
    "tracking=none",
]
ON_POLICY = ["agent.rollout_length=16", "agent.num_minibatches=2", "agent.num_epochs=1"]
FROM_REPLAY = ["agent.train_frequency=4", "agent.learning_starts=40", "agent.batch_size=8"]
MADE = ["env.time_limit=20"]
POLICIES = {
    "ppo": [*ON_POLICY, *MADE, "env=cartpole", "normalize_observations=true"],
    "lstm": [*ON_POLICY, *MADE, "env=cartpole", "memory=lstm", "memory.hidden_size=8"],
    "continuous": [*ON_POLICY, *MADE, "env=pendulum", "memory=gru", "memory.hidden_size=8"],
    "dqn": [*FROM_REPLAY, *MADE, "agent=dqn", "env=cartpole", "agent.buffer_size=96"],
    "sac": [*FROM_REPLAY, *MADE, "agent=sac", "env=pendulum", "agent.buffer_size=96"],
}
MEMORIES = [
    *("rnn", "mingru", "lru", "mlstm", "gtrxl"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("none", "gru", "lstm")),
]
"""Those of `POLICIES`, which are traced for any number of environments there, take their time."""


def trained(directory: Path, *words: str) -> Path:
    config = load([*SMALL, *words, f"run_dir={directory}"])
    train_run(config, build_environments(config, num_envs=config.env.num_envs))
    return directory


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("runs")
    return {name: trained(place / name, *words) for name, words in POLICIES.items()}


def exported(run: Path, **changes):
    words = {"format": "torch", "checkpoint": "last", "directory": None, "trusted_packages": []}
    return export_run(SimpleNamespace(run=str(run), **{**words, "tolerance": 1e-5, **changes}))


@pytest.mark.parametrize("name", POLICIES)
def test_every_kind_of_policy_acts_as_its_run(runs, name: str) -> None:
    made = exported(runs[name])
    assert made.difference <= 1e-5
    text = (made.path.parent / "contract.json").read_text()
    contract = json.loads(text)
    (state,) = [line for line in text.splitlines() if "initial_state" in line]
    assert state.endswith("],")  # whole, in one line
    assert contract["sha256"] == hashlib.sha256(made.path.read_bytes()).hexdigest()
    policy = neurl.load(runs[name])
    assert contract["inputs"]["state"]["shape"] == ["batch", policy.agent.actor.memory.state_size]
    assert list(contract["inputs"]) == ["observation", "state", "is_first"]


class Goals(Steady):
    """Parts by the names of Gymnasium's environments with goals, one of them codes."""

    action_space = spaces.Box(-1000.0, 1000.0, (2,))
    observation_space = spaces.Dict(
        observation=spaces.Box(-1, 1, (3,)), desired_goal=spaces.Discrete(4)
    )

    def shown(self):
        return {"observation": np.full(3, self.steps / 9, np.float32), "desired_goal": 2}


class Pictures(Steady):
    """Images with their channels first, as stacks of Atari's frames are."""

    observation_space = spaces.Box(0, 255, (4, 12, 12), np.uint8)

    def shown(self):
        return np.full((4, 12, 12), 20 * self.steps, np.uint8)


def test_images_with_channels_first_are_traced_too(tmp_path: Path) -> None:
    gymnasium.register("test/Pictures-v0", Pictures)
    small = ["extractor=cnn", "extractor.filters=[4]", "extractor.hidden_sizes=[8]"]
    try:
        made = exported(trained(tmp_path / "run", *ON_POLICY, "env.id=test/Pictures-v0", *small))
    finally:
        del gymnasium.registry["test/Pictures-v0"]
    assert made.difference <= 1e-5


def test_bfloat16_has_no_onnx(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", *POLICIES["ppo"], "precision=bf16")
    with pytest.raises(Unexportable, match=r"^format=onnx: precision=bf16 .* use format=torch$"):
        exported(run, format="onnx")


@pytest.mark.parametrize(
    "words", [["task=memory", "memory=gru"], ["env.id=test/Goals-v0"]], ids=["codes", "parts"]
)
def test_codes_and_parts_are_traced_too(tmp_path: Path, words: list[str]) -> None:
    gymnasium.register("test/Goals-v0", Goals)
    try:
        run = trained(tmp_path / "run", *ON_POLICY, *words)
        made = exported(run)
    finally:
        del gymnasium.registry["test/Goals-v0"]
    assert made.difference <= 1e-5
    contract = json.loads((made.path.parent / "contract.json").read_text())
    if "task=memory" not in words:
        parts = ["observation.desired_goal", "observation.observation"]
        assert sorted(contract["inputs"]) == ["is_first", *parts, "state"]


@pytest.mark.parametrize("words", [[*ON_POLICY, TWO, "memory=gru"], [*FROM_REPLAY, "agent=dqn"]])
def test_masks_of_legal_actions_are_an_input(tmp_path: Path, words: list[str]) -> None:
    made = exported(trained(tmp_path / "run", *words, *MASKED))
    assert made.difference <= 1e-5
    contract = json.loads((made.path.parent / "contract.json").read_text())
    assert list(contract["inputs"]) == ["observation", "state", "is_first", "action_mask"]
    assert contract["inputs"]["action_mask"]["dtype"] == "bool"


def test_a_module_without_its_mask_says_what_it_needs() -> None:
    module = neurl.build(*SMALL[:3], *ON_POLICY, *MASKED).module()
    inputs = torch.randn(6, 6), torch.zeros(6, 0), torch.ones(6).bool()
    actions, _ = module(*inputs, torch.eye(6).bool())
    assert actions.tolist() == [3, 4, 5, 6, 7, 8]
    with pytest.raises(ValueError, match=r"env\.action_mask=true: expected action_mask \[B, M\]"):
        module(*inputs)
    with pytest.raises(ValueError, match="expected action_mask"):  # nor is one traced
        torch.export.export(module, inputs, strict=False)


@pytest.mark.parametrize("memory", MEMORIES)
def test_every_memory_can_be_traced(memory: str) -> None:
    policy = neurl.build(*SMALL[:3], *ON_POLICY, "env=cartpole", f"memory={memory}")
    module = policy.module()
    state = torch.from_numpy(policy.agent.initial_state(3))
    inputs = (torch.randn(3, 4), state, torch.tensor([True, False, False]))
    batch = {0: torch.export.Dim("batch")}
    with torch.no_grad():
        program = torch.export.export(module, inputs, dynamic_shapes=(batch,) * 3, strict=False)
    traced = program.module()
    state, is_first = torch.from_numpy(policy.agent.initial_state(2)), torch.ones(2).bool()
    expected = state
    for _ in range(4):  # with another number of environments
        rows = torch.randn(2, 4)
        _, state = traced(rows, state, is_first)
        _, expected_state = policy.agent.act(
            rows.numpy(), expected.numpy(), is_first.numpy(), explore=False
        )
        expected = torch.from_numpy(np.ascontiguousarray(expected_state))
        torch.testing.assert_close(state, expected, rtol=0, atol=1e-5)
        is_first = torch.tensor([False, True])


def test_another_policy_is_not_exported(runs, tmp_path, monkeypatch) -> None:
    original, off = ActingPolicy.forward, 1e-3

    def shifted(self, observation, state, is_first):
        action, state = original(self, observation, state, is_first)
        return action, state + off

    monkeypatch.setattr(ActingPolicy, "forward", shifted)
    (tmp_path / "policy.pt2").write_text("an earlier one")
    with pytest.raises(Unexportable, match=r"is [\d.]+ off the run's; .* tolerance=1e-05$"):
        exported(runs["continuous"], directory=str(tmp_path))
    assert (tmp_path / "policy.pt2").read_text() == "an earlier one"
    made = exported(runs["continuous"], directory=str(tmp_path), tolerance=0.1)
    assert 1e-3 <= made.difference < 0.1
    off = np.nan
    with pytest.raises(Unexportable, match="is nan off"):
        exported(runs["continuous"], directory=str(tmp_path), tolerance=0.1)


def test_either_choice_will_do_where_rounding_decides(tmp_path: Path, monkeypatch) -> None:
    def run(lead: float) -> Path:
        """Save a policy that chooses by its first feature, which is `lead`."""
        policy = neurl.build(*SMALL[:3], *POLICIES["ppo"])
        *_, last, _ = policy.agent.actor.extractor.layers
        with torch.no_grad():
            last.weight[0], last.bias[0] = 0.0, lead
            policy.agent.policy_head.output.weight.zero_()[1, 0] = 1.0
        policy.save(tmp_path / str(lead))
        return tmp_path / str(lead)

    original = ActingPolicy.forward

    def other(self, observation, state, is_first):
        action, state = original(self, observation, state, is_first)
        return 1 - action, state

    monkeypatch.setattr(ActingPolicy, "forward", other)
    assert exported(run(0.0)).difference <= 1e-5
    with pytest.raises(Unexportable, match="chooses other actions"):
        exported(run(1e-3))


def test_a_missing_package_is_named_before_anything_is_written(runs, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(Unexportable, match=r"onnxruntime is not installed.*\[onnx\]"):
        exported(runs["ppo"], format="onnx", directory=str(tmp_path / "made"))
    assert not (tmp_path / "made").exists()


def test_onnx_acts_without_torch_as_the_docs_say(runs) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    made = exported(runs["lstm"], format="onnx")
    assert made.difference <= 1e-5
    page = (ROOT / "docs" / "deploying.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    code = code.replace("RUN_DIR", str(runs["lstm"]))
    check = "import sys\nassert 'torch' not in sys.modules"
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
