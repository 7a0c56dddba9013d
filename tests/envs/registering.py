"""Registers what misbehaves, as a package of somebody's would: `env.packages=[...]`."""

from gymnasium import register, registry

for name in ("Misbehaving", "Steady", "Timed"):
    if f"test/{name}-v0" not in registry:
        register(
            f"test/{name}-v0",
            entry_point=f"tests.envs.misbehaving:{name}",
            disable_env_checker=True,
        )
