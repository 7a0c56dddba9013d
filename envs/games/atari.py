"""Atari games with the preprocessing of Mnih et al. (2015): greyscale, resized, frame skip.

Importing this module registers every game of ale-py as `Atari/<Game>-v0`, as a single environment
(`AtariGame`) and in ale-py's C++ threads (`envs.games.atari_native`), with equal observations.
"""

from typing import Any

import ale_py  # registers ALE/<Game>-v5
import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.envs.registration import register, registry

from envs.interface import Info, Opening

Frame = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float32]

_FRAMES_PER_SECOND = 60

for _id in [known for known in registry if known.startswith("ALE/")]:
    _ours = f"Atari/{_id.removeprefix('ALE/').removesuffix('-v5')}-v0"
    if _ours not in registry:  # a reload must not warn about overriding
        register(
            id=_ours,
            entry_point=f"{__name__}:AtariGame",
            vector_entry_point=f"{__package__}.atari_native:AtariGames",
            kwargs={"game": registry[_id].kwargs["game"]},
        )


class AtariGame(gymnasium.Env[Frame, np.int64]):
    """One game: grey frames `[size, size]`, raw scores as rewards.

    An action is repeated for some frames. The last two are merged, so that objects that flicker in
    every other frame are visible. An episode starts with FIRE, in games that have it, and a random
    number of no-op frames. All random numbers come from `np_random`, so that an episode can be
    replayed.

    `info["lives"]` is the number of lives left.

    Args:
        game: name of the ROM, as ale-py writes it.
        frame_skip: frames for which an action is repeated.
        sticky_actions: probability, in each frame, that the previous action is repeated.
        max_noops: an episode starts with fewer than this number of no-op frames.
        fire_on_reset: whether FIRE is pressed for one frame, if the game has this action.
        all_actions: all 18 actions, instead of the game's minimal action set.
        size: side of an observation in pixels.
        num_threads: of the native vector version only.

    Source: Mnih et al. (2015), "Human-level control through deep reinforcement learning", methods;
    Machado et al. (2018), arXiv:1709.06009, section 4 (sticky actions).
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(
        self,
        game: str,
        *,
        frame_skip: int,
        sticky_actions: float,
        max_noops: int,
        fire_on_reset: bool,
        all_actions: bool,
        size: int,
        num_threads: int,
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": _FRAMES_PER_SECOND // frame_skip}
        self._emulator = emulator = _switched_on(game)
        actions = emulator.getLegalActionSet if all_actions else emulator.getMinimalActionSet
        self._actions = actions()
        self._frame_skip, self._sticky_actions = frame_skip, sticky_actions
        self._max_noops = max_noops
        self._fires = fire_on_reset and ale_py.Action.FIRE in self._actions
        height, width = emulator.getScreenDims()
        self._rows, self._columns = area_weights(height, size), area_weights(width, size).T.copy()
        self._pressed = ale_py.Action.NOOP
        self.action_space = spaces.Discrete(len(self._actions))
        self.observation_space = spaces.Box(0, 255, (size, size), np.uint8)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Opening:
        """Starts an episode."""
        super().reset(seed=seed)
        emulator = self._emulator
        emulator.reset_game()
        if self._fires:
            emulator.act(ale_py.Action.FIRE)
        idle = int(self.np_random.integers(max(self._max_noops, 1))) - self._fires
        for _ in range(idle):
            emulator.act(ale_py.Action.NOOP)
            if emulator.game_over():
                emulator.reset_game()
        self._pressed = ale_py.Action.NOOP
        return self._shrunk(emulator.getScreenGrayscale()), {"lives": emulator.lives()}

    def step(self, action: np.int64) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        """Repeats the action until the game ends."""
        emulator, wanted = self._emulator, self._actions[action]
        reward, is_over = 0.0, False
        before: Any = None
        frame: Any = None
        for frames_left in range(self._frame_skip, 0, -1):
            if not self._sticky_actions or self.np_random.random() >= self._sticky_actions:
                self._pressed = wanted
            reward += emulator.act(self._pressed)
            is_over = emulator.game_over()
            if frames_left <= 2 or is_over:
                before, frame = frame, emulator.getScreenGrayscale()
            if is_over:
                break
        merged = frame if before is None else np.maximum(before, frame)
        return self._shrunk(merged), reward, is_over, False, {"lives": emulator.lives()}

    def _shrunk(self, frame: Any) -> Frame:
        """Resizes by area interpolation, as ale-py's native version does."""
        grey: Matrix = (self._rows @ (frame.astype(np.float32) @ self._columns)).round()
        return grey.astype(np.uint8)

    def render(self) -> Frame:
        """Returns the screen in colour and original size."""
        screen: Frame = self._emulator.getScreenRGB()
        return screen


def _switched_on(game: str) -> Any:
    """Makes an emulator without randomness of its own, as its state is not saved."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner for every environment
    emulator = ale_py.ALEInterface()
    emulator.setInt("random_seed", 0)
    emulator.setFloat("repeat_action_probability", 0.0)
    rom: Any = ale_py.roms.get_rom_path(game)
    emulator.loadROM(rom)
    return emulator


def area_weights(source: int, target: int) -> Matrix:
    """Returns `[target, source]`: weight of each old pixel in each new one; rows sum to 1.

    Source: OpenCV, `INTER_AREA`.
    """
    edges = np.linspace(0, source, target + 1)
    pixels = np.arange(source)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: Matrix = (overlap.clip(0) * (target / source)).astype(np.float32)
    return weights
