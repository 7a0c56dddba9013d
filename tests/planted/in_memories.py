"""Faults in the memories that are parallel in time."""

from tests.planted.fault import plant

_PLAIN = "networks/test_memory.py::test_unroll_equals_plain_network_on_each_episode"
_LONG = "networks/test_memory.py::test_float32_is_as_exact_as_float32_can_be"
_GRADIENTS = "networks/test_memory_gradients.py::"
_REACH = f"{_GRADIENTS}test_gradient_reaches_the_start_of_its_episode_and_never_crosses_one"
_MIRROR = "networks/test_memory.py::test_numpy_mirror_equals_torch"

FAULTS = [
    *plant(
        "networks/memory/scan.py",
        f"{_GRADIENTS}test_gradients_equal_those_of_the_plain_network_on_each_episode",
        (
            "a scan leaves out what lies between the steps of a pair",
            "both = torch.addcmul(increments[second], late, early)",
            "both = increments[second]",
        ),
        (
            "a scan's gradient decays a step late",
            "_backward(decays[1:], gradient[:-1], sums)",
            "_backward(decays[:-1], gradient[:-1], sums)",
        ),
        (
            "a scan's gradient turns with its phase instead of against it",
            "decays = decays.conj().resolve_conj()",
            "decays = decays.resolve_conj()",
        ),
        (
            "a decay's gradient is weighted by the state after it",
            "sums * states[:-1].conj()",
            "sums * states[1:].conj()",
        ),
    ),
    *plant(
        "networks/memory/linear.py",
        _PLAIN,
        (
            "minGRU is reset one step late",
            "keep.masked_fill(is_first[..., None], 0.0)",
            "keep.masked_fill(is_first.roll(1, 0)[..., None], 0.0)",
        ),
        (
            "minGRU writes its first step of an episode whole",
            "new - keep * new, state)",
            "new - keep.masked_fill(is_first[..., None], 0.0) * new, state)",
        ),
        (
            "LRU keeps its state over the starts of episodes",
            "decays * ~is_first[..., None]",
            "decays.expand(*is_first.shape, -1)",
            _REACH,
        ),
        (
            "LRU's inputs are not normalised",
            "scale = torch.sqrt(-torch.expm1(-2 * rate))",
            "scale = torch.ones_like(rate)",
        ),
        (
            "a short convolution reads across the starts of episodes",
            "is_other = episode[read] != episode[back:]",
            "is_other = episode[read] > episode[back:]",
            _REACH,
        ),
        (
            "a short convolution keeps inputs of finished episodes",
            "is_other = episode[steps:] != episode[-1]",
            "is_other = episode[steps:] > episode[-1]",
        ),
        (
            "a short convolution forgets an input too early",
            "episode = functional.pad(is_first.cumsum(0), (0, 0, back, 0))",
            "episode = functional.pad(is_first.cumsum(0), (0, 0, back, 0), value=-1)",
        ),
        (
            "a mirrored short convolution keeps the oldest input",
            "stream[:, inputs.shape[1] :]",
            "stream[:, : -inputs.shape[1]]",
            _MIRROR,
        ),
        (
            "LRU's mirror turns the other way",
            "np.exp(1j * phase - rate)",
            "np.exp(-1j * phase - rate)",
            _MIRROR,
        ),
    ),
    *plant(
        "networks/memory/mlstm.py",
        _LONG,
        (
            "mLSTM reads over the starts of episodes within a chunk",
            "(of_chunk[..., None] == of_chunk[..., None, :]).tril()",
            "(of_chunk[..., None] >= of_chunk[..., None, :]).tril()",
        ),
        (
            "mLSTM carries a state into a chunk in which an episode began",
            "is_carried = (episode == 0)[..., None]",
            "is_carried = (episode >= 0)[..., None]",
        ),
        (
            "mLSTM writes a finished episode to the state",
            ".masked_fill((episode != episode[:, -1:])[..., None], 0.0)",
            "",
        ),
        (
            "mLSTM's state forgets while a chunk is filled up",
            "_chunked(-_FASTEST * forget.sigmoid()),",
            "-_FASTEST * _chunked(forget).sigmoid(),",
        ),
        (
            "mLSTM lets rounded gradients of finished episodes pass",
            'torch.einsum("kbts,ksbh->ktbh", is_past.to(log_forget), log_forget)',
            "log_forget.cumsum(1)",
            _REACH,
        ),
    ),
    *plant(
        "networks/memory/attention.py",
        _LONG,
        (
            "GTrXL looks into the step before its episode",
            "(distance <= age.transpose(1, 2)[..., None])",
            "(distance <= age.transpose(1, 2)[..., None] + 1)",
        ),
        (
            "GTrXL looks ahead",
            "(distance >= 0) & (distance",
            "(distance >= -1) & (distance",
        ),
        (
            "GTrXL looks beyond its window",
            "torch.minimum(times - starts, before + times).clamp(max=self.window)",
            "torch.minimum(times - starts, before + times)",
        ),
        (
            "GTrXL keeps steps of finished episodes",
            "(distances > after)[..., None]",
            "(distances < 0)[..., None]",
            f"{_GRADIENTS}test_returned_state_keeps_no_gradient_of_earlier_episodes",
        ),
        (
            "GTrXL does not count the newest step of its window",
            "after = (age[-1] + 1).clamp(max=self.window)",
            "after = age[-1].clamp(max=self.window)",
        ),
    ),
]
