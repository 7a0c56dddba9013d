"""A user's own agent, and their value head, are checked like ours: by an options dataclass."""

import importlib
import sys
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import neurl
from conf.checking.validation import checked
from conf.composing.command_line import InvalidConfiguration, check, load
from conf.schema.agents import DQNOptions
from conf.schema.heads import MSEValueHeadOptions
from conf.schema.registry import options_of
from conf.schema.types import Fraction, NonNegative, PositiveCount


@dataclass
class BonusOptions(DQNOptions):
    """Of a subclass of DQN."""

    bonus: NonNegative = 0.1
    sizes: list[PositiveCount] = field(default_factory=lambda: [8])


@dataclass
class PlainOptions:
    """Of an agent that has nothing of ours."""

    discount: Fraction
    rollout_length: PositiveCount = 6


@dataclass
class StillOptions:
    """Of an agent that never updates."""

    discount: Fraction


@dataclass
class MedianOptions(MSEValueHeadOptions):
    """Of a value head that is fitted to distributions."""

    is_scalar = False
    fits_returns = False

    median: bool = True


@dataclass
class OwnHeadOptions:
    """Of a value head that has nothing of ours."""

    extra: PositiveCount = 3


class Undecorated(DQNOptions):
    """Forgets the decorator, so that its key is none."""

    bonus: float = 0.1


@pytest.fixture(autouse=True)
def mine(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A package whose classes name their options; what else they are is not looked at here."""
    module = types.ModuleType("mine")
    for name, options in {
        "Bonus": BonusOptions,
        "Plain": PlainOptions,
        "Still": StillOptions,
        "Median": MedianOptions,
        "OwnHead": OwnHeadOptions,
        "Undecorated": Undecorated,
        "Bare": None,
    }.items():
        setattr(module, name, type(name, (), {} if options is None else {"Options": options}))
    monkeypatch.setitem(sys.modules, "mine", module)
    yield module


TRUST = "trusted_packages=[mine]"
BONUS = ("agent=dqn", "agent._target_=mine.Bonus", TRUST)


def problems(*words: str) -> list[str]:
    with pytest.raises(InvalidConfiguration) as refusal:
        load(words)
    return refusal.value.problems


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_key_that_no_file_has_is_set_with_or_without_a_plus(plus: str) -> None:
    agent = load([*BONUS, f"{plus}agent.bonus=0.5"]).agent
    assert (agent.bonus, agent.n_step, agent._target_) == (0.5, 1, "mine.Bonus")


def test_what_is_left_out_has_its_default() -> None:
    agent = load(BONUS).agent
    assert (agent.bonus, agent.sizes) == (0.1, [8])
    load([*BONUS, "agent.sizes=[1, 2]"])
    assert load(BONUS).agent.sizes == [8]


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("agent.bonus=-1", "agent.bonus: expected a number >= 0, got -1"),
        ("+agent.bonus=high", "agent.bonus: expected a number >= 0, got 'high'"),
        ("agent.sizes=[0]", "agent.sizes[0]: expected an integer >= 1, got 0"),
        ("agent.bonsu=1", "agent.bonsu: unknown key; did you mean agent.bonus?"),
        ("agent.clip_range=1", "agent.clip_range: unknown key; only PPO has it"),
        ("agent.n_step=0", "agent.n_step: expected an integer >= 1, got 0"),
        ("~agent.n_step", "agent.n_step: missing; expected an integer >= 1"),
        ("agent.burn_in=3", "agent.burn_in: expected 0, because memory=none leaves nothing"),
        ("agent.buffer_size=900", "agent.learning_starts: expected at most agent.buffer_size 900"),
        ("share_backbone=true", "share_backbone: expected false, because Bonus has one network"),
    ],
)
def test_keys_and_rules_are_those_of_its_options(word: str, line: str) -> None:
    (problem,) = problems(*BONUS, word)
    assert problem.startswith(line)


def test_a_key_with_a_fault_elsewhere_needs_no_plus_either() -> None:
    (problem,) = problems(*BONUS, "agent.bonus=1", "seed=-1")
    assert problem.startswith("seed: ")


def test_presets_give_way_to_it() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        config = load(["experiment=r2d2", "agent._target_=mine.Bonus", TRUST, "memory=none"])
    assert any("left out agent.burn_in: expected 0" in str(line.message) for line in said)
    assert (config.agent.burn_in, config.agent.bonus) == (0, 0.1)
    load(["agent=dqn", "value_head=c51", "agent._target_=mine.Bonus", TRUST])


def test_an_agent_with_nothing_of_ours(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "plain.yaml").write_text("_target_: mine.Plain\ndiscount: 0.9\n")
    words = [f"hydra.searchpath=[file://{tmp_path}]", "agent=plain", TRUST]
    agent = load(words).agent
    assert agent == {"_target_": "mine.Plain", "discount": 0.9, "rollout_length": 6}
    (problem,) = problems(*words, "memory=gru", "memory.sequence_length=4")
    assert problem.startswith("memory.sequence_length: 4 does not divide agent.rollout_length 6")
    (problem,) = problems(*words, "value_head=c51")
    assert "because agent=plain fits values to returns" in problem
    (problem,) = problems(*words, "agent._target_=mine.Still")
    assert problem.startswith("agent: expected the steps between two updates: rollout_length or")


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("mine.Bare", "agent._target_: mine.Bare needs an attribute Options, a dataclass of"),
        ("mine.Undecorated", "agent._target_: mine.Undecorated needs an attribute Options"),
        ("mine.Nothing", "agent._target_: cannot use mine.Nothing: AttributeError"),
        ("mine.away.Agent", "agent._target_: cannot use mine.away.Agent: ModuleNotFoundError"),
        ("torch.nn.Linear", "agent._target_: torch.nn.Linear needs an attribute Options"),
    ],
)
def test_a_class_without_options_is_refused_in_words(target: str, line: str) -> None:
    (problem,) = problems("agent=dqn", f"agent._target_={target}", TRUST)
    assert problem.startswith(line)


def test_a_class_is_looked_up_where_its_package_is_trusted_alone() -> None:
    assert options_of("mine.Bonus", "agent", ["mine"]) is BonusOptions
    assert options_of("mine.Bonus", "agent") is None
    assert options_of("agents.dqn.DQN", "agent") is DQNOptions
    (problem,) = problems("agent=dqn", "agent._target_=mine.Bonus")
    assert "trusted_packages=[mine]" in problem


def test_a_value_head_that_says_what_it_takes_is_checked() -> None:
    words = ["agent=dqn", "value_head._target_=mine.Median", TRUST]
    assert load(words).value_head.median is True
    (problem,) = problems(*words, "value_head.median=3")
    assert problem == "value_head.median: expected true or false, got 3"
    (problem,) = problems("value_head._target_=mine.Median", TRUST)
    assert problem.endswith("got Median, which is fitted to distributions")
    assert load(["value_head._target_=mine.Bare", "+value_head.any=3", TRUST]).value_head.any == 3


def test_a_value_head_with_keys_of_its_own_has_those_of_its_layers_too() -> None:
    words = ["value_head._target_=mine.OwnHead", TRUST]
    head = load([*words, "value_head.hidden_sizes=[4]"]).value_head
    assert (head.extra, head.hidden_sizes) == (3, [4])
    (problem,) = problems(*words, "~value_head.hidden_sizes")
    assert problem == "value_head.hidden_sizes: missing; expected a list of integers >= 1"


@pytest.mark.parametrize(
    ("part", "base"),
    [
        ("policy_head", "networks.heads.box.BoxHead"),
        ("value_head", "networks.heads.HuberValueHead"),
    ],
)
def test_a_head_with_a_constructor_of_its_own_takes_any_keywords(
    part: str, base: str, mine: types.ModuleType
) -> None:
    module, _, name = base.rpartition(".")
    inherited: Any = getattr(importlib.import_module(module), name)

    class Keywords(inherited):
        def __init__(self, *given: Any, temperature: float) -> None: ...

    class Same(inherited): ...

    mine.Keywords, mine.Same = Keywords, Same  # type: ignore[attr-defined]
    word = f"{part}.temperature=2.0"
    words = [f"{part}._target_=mine.Keywords", f"+{word}", TRUST]
    assert load(words)[part].temperature == 2.0
    found = problems(f"{part}._target_=mine.Same", word, TRUST)
    assert any(problem.startswith(f"{part}.temperature: unknown key") for problem in found)


NOWHERE = ["._target_=nopkg.X", ".key=1"]


@pytest.mark.parametrize("part", ["agent", "value_head"])
def test_a_package_that_cannot_be_imported_is_no_traceback(part: str) -> None:
    (problem,) = problems(*(part + word for word in NOWHERE), "trusted_packages=[nopkg]")
    assert problem.startswith((f"{part}._target_: cannot use nopkg.X", f"{part}.key: does not"))


@pytest.mark.parametrize("part", ["extractor", "optimizer"])
def test_nor_where_it_is_first_imported_when_networks_are_built(part: str) -> None:
    words = [*(part + word for word in NOWHERE), "trusted_packages=[nopkg]"]
    with pytest.raises(ValueError, match=f"^{part}: cannot make nopkg.X: No module named 'nopkg'"):
        neurl.build(*words)


def test_hydra_gets_the_plus_and_a_stored_run_is_checked_alike() -> None:
    assert "++agent.bonus=0.5" in check([*BONUS, "agent.bonus=0.5"])[1]
    assert "++agent.bonus=0.5,0.6" in check(["-m", *BONUS, "agent.bonus=0.5,0.6"])[1]
    stored = OmegaConf.to_container(load(BONUS))
    assert checked(stored)[1] == []  # type: ignore[arg-type]
    stored["agent"]["bonus"] = -1  # type: ignore[call-overload,index]
    assert checked(stored)[1] == ["agent.bonus: expected a number >= 0, got -1"]  # type: ignore[arg-type]
