"""Makes what a configuration names by `_target_`, and says in one line what could not be made."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf


def plain(config: Any) -> Any:
    """Resolve a configuration node into plain Python."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def make(key: str, config: DictConfig | dict[str, Any], *arguments: Any) -> Any:
    """Call `config._target_` with `arguments` and the node's other keys.

    Args:
        key: where the node stands, for the message.

    Raises:
        ValueError: there is no such class, or it does not take the keys, or refused them.
    """
    options = {**plain(config), "_convert_": "all"}
    try:
        return instantiate(options, *arguments)
    except InstantiationException as error:
        cause = error.__cause__ or error
        reason = " ".join(" ".join(str(cause).splitlines()[:2]).split())
        raise ValueError(f"{key}: cannot make {options['_target_']}: {reason}") from error


def make_partial(key: str, config: dict[str, Any]) -> Any:
    """Find `config._target_` and fix its keys, to be called later; errors as `make`."""
    return make(key, {**config, "_partial_": True})


def with_factories(key: str, options: dict[str, Any]) -> dict[str, Any]:
    """Turn what names a class inside of options (a decoder) into something to be called later."""
    return {
        name: make_partial(f"{key}.{name}", value)
        if isinstance(value, dict) and "_target_" in value
        else value
        for name, value in options.items()
    }


def unmirrored(key: str, error: BaseException | None) -> str:
    """Say which decoder to choose where an extractor's layers are not known."""
    return f"{key}: {error}; choose a decoder: decoder@{key}.decoder=dense"
