"""Words of other libraries lead to ours, in refusals and in the documentation alike."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from conf.checking.suggestions import VOCABULARY, nearest
from conf.composing.command_line import InvalidConfiguration, load
from conf.schema.run import GROUPS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
# Together they have every key that a word stands for.
CHOSEN = (
    ["memory=lstm"],
    ["agent=dqn", "value_head=c51"],
    ["agent=dqn", "value_head=quantile"],
    ["agent=pqn"],
)


def test_words_are_translated_when_they_are_refused() -> None:
    with pytest.raises(InvalidConfiguration) as refusal:
        load(["memory=lstm", *(f"+{word}=1" for word in VOCABULARY)])
    lines = dict(line.split(": unknown key; ") for line in refusal.value.problems)
    assert lines.keys() == VOCABULARY.keys()
    assert [word for word, our in VOCABULARY.items() if our.ours not in lines[word]] == []


def test_translations_exist() -> None:
    configs = [load(words) for words in CHOSEN]
    meanings = {key for word in VOCABULARY.values() for key in (word.ours, word.of_replay) if key}
    for ours in meanings:
        parent, _, leaf = ours.rpartition(".")
        nodes = [OmegaConf.select(config, parent) if parent else config for config in configs]
        assert ours in GROUPS or any(leaf in node for node in nodes), ours


@pytest.mark.parametrize(
    ("word", "ours", "theirs"),
    [
        ("batch_size", "agent.num_minibatches (batch_size =", "agent.batch_size"),
        ("n_steps", "agent.rollout_length", "agent.n_step"),
        ("agent.batch_size", "agent.num_minibatches", None),
        ("agent.n_steps", "agent.rollout_length", "agent.n_step"),
        ("agent.tau", "agent.polyak_rate (1 copies), which nothing", "agent.polyak_rate"),
        ("agent.target_network_frequency", "target_update_interval, which", "target_update_int"),
        ("agent.learning_rate", "optimizer.learning_rate", "optimizer.learning_rate"),
        ("agent.train_freq", "agent.train_frequency (steps", "agent.train_frequency"),
    ],
)
def test_a_word_may_mean_another_key_where_there_is_a_replay(
    word: str, ours: str, theirs: str | None
) -> None:
    for agent, meant in (("ppo", ours), ("dqn", theirs)):
        if meant is not None:
            with pytest.raises(InvalidConfiguration, match="unknown key") as refusal:
                load([f"agent={agent}", f"+{word}=1"])
            assert meant in str(refusal.value)


def test_words_of_a_replay_have_another_meaning_too() -> None:
    of_replay = {word: ours for word, ours in VOCABULARY.items() if ours.of_replay}
    assert of_replay.keys() == {"batch_size", "n_steps"}
    assert [word for word, ours in of_replay.items() if ours.of_replay not in ours.note] == []


def test_document_has_the_same_table() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (SB3|CleanRL|both) \| `([\w.]+)`", DOCUMENT.read_text(), re.M
    )
    named = {
        word: ("SB3" * (word in ours.sb3.split()) + "CleanRL" * (word in ours.cleanrl.split()))
        for word, ours in VOCABULARY.items()
    }
    expected = {
        (word, "both" if origin == "SB3CleanRL" else origin, VOCABULARY[word].ours)
        for word, origin in named.items()
        if origin
    }
    assert set(rows) == expected
    assert len(rows) == len(expected)


@pytest.mark.parametrize(
    ("word", "meant"), [("lsmt", "lstm"), ("gur", "gru"), ("LSTM", "lstm"), ("transformer", None)]
)
def test_nearest_word(word: str, meant: str | None) -> None:
    assert nearest(word, ["none", "rnn", "gru", "lstm"]) == meant
