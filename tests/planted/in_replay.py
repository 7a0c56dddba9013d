"""Faults in replay: what is kept, what is drawn, what is rebuilt."""

from tests.planted.fault import plant

FAULTS = [
    *plant(
        "agents/replay/samplers.py",
        "agents/test_replay_priorities.py",
        (
            "importance weights fall where they should rise",
            "(leaves.min() / leaves) ** importance_exponent",
            "(leaves / leaves.max()) ** importance_exponent",
        ),
        (
            "prioritised batches are not stratified",
            "(np.arange(count) + generator.random(count)) / count",
            "generator.random(count)",
        ),
        (
            "the largest priority is the latest batch's",
            "self._largest = max(self._largest, float(priorities.max()))",
            "self._largest = float(priorities.max())",
        ),
        (
            "windows that were overwritten take priorities",
            "is_known = (numbers >= self.first) &",
            "is_known = (numbers >= 0) &",
        ),
        (
            "priorities that are not finite are taken",
            "is_known &= np.isfinite(priorities)",
            "is_known &= True",
        ),
        (
            "a priority of nothing is never drawn again",
            "(priorities + _EPSILON) ** self._exponent",
            "priorities**self._exponent",
        ),
        (
            "the newest window is never drawn",
            "numbers = generator.integers(self.first, self.end, size=count)",
            "numbers = generator.integers(self.first, self.end - 1, size=count)",
        ),
        (
            "slots are taken for numbers of windows",
            "numbers = self.first + (slots - self.first) % self._capacity",
            "numbers = slots",
        ),
        (
            "priorities are lost where a run goes on",
            "self._tree.fill(slots, leaves[taken])",
            "leaves[taken]",
            "agents/test_replay_chunks.py",
        ),
    ),
    *plant(
        "agents/replay/samplers.py",
        "agents/test_sum_tree.py",
        (
            "the sum tree forgets what a leaf itself holds",
            "rest -= sums.take(places) - found",
            "rest -= sums.take(places)",
        ),
        (
            "leaves of nothing are found",
            "(sums > rest[:, None])",
            "(sums >= rest[:, None])",
        ),
        (
            "the last sum of a stretch stays old",
            "above[first : last + 1] = level[first : last + 1]",
            "above[first:last] = level[first:last]",
        ),
        (
            "rounding leads to empty leaves",
            "np.minimum(rest, np.nextafter(sums[:, -1], 0.0), out=rest)",
            "np.minimum(rest, np.inf, out=rest)",
        ),
    ),
    *plant(
        "agents/replay/replay.py",
        "agents/test_replay.py",
        (
            "the newest whole window is left out",
            "(self.cursor - self._window_length) // stride + 1)",
            "(self.cursor - self._window_length) // stride)",
        ),
        (
            "the oldest window reaches into what was overwritten",
            "max(self._origin, self.cursor - self._capacity)",
            "max(self._origin, self.cursor - self._capacity - 1)",
        ),
        (
            "windows go from environment to environment",
            "(np.arange(window_length + 1) * num_envs)[:, None]",
            "np.arange(window_length + 1)[:, None]",
        ),
        (
            "windows on a stride begin one step late",
            "starts = numbers + numbers // num_envs * ((stride - 1) * num_envs)",
            "starts = numbers + numbers // num_envs * ((stride - 1) * num_envs) + num_envs",
        ),
        (
            "priorities on a stride go to other windows",
            "steps // self._stride * self._num_envs + environments",
            "steps * self._num_envs + environments",
            "agents/test_replay_priorities.py",
        ),
        (
            "windows that only reset are drawn",
            "* stride + self._valid_step + 1",
            "* stride + self._valid_step",
        ),
        (
            "windows of another environment are drawn no more after a cut",
            "self._sampler.retract(number * self._num_envs + environments)",
            "self._sampler.retract(number * self._num_envs + 0 * environments)",
            "agents/test_replay_restarts.py",
        ),
    ),
    *plant(
        "agents/replay/ring.py",
        "agents/test_replay.py",
        (
            "what wraps around the ring is its beginning again",
            "slice(0, count - head), slice(head, count)",
            "slice(0, count - head), slice(0, count - head)",
        ),
    ),
    *plant(
        "agents/replay/frame_stacks.py",
        "agents/test_replay_restarts.py",
        (
            "a cut counts as a termination",
            "truncated[last] |= is_first[1] & ~terminated[last]",
            "terminated[last] |= is_first[1] & ~terminated[last]",
        ),
        (
            "an episode before a restart has no end",
            "truncated[before] |= began & ~terminated[before]",
            "truncated[before] |= False",
        ),
    ),
    *plant(
        "agents/replay/frame_stacks.py",
        "agents/test_replay_stacks.py",
        (
            "rebuilt stacks reach into the episode before",
            'goes_on &= ~ring.fields["refilled"][place // ring.num_envs, place % ring.num_envs]',
            "goes_on &= True",
        ),
        (
            "the first stack is written in the wrong order",
            "parts[name][0, :, size - 1 - back]",
            "parts[name][0, :, back]",
        ),
        (
            "a filled stack that opens a trajectory is forgotten",
            'refills[0] |= ring.fields["refilled"][step % ring.num_rows]',
            "refills[0] |= False",
        ),
    ),
]
