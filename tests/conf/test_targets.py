"""Only classes of trusted packages may be named; the name is judged before anything is imported."""

import sys
from pathlib import Path

import pytest

from conf.checking.trust import is_trusted, package_problems, target_problems, trust_words
from conf.composing.command_line import InvalidConfiguration, check, load

CANARIES = [
    "os.system",
    "shutil.copyfile",
    "pathlib.Path.unlink",
    "builtins.open",
    "builtins.eval",
    "subprocess.Popen",
    "torch.load",
    "torch.hub.load",
    "networks.extractors.mlp.torch.hub.load",
    "networks.extractors.mlp.os.system",
    "networks.extractors.mlp.subprocess.Popen",
    "gymnasium.envs.registration.importlib.import_module",
    "torch.nn.modules.module.warnings.warn",
    "agentsx.Evil",
    "agents",
    "agents.",
    ".agents.ppo.PPO",
    "agents.ppo.PPO; import os",
    "torch.nn..Linear",
    "networks.extractors.mlp.Tensor",
    "training.tracking.tracking.TensorBoard",
    "envs.vector.base.SlotVectorEnv",
    "gymnasium.wrappers.RecordVideo",
    "gymnasium.wrappers.rendering.RecordVideo",
    "auto",
]
PLACES = [
    "agent._target_={}",
    "extractor._target_={}",
    "optimizer._target_={}",
    "env.wrappers=[{{_target_: {}, src: a, dst: b}}]",
    "+env.kwargs.deep=[[{{_target_: {}}}]]",
    "+pomdp.x={{_target_: {}}}",
    "+unknown.place._target_={}",
    "+hydra.callbacks.x._target_={}",
]


@pytest.mark.parametrize("target", CANARIES)
def test_canary_is_not_trusted(target: str) -> None:
    assert not is_trusted(target, [])


@pytest.mark.parametrize("target", ["os.system", "shutil.copyfile", "pathlib.Path.unlink", "auto"])
@pytest.mark.parametrize("place", PLACES)
def test_canary_is_refused_wherever_it_stands(place: str, target: str) -> None:
    with pytest.raises(InvalidConfiguration) as refusal:
        load([place.format(target)])
    assert any("_target_" in line and repr(target) in line for line in refusal.value.problems)


@pytest.mark.parametrize(
    "target",
    [
        "agents.ppo.PPO",
        "networks.extractors.MLP",
        "envs.wrappers.MaskVelocity",
        "torch.nn.Linear",
        "torch.optim.Adam",
        "gymnasium.wrappers.TimeAwareObservation",
    ],
)
def test_class_of_a_trusted_package_is_trusted(target: str) -> None:
    assert is_trusted(target, [])


def test_user_vouches_for_a_package_of_their_own() -> None:
    assert not is_trusted("mine.networks.Net", [])
    assert is_trusted("mine.networks.Net", ["mine"])
    assert not is_trusted("miner.Net", ["mine"])


def test_nobody_vouches_for_what_is_ours_and_not_meant_to_be_named() -> None:
    assert not is_trusted("training.tracking.tracking.TensorBoard", ["training"])


def test_a_run_imports_known_modules_alone() -> None:
    """A submodule of a known package may do anything when it is imported."""
    assert package_problems(["ale_py", "minigrid", "envs.games.atari"], []) == []
    for package in ("minigrid.manual_control", "mine", "mine.tasks"):
        name = package.partition(".")[0]
        (problem,) = package_problems([package], ["other"])
        assert f"trusted_packages=[{name}]" in problem
        assert package_problems([package], [name]) == []
        assert trust_words([package], []) == [f"trusted_packages=[{name}]"]


def test_standard_library_cannot_be_vouched_for() -> None:
    with pytest.raises(InvalidConfiguration, match="'os' belongs to Python's standard library"):
        load(["trusted_packages=[os]", "extractor._target_=os.system"])


def test_a_class_is_refused_in_one_line() -> None:
    with pytest.raises(InvalidConfiguration) as refusal:
        load(["extractor._target_=networks.extractors.MPL"])
    assert len(refusal.value.problems) == 1


def test_remedy_is_named_for_a_users_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        check(["extractor._target_=mine.Net"])
    assert "trusted_packages=[mine]" in capsys.readouterr().err


def test_module_is_not_imported_to_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "canary_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidConfiguration, match="canary_module"):
        load(["extractor._target_=canary_module.Net"])
    load(["extractor._target_=canary_module.Net", "trusted_packages=[canary_module]"])
    assert "canary_module" not in sys.modules


def test_class_of_ours_must_fit_its_place() -> None:
    with pytest.raises(InvalidConfiguration, match=r"memory\._target_: expected one of"):
        load(["memory._target_=networks.extractors.MLP"])
    with pytest.raises(InvalidConfiguration, match=r"did you mean networks\.extractors\.MLP\?"):
        load(["extractor._target_=networks.extractors.MPL"])


@pytest.mark.parametrize("place", ["memory", "value_head", "+extractor.keys.camera"])
def test_auto_is_a_policy_head_alone(place: str) -> None:
    words = ["extractor=dict"] if "keys" in place else []
    with pytest.raises(InvalidConfiguration, match="'auto' is not a class of a trusted package"):
        load([*words, f"{place}._target_=auto"])
    load(["policy_head._target_=auto"])


def test_a_class_has_the_keys_of_its_group() -> None:
    load(["extractor._target_=torch.optim.Adam"])  # refused when it is made
    with pytest.raises(
        InvalidConfiguration, match=r"torch\.optim\.Adam needs an attribute Options"
    ):
        load(["agent._target_=torch.optim.Adam"])


def test_other_optimizers_of_torch_keep_our_keys_and_take_their_own() -> None:
    config = load(
        ["optimizer._target_=torch.optim.NAdam", "+optimizer.decoupled_weight_decay=true"]
    )
    assert config.optimizer.decoupled_weight_decay is True
    with pytest.raises(InvalidConfiguration, match=r"optimizer\.learning_rate: expected a number"):
        load(["optimizer._target_=torch.optim.NAdam", "optimizer.learning_rate=abc"])


def test_targets_are_found_at_any_depth() -> None:
    config = {"a": [{"b": {"_target_": "os.system"}}], "_target_": 3}
    assert [line.partition(":")[0] for line in target_problems(config, [])] == [
        "a[0].b._target_",
        "_target_",
    ]


def test_a_class_may_be_named_as_in_a_wheel() -> None:
    """And is stored as in a checkout, wherever it stands: runs of both are the same."""
    named = [
        "agent._target_=neurl.agents.ppo.PPO",
        "memory._target_=neurl.networks.memory.NoMemory",
    ]
    assert load(named) == load([])
    with pytest.raises(InvalidConfiguration, match=r"did you mean agents.ppo.PPO\?"):
        load(["agent._target_=neurl.agents.ppo.PPOO"])


def test_beside_a_wheel_a_user_may_have_a_package_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_trusted("agents.own.Brave", ["agents"])
    monkeypatch.setattr("conf.checking.trust.PREFIX", "neurl.")
    assert is_trusted("agents.own.Brave", ["agents"])
    assert not is_trusted("agents.own.Brave", [])
    assert is_trusted("agents.ppo.PPO", [])
