"""The doctor finds each planted fault, by the check meant for it, and passes what is sound."""

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.doctor.environment import ENVIRONMENT
from analysis.doctor.learning import LEARNING
from analysis.doctor.networks import NETWORKS
from analysis.doctor.patient import Patient, admit, examine
from conf.composing.command_line import load
from doctor import consult
from tests.analysis.doctor import ailments
from tests.doors import MASKED

ROOT = Path(__file__).resolve().parents[3]
HERE = ailments.__name__
SMALL = [
    "env.id=ailing/Sound-v0",
    "env.time_limit=20",
    "agent.rollout_length=16",
    "agent.num_epochs=1",
    "agent.num_minibatches=1",
    f"trusted_packages=[{HERE.partition('.')[0]}]",
]


def patient(*words: str) -> Patient:
    given = {word.partition("=")[0] for word in words}
    base = [word for word in SMALL if word.partition("=")[0] not in given]
    return admit(load([*base, *words], "doctor"))


def found(checks, *words: str) -> dict[str, str]:
    """Problems by check."""
    admitted = patient(*words)
    results = dict(examine(admitted, checks))
    admitted.environments.close()
    return {name: problem for name, problem in results.items() if problem is not None}


def memory(kind: type) -> str:
    return f"memory={{_target_: {HERE}.{kind.__name__}, sequence_length: 0}}"


def extractor(kind: type) -> str:
    return f"extractor={{_target_: {HERE}.{kind.__name__}}}"


@pytest.mark.parametrize(
    ("kind", "check", "words"),
    [
        ("Unseeded", "equal seeds give equal starts", "self.np_random"),
        ("Drifting", "equal seeds give equal episodes", "self.np_random"),
        ("Reusing", "observations stay as they were", "return a copy"),
        ("WrongType", "observations lie in their space", "float64"),
        ("NotFinite", "observations lie in their space", "not finite"),
        ("OutOfBounds", "observations lie in their space", "outside of its space"),
        ("NaNReward", "rewards are finite", "nan"),
        ("OldInterface", "the interface of gymnasium", "check_env"),
    ],
)
def test_a_fault_of_an_environment_is_found(kind, check, words, monkeypatch) -> None:
    admitted = patient()
    # Training refuses some of these itself, before the doctor could be asked.
    faulty = [getattr(ailments, kind)() for _ in range(3)]
    object.__setattr__(admitted, "singles", faulty)
    problems = dict(examine(admitted, ENVIRONMENT))
    assert words in (problems[check] or "")


def test_an_error_is_a_finding_with_its_place() -> None:
    admitted = patient()
    object.__setattr__(admitted, "singles", [ailments.Broken() for _ in range(3)])
    problems = dict(examine(admitted, ENVIRONMENT))
    told = problems["rewards are finite"]
    assert told is not None
    assert "no wheels left" in told
    assert "ailments.py:" in told


@pytest.mark.parametrize(
    ("kind", "check", "words"),
    [
        (ailments.Leaking, "no leak over resets", "earlier episode"),
        (ailments.Late, "no leak over resets", "earlier episode"),
        (ailments.FirstState, "single steps are the sequence", "returned state"),
        (ailments.EarlierState, "single steps are the sequence", ""),
        (ailments.Swapped, "environments stay apart", "swapped"),
        (ailments.Detached, "gradients reach the past", "detached"),
        (ailments.Silent, "gradients reach the past", "detached"),
    ],
)
def test_a_fault_of_a_memory_is_found(kind, check, words) -> None:
    problems = found(NETWORKS, memory(kind))
    assert words in problems[check]


@pytest.mark.parametrize(
    ("kind", "check", "words"),
    [
        (ailments.Mixing, "environments stay apart", "other environments"),
        (ailments.Exploding, "outputs are finite", "not finite"),
    ],
)
def test_a_fault_of_an_extractor_is_found(kind, check, words) -> None:
    assert words in found(NETWORKS, extractor(kind))[check]


@pytest.mark.parametrize(
    ("word", "check", "words"),
    [
        (extractor(ailments.Unlearning), "parts learn", "actor.extractor"),
        (memory(ailments.Counting), "evaluating changes nothing", "calls"),
        (memory(ailments.Unsaved), "saving is exact", "state_dict"),
    ],
)
def test_a_fault_of_learning_is_found(word, check, words) -> None:
    assert words in found(LEARNING, word)[check]


@pytest.mark.parametrize(
    "words",
    [
        [memory(ailments.SoundMemory)],
        ["memory=gru", "normalize_observations=true"],
        ["memory=mlstm", "share_backbone=true"],
        ["memory=gtrxl", "memory.window=8"],
        MASKED,
    ],
    ids=lambda words: words[0].partition(",")[0],
)
def test_what_is_sound_passes(words) -> None:
    assert not found((*ENVIRONMENT, *NETWORKS, *LEARNING), *words)


@pytest.mark.parametrize("agent", ["dqn", "pqn", "a2c", "sac"])
def test_every_family_of_agents_passes(agent) -> None:
    config = load(["env.id=ailing/Sound-v0", f"agent={agent}", "memory=rnn"], "doctor")
    admitted = admit(config)
    assert not [problem for _, problem in examine(admitted, LEARNING) if problem is not None]


def test_one_screen_says_all_is_well(capsys) -> None:
    assert consult(load(SMALL, "doctor"), coloured=False)
    printed = capsys.readouterr().out
    assert "all is well" in printed
    assert "steps/s" in printed
    assert len(printed.splitlines()) < 40


def test_the_command_tells_and_fails() -> None:
    call = [sys.executable, "doctor.py", *SMALL, f"env.packages=[{HERE}]", memory(ailments.Leaking)]
    ended = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "!!  no leak over resets" in ended.stdout
    assert "1 to mend" in ended.stdout
