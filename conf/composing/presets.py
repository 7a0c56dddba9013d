"""Lets a preset give way to what is typed beside it: `experiment=minatar_breakout extractor=mlp`.

A preset's values are of the options that it chooses. Where another option is typed, a value stays
if both options have its key with the same default, as it means the same there; others are left
out. So is a value that may not stand beside what is typed, and numbers of sequences and steps that
nobody typed are lowered to what fits. The words that say so are added to those typed.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conf.checking.rules import DIVIDES_NOT, fitting
from conf.composing.composer import Composer
from conf.composing.resumption import lies_under

_PRESET = "experiment"
_ABSENT = object()
_ROUNDS = 8  # what gives way may lead to something else that has to
Inspect = Callable[[Sequence[str]], tuple[dict[str, Any], list[str]]]


@dataclass
class Settled:
    """What is run.

    Attributes:
        words: those typed, and those added that let a preset give way.
        notices: a line for each reason why something gave way.
    """

    words: list[str]
    typed: dict[str, Any]
    problems: list[str]
    notices: list[str]


def settled(composer: Composer, overrides: Sequence[str], inspect: Inspect) -> Settled:
    """Compose one run; its preset and its defaults give way to what is typed.

    Args:
        inspect: composes and checks words; returns the configuration, and what is wrong with it.
    """
    preset = _Preset(composer, overrides, inspect)
    run = asked = preset.run()
    for _ in range(_ROUNDS):
        if not (run.problems and preset.concede(run)):
            break
        run = preset.run()
    return asked if run.problems else run  # what is refused is told of the values asked for


class _Preset:
    """A preset, what is typed beside it, and what gave way so far: words with their notices."""

    def __init__(self, composer: Composer, overrides: Sequence[str], inspect: Inspect) -> None:
        self.composer, self.overrides, self.inspect = composer, list(overrides), inspect
        self.typed, self.typed_options, self.hydra = composer.typed(overrides)
        name = composer.options(overrides).get(_PRESET)
        self.name = f"{_PRESET}={name}" if isinstance(name, str) else None
        self.options: dict[str, str] = {}
        self.values: dict[str, tuple[str, str]] = {}  # by key

    def run(self) -> Settled:
        """Compose and check what is typed with what gave way."""
        chosen = [*self.overrides, *self.options]
        values = self._swapped(chosen) | self.values
        words = [*chosen, *(word for word, _ in values.values())]
        notices = [*self.options.values(), *(notice for _, notice in values.values())]
        return Settled(words, *self.inspect(words), list(dict.fromkeys(notices)))

    def concede(self, run: Settled) -> bool:
        """Let what is wrong give way to what is typed; tell whether anything did."""
        before = dict(self.options), dict(self.values)
        alone = self.inspect([*self.hydra, self.name] if self.name else self.hydra)[1]
        own = {_parts(line)[0] for line in alone}  # wrong whatever is typed
        for key, reason in map(_parts, run.problems):
            if key not in own and not self._is_typed(key):
                self._give_way(key, reason, run)
        return before != (self.options, self.values)

    def _give_way(self, key: str, reason: str, run: Settled) -> None:
        notice = f"{self.name}: left out {key}: {reason}"
        now, usual = self.composer.options(run.words), self.composer.options(self.hydra)
        if DIVIDES_NOT in reason:
            number, why = fitting(run.typed)[key], reason.partition("; choose")[0]
            self.values[key] = (f"{key}={number}", f"{key}={number}, as {why}")
        elif key in now:
            option = usual.get(key, [])  # [] of groups of which several may be chosen
            if key not in self.typed_options and now[key] != option:
                self.options[written(key, option)] = notice
        else:
            place = max((p for p in map(_place, now) if lies_under(key, [p])), key=len, default="")
            default = _at(self._plain(place, now), key)
            if _at(self.composer.chosen(run.words), key) not in (_ABSENT, default):
                self.values[key] = (written(key, default), notice)

    def _swapped(self, words: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Leave out what the preset says of options that another one is chosen in place of."""
        if self.name is None:
            return {}
        now, before = self.composer.options(words), self.composer.options([*self.hydra, self.name])
        config = self.composer.chosen(words)
        found: dict[str, tuple[str, str]] = {}
        for group in (group for group, option in now.items() if isinstance(option, str)):
            if group == _PRESET or now[group] == before.get(group, now[group]):
                continue
            place = _place(group)
            own, old = self._plain(place, now), self._plain(place, before)
            keys = {}
            for key in (f"{place}.{name}" for name in _at(config, place)):
                value = _at(own, key)
                means_the_same = value is not _ABSENT and value == _at(old, key)
                if value != _at(config, key) and not means_the_same and not self._is_typed(key):
                    keys[key] = written(key, value)
            notice = (
                f"{self.name}: left out {', '.join(keys)}, made for "
                f"{written(group, before[group])}, as {group}={now[group]} is chosen"
            )
            found |= {key: (word, notice) for key, word in keys.items()}
        return found

    def _plain(self, place: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Compose the options for a place, and for what it is in, without the preset."""
        around = {g: option for g, option in options.items() if lies_under(place, [_place(g)])}
        words = [written(g, option) for g, option in around.items() if option is not None]
        return self.composer.chosen([*self.hydra, *words])

    def _is_typed(self, key: str) -> bool:
        return lies_under(key, self.typed) or any(lies_under(each, [key]) for each in self.typed)


def _parts(problem: str) -> tuple[str, str]:
    """Split a problem into the key that it is about and what is said."""
    where, _, reason = problem.partition(": ")
    return where.partition("[")[0], reason


def _place(group: str) -> str:
    """Say where the options of a group stand: `extractor@critic.extractor`."""
    return group.rpartition("@")[2]


def _at(node: Any, key: str) -> Any:
    for name in key.split("."):
        node = node.get(name, _ABSENT) if isinstance(node, dict) else _ABSENT
    return node


def written(key: str, value: Any) -> str:
    """Write the word that sets a key, or that removes it."""
    return f"~{key}" if value is _ABSENT else f"{key}={_written(value)}"


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{','.join(f'{name}:{_written(item)}' for name, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if not isinstance(value, str):
        return json.dumps(value)
    is_plain = re.fullmatch(r"(?!(null|true|false|nan|inf)$)[a-z_]\w*|\$\{.*\}", value, re.I)
    # Hydra reads a backslash as one, except before a quote.
    return value if is_plain else "'" + re.sub(r"(\\*)('|$)", _escaped, value) + "'"


def _escaped(found: re.Match[str]) -> str:
    slashes, quote = found.groups()
    return slashes * 2 + ("\\'" if quote else "")
