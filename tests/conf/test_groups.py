"""Every YAML file composes, validates, and says what each of its values means."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from conf.composing.command_line import load
from conf.schema.registry import OTHER_TARGETS, TARGETS
from conf.schema.run import GROUPS, OF_RUNS
from conf.schema.scripts import ROOTS

CONF = Path(__file__).resolve().parents[2] / "conf"
FILES = sorted(CONF.rglob("*.yaml"))
OPTIONS = [(file.parent.name, file.stem) for file in FILES if file.parent.name in OF_RUNS]


def test_groups_are_the_folders_of_conf() -> None:
    folders = {path.parent.name for path in CONF.glob("*/*.yaml")}
    assert folders == set(GROUPS)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_composes_and_validates(group: str, option: str) -> None:
    needs = {
        "agent/cloning": ["agent.source=conf"],
        "env/gymnasium": ["env.id=Acrobot-v1"],
        "value_head/c51": ["agent=dqn"],
        "value_head/quantile": ["agent=dqn"],
        "auxiliary/lambda_discrepancy": ["memory=gru", "share_backbone=true"],
    }
    if (group, option) == ("policy_head", "deterministic"):
        pytest.skip("no agent takes it yet: tests/conf/test_refusals.py")
    # Decoders are chosen for a place: an autoencoder's, an auxiliary loss's.
    place = "extractor=autoencoder decoder@extractor.decoder" if group == "decoder" else group
    config = load([*f"{place}={option}".split(), *needs.get(f"{group}/{option}", [])])
    assert OmegaConf.is_readonly(config)
    assert config.agent._target_ in TARGETS["agent"]


def unlearnt(place: str, name: str) -> list[str]:
    """Words without which an encoder is pre-trained: only `extractor` itself can be."""
    if name not in ("autoencoder", "vae"):
        return []
    return [f"{place}.pretrain.frames=0", f"{place}.freeze=false"]


@pytest.mark.parametrize("group", ["extractor", "memory"])
def test_critic_takes_every_option_of_its_own(group: str) -> None:
    for name in (option for its_group, option in OPTIONS if its_group == group):
        place = f"critic.{group}"
        config = load([f"{group}@{place}={name}", *unlearnt(place, name)])
        assert config.critic[group]._target_.startswith("networks.")


def test_each_known_class_of_ours_has_an_option() -> None:
    offered = {
        value["_target_"]
        for file in FILES
        for value in _mappings(OmegaConf.to_container(OmegaConf.load(file), resolve=False))
        if "_target_" in value
    }
    # Wrappers are written out where they are used: they have no folder.
    known = {
        target for group, targets in TARGETS.items() for target in targets if group != "wrapper"
    }
    assert offered == known
    assert TARGETS.keys() - GROUPS == {"wrapper", "tracker"}


def test_each_part_takes_every_extractor() -> None:
    for name in (option for group, option in OPTIONS if group == "extractor" and option != "dict"):
        config = load(
            [
                "extractor=dict",
                f"extractor@extractor.default={name}",
                f"+extractor@extractor.keys.goal.position={name}",
                *unlearnt("extractor.default", name),
                *unlearnt("extractor.keys.goal.position", name),
            ]
        )
        plain = load([f"extractor={name}", *unlearnt("extractor", name)]).extractor
        assert config.extractor.default == config.extractor["keys"].goal.position == plain


def test_part_by_part_extractors_are_typed_at_every_depth() -> None:
    words = ["extractor=dict", "+extractor@extractor.keys.a.b.c=mlp", "extractor.keys.a.b.c.gain=1"]
    gain = load(words).extractor["keys"].a.b.c.gain
    assert (gain, type(gain)) == (1.0, float)


def test_other_targets_name_groups() -> None:
    assert OTHER_TARGETS.keys() <= TARGETS.keys()


# Tasks, experiments and studies are deltas only: what they mean stands where the default does.
DEFAULTS = [file for file in FILES if file.parent.name not in ("task", "experiment", "study")]


@pytest.mark.parametrize("file", DEFAULTS, ids=lambda file: str(file.relative_to(CONF)))
def test_every_value_has_a_comment(file: Path) -> None:
    text = re.split(r"\nhydra:", file.read_text())[0]
    text = re.sub(r"\ndefaults:\n(  - .*\n)+", "\n", text)
    leaves = [line for line in text.splitlines() if re.match(r"\s*[a-z]\w*: \S", line)]
    assert leaves or file.stem in ("flatten", "doctor")
    bare = [line for line in leaves if " # " not in line and not line.startswith("defaults:")]
    if file.parent.name == "env" and file.stem != "gymnasium":
        bare = [line for line in bare if not line.startswith("id:")]
    assert bare == []


def test_defaults_have_their_contract() -> None:
    config = load([])
    assert (config.env.id, config.total_env_steps, config.seed) == ("CartPole-v1", 100_000, 0)
    assert isinstance(config.total_env_steps, int)
    assert config.agent._target_ == "agents.ppo.PPO"
    assert config.critic == {"observation": "same", "extractor": None, "memory": None}
    assert config.pomdp == {}
    assert config.memory == {"_target_": "networks.memory.NoMemory", "sequence_length": 1}


@pytest.mark.filterwarnings("ignore:experiment=.*left out memory.sequence_length:UserWarning")
@pytest.mark.parametrize(
    "experiment", ["cartpole_no_velocity", "cartpole_no_velocity_200", "repeat_previous"]
)
def test_experiment_can_be_run_without_its_memory(experiment: str) -> None:
    given, control = (
        load([f"experiment={experiment}"]),
        load([f"experiment={experiment}", "memory=none"]),
    )
    assert control.memory._target_ == "networks.memory.NoMemory"
    assert (control.pomdp, control.agent) == (given.pomdp, given.agent)
    assert bool(given.pomdp) == experiment.startswith("cartpole")


def _mappings(node: object) -> list[dict[Any, Any]]:
    if not isinstance(node, dict):
        return []
    return [node, *(found for value in node.values() for found in _mappings(value))]


@pytest.mark.parametrize("name", ROOTS)
def test_a_command_chooses_from_the_groups_that_its_file_lists(name: str) -> None:
    def listed(name: str) -> Iterator[str]:
        for entry in yaml.safe_load((CONF / f"{name}.yaml").read_text())["defaults"]:
            if isinstance(entry, dict):
                (group,) = entry
                if "@" not in group and not group.startswith("override "):
                    yield group
            elif entry != "_self_":
                yield from listed(entry)

    assert {*listed(name)} == {*ROOTS[name].groups}
