"""Options dataclasses, and which class of ours each describes."""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import dataclass_transform


@dataclass_transform(kw_only_default=True)
class Options:
    """Base of all options: those of this package are dataclasses without a decorator.

    One of the user's has `@dataclass`, as everywhere.
    """

    def __init_subclass__(cls) -> None:
        """Make a subclass a dataclass."""
        if cls.__module__.startswith(__package__):
            dataclass(kw_only=True)(cls)


class Part(Options):
    """Base of the options of what a configuration names by `_target_`.

    `class AgentOptions(Part, group="agent")` has the keys that all of a group have, a user's own
    included. `class PPOOptions(AgentOptions, of="agents.ppo.PPO")` has those of one of our classes,
    or of several, with spaces between them.
    """

    targets: ClassVar[dict[str, dict[str, type]]] = {}
    """Our classes (and torch's optimizers) by group, and their keys."""
    of_any: ClassVar[dict[str, type]] = {}
    """Keys of every class in a group; a user's may take others too, but not an agent."""
    group: ClassVar[str]

    def __init_subclass__(cls, group: str = "", of: str = "") -> None:
        """Note the group or the classes that a new options dataclass describes."""
        super().__init_subclass__()
        if group:
            cls.group, Part.of_any[group], Part.targets[group] = group, cls, {}
        if of:
            Part.targets[cls.group] |= dict.fromkeys(of.split(), cls)
