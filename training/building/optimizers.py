"""Builds the optimizer: its rule, its parameter groups, the losses that train them."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from agents.learning.optimizer import Group, Optimizer, RuleFactory
from agents.learning.parts import Networks, selected
from agents.learning.schedules import schedule
from agents.learning.update_rules import Adam, RMSpropTF, TorchRule
from conf.schema.registry import OptimizerOptions
from training.building.instantiation import find, plain

_RULES: dict[str, Any] = {
    "torch.optim.Adam": partial(Adam, decoupled=False),
    "torch.optim.AdamW": partial(Adam, decoupled=True),
    "agents.learning.update_rules.RMSpropTF": RMSpropTF,
}
"""Optimizers with our own implementation; any other class is used as it is."""


def frozen_until(freeze: bool | int) -> float:
    """Turn `extractor.freeze` into environment steps: false is 0, true is infinity."""
    return (math.inf if freeze else 0.0) if isinstance(freeze, bool) else float(freeze)


def optimizer_factory(config: DictConfig) -> Callable[[Networks, Collection[str]], Optimizer]:
    """Return a function that builds the optimizer of an agent's networks, with delayed parts."""
    options = plain(config.optimizer)
    read_here = {"_target_", "weight_decay", *(field.name for field in fields(OptimizerOptions))}
    own = {key: value for key, value in options.items() if key not in read_here}
    limit = options["max_grad_norm"]
    rate = schedule(options["schedule"], options["learning_rate"], options["final_learning_rate"])
    default = Group(rate, weight_decay=options.get("weight_decay", 0.0), frozen_until=0)
    configured = options["groups"]

    def make_optimizer(networks: Networks, delayed: Collection[str]) -> Optimizer:
        parts = {part: list(module.parameters()) for part, module in networks.parts().items()}
        groups: dict[str, Group] = {}

        def change(part: str, **options: Any) -> None:
            if any(parameter.requires_grad for parameter in parts[part]):
                groups[part] = replace(groups.get(part, default), **options)

        for path in sorted(configured, key=len):  # of two paths for a part, the longer one counts
            meant = selected(networks, f"optimizer.groups.{path}", path)
            # `memory` is valid for the critic's even if the actor has none.
            meant = [part for part in meant if parts[part]] or meant
            groups |= dict.fromkeys(meant, _group(default, configured[path]))
        for name, backbone in networks.backbones.items():
            if 0 < backbone.frozen_until < math.inf:
                change(f"{name}.extractor", frozen_until=int(backbone.frozen_until))
        for part in delayed:
            change(part, is_delayed=True)
        rule = _rule_factory(options["_target_"], own)
        most = math.inf if limit is None else limit
        return Optimizer(parts, rule=rule, default=default, groups=groups, max_grad_norm=most)

    return make_optimizer


def _group(default: Group, options: Mapping[str, Any]) -> Group:
    """A part's own options; its learning rate follows the optimizer's schedule."""
    rate = base = default.learning_rate
    if (own := options.get("learning_rate")) is not None:
        share = own / base(0.0)
        rate = lambda progress: base(progress) * share  # noqa: E731
    decay = options.get("weight_decay", default.weight_decay)
    return replace(default, learning_rate=rate, weight_decay=decay)


def _rule_factory(target: str, options: Mapping[str, Any]) -> RuleFactory:
    written_out = _RULES.get(target)
    if written_out is not None:
        return lambda parameters, decay: written_out(parameters, weight_decay=decay, **options)

    found = find("optimizer", target, torch.optim.Optimizer)

    def make_rule(parameters: Tensor, decay: float) -> TorchRule:
        try:
            return TorchRule(parameters, factory=partial(found, **options), weight_decay=decay)
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).splitlines()[0].split())
            raise ValueError(
                f"optimizer: cannot make {target}: {reason}; keys that it does not take are "
                f"removed with a tilde: {' '.join(f'~optimizer.{key}' for key in options)}"
            ) from error

    return make_rule
