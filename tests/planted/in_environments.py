"""Faults in what hides observations, and in tasks that need a memory: other things are hidden."""

from tests.planted.fault import plant

FAULTS = [
    *plant(
        "envs/wrappers/pomdp.py",
        "envs/test_pomdp.py",
        (
            "CartPole's positions are taken for its velocities",
            '"CartPole": ((1, 3), (4,)),',
            '"CartPole": ((0, 2), (4,)),',
        ),
        (
            "forces tell what velocities were hidden for",
            'velocities + forces if keep == "positions"',
            'velocities if keep == "positions"',
        ),
        (
            "a mask blanks the dimension beside",
            "np.isin(np.arange(shape[-1]), dimensions)",
            "np.isin(np.arange(shape[-1]) + 1, dimensions)",
        ),
        (
            "the twin shows what the mask leaves",
            "return copy.deepcopy(self._full)",
            "return self._shown(self._full)",
        ),
        (
            "all wrappers draw the same numbers",
            "else [self._seed, name]",
            "else [self._seed, 0 * name]",
            "envs/test_sensors.py",
        ),
        (
            "a window opens where the last episode ended",
            "self._center = height // 2, width // 2",
            'self._center = getattr(self, "_center", (height // 2, width // 2))',
        ),
    ),
    *plant(
        "envs/wrappers/sensors.py",
        "envs/test_sensors.py",
        (
            "flicker draws from the environment's generator",
            "if self._random.random() >= self._probability:",
            "if self.np_random.random() >= self._probability:",
        ),
        (
            "flicker shows the first observation for ever",
            "self._last = shown",
            "self._last = self._last",
        ),
        (
            "a delay shows the episode before",
            "self._past: deque[Any] = deque(maxlen=self._steps + 1)",
            'self._past = getattr(self, "_past", deque(maxlen=self._steps + 1))',
        ),
        (
            "an action sticks over a reset",
            "self._last: Any = None",
            'self._last: Any = getattr(self, "_last", None)',
        ),
        (
            "an action sticks in the environment's rhythm",
            "is_stuck = self._random.random() < self._probability",
            "is_stuck = self.np_random.random() < self._probability",
        ),
    ),
    *plant(
        "envs/tasks/vector.py",
        "envs/test_memory_tasks.py",
        (
            "the step that resets pays",
            "rewards[was_reset] = 0.0",
            "rewards[was_reset] += 0.0",
        ),
    ),
    *plant(
        "envs/tasks/mazes.py",
        "envs/test_memory_tasks.py",
        (
            "the T-maze without a memory is worth what always walking is",
            "Optima(4 * arrival, 4 * arrival, 2 * arrival,",
            "Optima(4 * arrival, 4 * arrival, 1.95 * arrival,",
        ),
        (
            "the hallway goes on to show the goal",
            "np.where(self._place == 0, self._goal,",
            "np.where(self._place <= 1, self._goal,",
        ),
        (
            "the oracle speaks at every visit",
            "self._is_told |= is_visit",
            "self._is_told |= False",
        ),
        (
            "half of the keys are brought by chance",
            "Optima(1.0, 1.0, 0.25**distance)",
            "Optima(1.0, 1.0, 0.5**distance)",
        ),
    ),
    *plant(
        "envs/tasks/recall.py",
        "envs/test_memory_tasks.py",
        (
            "a symbol is asked for a step later",
            "[step - span + 1 for step in range(length)]",
            "[step - span for step in range(length)]",
        ),
        ("a guess is worth nothing", "Optima(1.0, 1.0, 2 / symbols - 1)", "Optima(1.0, 1.0, 0.0)"),
        (
            "the best arm pays while arms are tried",
            "is_best & (self._ages > self._arms)",
            "is_best & (self._ages > 1)",
        ),
    ),
    *plant(
        "envs/tasks/classical.py",
        "envs/test_memory_tasks.py",
        ("a sampled rock stays good", "self._is_good &= ~is_sampled", "self._is_good &= True"),
        (
            "checks from afar are as right as others",
            "2 ** (-distance / _HALF_DISTANCE)",
            "2 ** (-0.0 * distance)",
        ),
        (
            "a hit is told as often as one shoots there",
            "self._is_ship[shot] & ~self._is_shot[shot]",
            "self._is_ship[shot]",
        ),
    ),
]
