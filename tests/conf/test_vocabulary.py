"""Words of other libraries lead to ours, in refusals and in the documentation alike."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from conf.compose import InvalidConfiguration, load
from conf.schema import GROUPS
from conf.suggestions import nearest
from conf.vocabulary import CLEANRL, NOTES, STABLE_BASELINES3, VOCABULARY

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
# Keys of agents that are still to come.
LATER = {"agent.polyak_rate"}


def test_words_are_translated_when_they_are_refused() -> None:
    with pytest.raises(InvalidConfiguration) as refusal:
        load(["memory=lstm", *(f"+{word}=1" for word in VOCABULARY)])
    lines = dict(line.split(": unknown key; ") for line in refusal.value.problems)
    assert lines.keys() == VOCABULARY.keys()
    assert [word for word, ours in VOCABULARY.items() if ours not in lines[word]] == []


def test_translations_exist() -> None:
    config = load(["memory=lstm"])
    for ours in set(VOCABULARY.values()) - LATER:
        parent, _, leaf = ours.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        assert leaf in node or ours in GROUPS, ours


def test_notes_are_about_words() -> None:
    assert NOTES.keys() <= VOCABULARY.keys()


def test_document_has_the_same_table() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (SB3|CleanRL|both) \| `([\w.]+)`", DOCUMENT.read_text(), re.M
    )
    expected = {
        (word, _origin(word), ours) for word, ours in {**CLEANRL, **STABLE_BASELINES3}.items()
    }
    assert set(rows) == expected
    assert len(rows) == len(expected)


@pytest.mark.parametrize(
    ("word", "meant"), [("lsmt", "lstm"), ("gur", "gru"), ("LSTM", "lstm"), ("transformer", None)]
)
def test_nearest_word(word: str, meant: str | None) -> None:
    assert nearest(word, ["none", "rnn", "gru", "lstm"]) == meant


def _origin(word: str) -> str:
    if word in STABLE_BASELINES3 and word in CLEANRL:
        return "both"
    return "SB3" if word in STABLE_BASELINES3 else "CleanRL"
