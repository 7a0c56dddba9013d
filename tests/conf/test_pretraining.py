"""What may be pre-trained, from what; all else is refused in one line."""

import pytest
from omegaconf import OmegaConf

from conf.checking.pretraining import frames_wanted
from conf.composing.command_line import InvalidConfiguration, load

FROZEN = "extractor.freeze: an encoder that never learnt would be frozen"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["extractor.pretrain.frames=5"], "extractor.pretrain: unknown key"),
        (["extractor.pretrain.frames=0"], FROZEN),
        (["extractor.pretrain.frames=0", "extractor.freeze=1000"], FROZEN),
        (["extractor.pretrain.frames=-1"], "extractor.pretrain.frames: expected an integer >= 0"),
        (["extractor.pretrain.frames=256"], "extractor.pretrain.frames: 256 frames are no more"),
        (["extractor.pretrain.epochs=0"], "extractor.pretrain.epochs: expected an integer >= 1"),
        (["extractor.pretrain.source=nowhere"], "extractor.pretrain.source: there is no nowhere"),
        (["extractor.pretrain.max_epochs=3"], "extractor.pretrain.max_epochs: unknown key"),
        (
            ["extractor@critic.extractor=autoencoder"],
            "critic.extractor.pretrain.frames: expected 0",
        ),
        (
            ["extractor@critic.extractor=autoencoder", "critic.extractor.pretrain.frames=0"],
            "critic.extractor.freeze: an encoder that never learnt would be frozen; set critic",
        ),
        (
            ["extractor=dict", "extractor@extractor.default=autoencoder"],
            "extractor.default.pretrain",
        ),
    ],
)
def test_refused_in_one_line(words: list[str], line: str) -> None:
    is_plain = "unknown key" in line and "max_epochs" not in line
    given = any(word.startswith("extractor=") for word in words)
    with pytest.raises(InvalidConfiguration) as refusal:
        load([*([] if is_plain or given else ["extractor=autoencoder"]), *words])
    assert any(problem.startswith(line) for problem in refusal.value.problems), refusal.value
    assert all("\n" not in problem for problem in refusal.value.problems)


def test_a_class_of_the_user_s_own_is_no_autoencoder() -> None:
    words = ["extractor=flatten", "extractor._target_=mine.Net", "trusted_packages=[mine]"]
    with pytest.raises(InvalidConfiguration, match=r"mine\.Net is no autoencoder's encoder"):
        load([*words, "+extractor.pretrain.frames=100"])


@pytest.mark.parametrize(
    "words",
    [
        ["extractor.pretrain.frames=0", "extractor.freeze=false"],
        ["extractor.weights=conf"],
        ["init_from=conf"],
        ["extractor=vae", "extractor.freeze=20000"],
        ["extractor@critic.extractor=autoencoder", "critic.extractor.weights=conf"],
    ],
)
def test_accepted(words: list[str]) -> None:
    given = any(word.startswith("extractor=") for word in words)
    load([*([] if given else ["extractor=autoencoder"]), *words])


AUTOENCODING = ["agent=autoencoding"]
CLONING = ["agent=cloning", "agent.source=conf"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([*AUTOENCODING, "extractor=mlp"], "extractor: expected autoencoder or vae, for agent="),
        ([*AUTOENCODING, "memory=gru"], "memory: expected none, because Autoencoding trains the"),
        ([*AUTOENCODING, "auxiliary=reconstruction"], "auxiliary: expected none, because Autoenc"),
        ([*AUTOENCODING, "normalize_rewards=true"], "normalize_rewards: expected false, because"),
        ([*AUTOENCODING, "clip_rewards=1"], "clip_rewards: expected null, because Autoencoding"),
        ([*AUTOENCODING, "agent.source=nowhere"], "agent.source: there is no nowhere"),
        ([*AUTOENCODING, "agent.discount=0.9"], "agent.discount: unknown key"),
        ([*AUTOENCODING, "agent.learning_starts=100000"], "agent.learning_starts: expected less"),
        (["agent=cloning"], "agent.source: missing; name the run whose actions are to be learnt"),
        (["agent=cloning", "agent.source=random"], "agent.source: random actions cannot be learnt"),
        ([*CLONING, "share_backbone=true"], "share_backbone: expected false, because Cloning has"),
        ([*CLONING, "memory@critic.memory=gru"], "critic.memory: expected null, because Cloning"),
        ([*CLONING, "critic.observation=full"], "critic.observation: expected same, because"),
        ([*CLONING, "agent.burn_in=4"], "agent.burn_in: expected 0, because memory=none"),
        ([*CLONING, "extractor=autoencoder", "extractor.pretrain.frames=0"], FROZEN),
        ([*CLONING, "policy_head=deterministic"], "policy_head: expected auto, categorical"),
    ],
)
def test_agents_that_pretrain_are_refused_what_they_do_not_need(
    words: list[str], line: str
) -> None:
    with pytest.raises(InvalidConfiguration) as refusal:
        load(words)
    assert any(problem.startswith(line) for problem in refusal.value.problems), refusal.value


def test_an_encoder_is_pretrained_where_it_does_not_pretrain() -> None:
    """It needs no frames of another run, frozen or not; a clone's encoder may have some."""
    for words in (AUTOENCODING, [*AUTOENCODING, "extractor=vae", "extractor.freeze=10"]):
        assert frames_wanted(OmegaConf.to_container(load(words))) is None
    assert frames_wanted(OmegaConf.to_container(load([*CLONING, "extractor=autoencoder"])))
