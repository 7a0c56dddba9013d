"""Adjusts presets to the user's overrides: `experiment=minatar_breakout extractor=mlp`.

A preset's values belong to the options that it chooses. If the user chooses another option, a value
stays if both options have its key with the same default, because it means the same there. Others
are left out, and so is a value that conflicts with the user's overrides. A number of steps,
sequences or minibatches that the user did not set becomes the nearest that fits. These changes are
overrides, added to the user's. A task is a preset too; an experiment takes precedence over it.
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from conf.checking.refusals import InvalidConfiguration
from conf.composing.composer import Composer
from conf.composing.resumption import leaves, lies_under
from conf.schema.run import GROUPS, PRESETS
from conf.schema.types import ABSENT, Config, Misfit, at

_OF_A_TASK = ("env.id", "env.kwargs", "env.time_limit", "env.wrappers", "pomdp")
"""Keys whose values make it another task than the chosen one."""
_ROUNDS = 8  # one change may require another


@dataclass
class Settled:
    """A composed and checked run.

    Attributes:
        words: the user's overrides, and those that adjust a preset, as Hydra takes them.
        notices: a line for each adjustment.
    """

    words: list[str]
    typed: Config
    problems: list[str]
    notices: list[str] = field(default_factory=list)

    def sound(self) -> "Settled":
        """Warn of every value that was adjusted, and return the run.

        Raises:
            InvalidConfiguration: with all its problems.
        """
        if self.problems:
            raise InvalidConfiguration(self.problems)
        for notice in self.notices:
            warnings.warn(notice, stacklevel=3)
        return self


Inspect = Callable[[Sequence[str]], Settled]
"""Composes and checks overrides as they are."""


def settled(composer: Composer, overrides: Sequence[str], inspect: Inspect) -> Settled:
    """Compose one run; the user's overrides take precedence over presets and defaults."""
    presets = _Presets(composer, overrides, inspect)
    run = asked = presets.run()
    for _ in range(_ROUNDS):
        if not (run.problems and presets.concede(run)):
            break
        run = presets.run()
    return asked if run.problems else run  # problems are reported for the requested values


class _Presets:
    """Presets, the user's overrides, and the adjustments so far with their notices."""

    def __init__(self, composer: Composer, overrides: Sequence[str], inspect: Inspect) -> None:
        self.composer, self.overrides, self.inspect = composer, list(overrides), inspect
        parsed = composer.parse(overrides)
        self.typed = {o.key_or_group for o in composer.choose(parsed).values}
        self.typed_options = {o.get_key_element().lstrip("+~") for o in parsed} - self.typed
        self.hydra = [o.input_line or "" for o in parsed if o.is_hydra_override()]
        chosen = composer.options(overrides)
        named = {group: chosen.get(group) for group in PRESETS}
        self.names = {g: f"{g}={option}" for g, option in named.items() if isinstance(option, str)}
        self.given: dict[str, tuple[str, str]] = {}  # by key

    def run(self) -> Settled:
        """Compose and check the user's overrides with the adjustments."""
        words = [*self.overrides, *(word for word, _ in self.given.values())]
        given = self._swapped(words) | self.given
        words = [*self.overrides, *(word for word, _ in given.values())]
        notices = list(dict.fromkeys(notice for _, notice in given.values() if notice))
        return replace(self.inspect(words), notices=notices)

    def concede(self, run: Settled) -> bool:
        """Adjust what has problems; tell whether anything changed."""
        before = dict(self.given)
        alone = [[*self.hydra, name] for name in self.names.values()] or [self.hydra]
        # These are invalid anyway.
        own = {_key(line) for words in alone for line in self.inspect(words).problems}
        for problem in run.problems:
            if _key(problem) not in own and not self._is_typed(_key(problem)):
                self._give_way(_key(problem), problem, run)
        return before != self.given

    def _give_way(self, key: str, problem: str, run: Settled) -> None:
        """Set a number to the nearest that fits, or leave out an experiment's value."""
        now, reason = self.composer.options(run.words), problem.partition(": ")[2]
        if isinstance(problem, Misfit):
            word = f"{key}={problem.fit}"
            self.given[key] = (word, f"{word}, as {reason.partition('; choose')[0]}")
            return
        if key in now:  # [] for groups that allow several options
            usual = self.composer.options([*self.hydra, *_task(now)])
            value, default = now[key], usual.get(key, [])
        else:
            place = max((p for p in map(_place, now) if lies_under(key, [p])), key=len, default="")
            default = at(self._plain(place, now, _task(now)), key)
            value = at(self.composer.chosen(run.words), key)
        if value not in (ABSENT, default) and key not in self.typed_options:
            experiment = self.names.get("experiment")  # else an agent's, which is no choice
            notice = f"{experiment}: left out {key}: {reason}" if experiment else ""
            self.given[key] = (written(key, default), notice)

    def _swapped(self, words: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Leave out presets' values for options that the user replaced."""
        now = self.composer.options(words)
        found: dict[str, tuple[str, str]] = {}
        for preset, name in self.names.items():
            before = self.composer.options([*self.hydra, name])
            swapped = [group for group in before if now.get(group) != before[group]]
            if preset == "task":
                swapped = [g for g in ("env", "pomdp") if g in swapped and g in self.typed_options]
                found |= self._untitled(swapped)
            for group in swapped:
                if isinstance(now.get(group), str):
                    found |= self._made_for(preset, group, words, before)
        return found

    def _made_for(
        self, preset: str, group: str, words: Sequence[str], before: Mapping[str, Any]
    ) -> dict[str, tuple[str, str]]:
        """Leave out a preset's values for an option that the user replaced."""
        now, config = self.composer.options(words), self.composer.chosen(words)
        place, is_experiment = "" if group == "task" else _place(group), preset == "experiment"
        own, old = (self._plain(place, o, _task(o) if is_experiment else []) for o in (now, before))
        keys = [f"{place}.{name}" for name in at(config, place)] if place else dict(leaves(own))
        out = {}
        for key in keys:
            value = at(own, key)
            means_the_same = value is not ABSENT and value == at(old, key)
            is_kept = value == at(config, key) or means_the_same or self._is_typed(key)
            if not is_kept and not lies_under(key, ["hydra"]):
                out[key] = written(key, value)
        made_for = f"{written(group, before[group])}, as {group}={now[group]} is chosen"
        notice = f"{self.names[preset]}: left out {', '.join(out)}, made for {made_for}"
        return {key: (word, notice) for key, word in out.items()}

    def _untitled(self, swapped: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Silently leave out a task's name and threshold if the overrides make it another task."""
        is_another = swapped or any(lies_under(key, _OF_A_TASK) for key in self.typed)
        keys = [key for key in ("task.name", "task.solved_at") if not self._is_typed(key)]
        return {key: (f"{key}=null", "") for key in keys if is_another}

    def _plain(self, place: str, options: Mapping[str, Any], task: Sequence[str]) -> Config:
        """Compose the options for a place, for its parents, with only a task and the agent."""
        base = [*self.hydra, *task]
        usual = self.composer.options(base)
        own = {g: o for g, o in options.items() if o is not None and lies_under(place, [_place(g)])}
        agent = options.get("agent")
        if place and isinstance(agent, str) and agent != usual.get("agent"):
            # It brings values for the options that it chooses.
            brought = self.composer.options([*base, f"agent={agent}"])
            if all(brought.get(group) == option for group, option in own.items()):
                base, usual = [*base, f"agent={agent}"], brought
        own = {group: option for group, option in own.items() if usual.get(group) != option}
        first = [written(group, option) for group, option in own.items() if group in usual]
        known = {*GROUPS, *self.composer.options([*base, *first])}
        words = ["+" * (group not in known) + written(group, own[group]) for group in own]
        return self.composer.chosen([*base, *words])

    def _is_typed(self, key: str) -> bool:
        return lies_under(key, self.typed) or any(lies_under(each, [key]) for each in self.typed)


def _key(problem: str) -> str:
    """Return the key of a problem."""
    return problem.partition(": ")[0].partition("[")[0]


def _task(options: Mapping[str, Any]) -> list[str]:
    """Return the override that chooses the same task."""
    return [f"task={options['task']}"] if isinstance(options.get("task"), str) else []


def _place(group: str) -> str:
    """Return the place of a group's options: `extractor@critic.extractor`."""
    return group.rpartition("@")[2]


def written(key: str, value: Any) -> str:
    """Return the override that sets a key, or removes it."""
    return f"~{key}" if value is ABSENT else f"{key}={_written(value)}"


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{','.join(f'{name}:{_written(item)}' for name, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_written, value))}]"
    if not isinstance(value, str):
        return json.dumps(getattr(value, "tolist", lambda: value)(), default=str)  # numpy's too
    is_plain = re.fullmatch(r"(?!(null|true|false|nan|inf)$)[a-z_]\w*", value, re.IGNORECASE)
    return value if is_plain else QuotedString(value, Quote.single).with_quotes()
