"""What may be pre-trained, from what; all else is refused in one line."""

import pytest

from conf.composing.command_line import InvalidConfiguration, load

FROZEN = "extractor.freeze: an encoder that never learnt would be frozen"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["extractor.pretrain.frames=5"], "extractor.pretrain: unknown key"),
        (["extractor.pretrain.frames=0"], FROZEN),
        (["extractor.pretrain.frames=0", "extractor.freeze=1000"], FROZEN),
        (["extractor.pretrain.frames=-1"], "extractor.pretrain.frames: expected an integer >= 0"),
        (["extractor.pretrain.frames=270"], "extractor.pretrain.frames: 270 frames, of which 243"),
        (["extractor.pretrain.held_out=0"], "extractor.pretrain.held_out: expected a number > 0"),
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


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            [],
            "extractor.pretrain.frames: how many frames to learn from, with extractor=",
        ),
        (["extractor=autoencoder", "source=conf"], "source: of objective=behaviour_cloning"),
        (["objective=behaviour_cloning"], "source: missing; the run whose actions"),
        (["objective=behaviour_cloning", "source=nowhere"], "source: there is no nowhere"),
        (
            ["objective=behaviour_cloning", "source=conf", "cloning.frames=100"],
            "cloning.frames: 100 frames, of which 90",
        ),
        (["objective=behaviour_cloning", "source=conf", "extractor=autoencoder"], FROZEN),
        (["objective=cloning"], "objective: expected reconstruction or behaviour_cloning"),
    ],
)
def test_a_step_of_its_own_is_refused_in_one_line(words: list[str], line: str) -> None:
    with pytest.raises(InvalidConfiguration) as refusal:
        load(words, "pretrain")
    assert any(problem.startswith(line) for problem in refusal.value.problems), refusal.value


def test_a_step_of_its_own_has_every_default_of_training() -> None:
    whole = load(["extractor=autoencoder"])
    alone = load(["extractor=autoencoder"], "pretrain")
    assert {key: alone[key] for key in whole if key != "run_dir"} == {
        key: whole[key] for key in whole if key != "run_dir"
    }
    assert set(alone) - set(whole) == {"objective", "source", "cloning"}
