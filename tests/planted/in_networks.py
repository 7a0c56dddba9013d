"""Faults in memories, heads, distributions, supports, normalisation, inputs, layers and losses."""

# ruff: noqa: E501 (statements are quoted as they stand)
from tests.planted.fault import plant

FAULTS = [
    *plant(
        "networks/memory/memories.py",
        "networks/test_memory.py::test_two_chunks_equal_one_unroll",
        (
            "fused memories keep their state over the first observation of a sequence",
            "state = state.masked_fill(is_first[0][:, None], 0.0)",
            "state = state.clone()",
            "networks/test_memory.py::test_two_chunks_equal_one_unroll",
        ),
        (
            "every layer begins with the first one's state",
            "layer(outputs, before, resets)",
            "layer(outputs, state[:, : layer.state_size], resets)",
            "networks/test_memory.py::test_unroll_equals_plain_network_on_each_episode",
        ),
        (
            "cells keep their state over the starts of episodes",
            "torch.where(first[:, None], initial, state)",
            "torch.where(first[:, None], state, state)",
            "networks/test_memory.py::test_cell_starts_every_episode_from_its_own_initial_state",
        ),
        (
            "mirrored memories keep their state over the starts of episodes",
            "np.where(is_first[:, None], np.float32(0.0), state)",
            "np.where(is_first[:, None], state, state)",
            "networks/test_memory.py::test_numpy_mirror_equals_torch",
        ),
        (
            "states before sequences are those after them",
            "states.append(state)\n            output, state = self(chunk, state, first)",
            "output, state = self(chunk, state, first)\n            states.append(state)",
            "networks/test_memory.py::test_windows_return_the_states_before_them",
        ),
    ),
    *plant(
        "networks/memory/fused.py",
        "networks/test_memory.py::test_unroll_equals_plain_network_on_each_episode",
        (
            "the state that is returned is that of pads",
            "return outputs, torch.cat([outputs[-1], after[:, self.output_size :]], dim=-1)",
            "return outputs, after",
            "networks/test_memory.py::test_two_chunks_equal_one_unroll",
        ),
        (
            "LSTM's null step keeps the cell",
            "reset = self._gate_column(-_FORCE, -_FORCE, 0.0, -_FORCE)",
            "reset = self._gate_column(-_FORCE, _FORCE, 0.0, -_FORCE)",
        ),
        (
            "LSTM's pads lose the cell",
            "hold = self._gate_column(-_FORCE, _FORCE, 0.0, 0.0)",
            "hold = self._gate_column(-_FORCE, -_FORCE, 0.0, 0.0)",
            "networks/test_memory.py::test_two_chunks_equal_one_unroll",
        ),
        (
            "GRU's null step doubles a bias that it should cancel",
            "functional.pad(-self.weights[2][2 * size :]",
            "functional.pad(self.weights[2][2 * size :]",
        ),
        (
            "RNN's null step leaves a bias",
            "cancel = -(bias_x + bias_h + recurrent.sum(1))",
            "cancel = -(bias_x + recurrent.sum(1))",
        ),
        (
            "GRU's mirror takes the update gate the other way round",
            "new + update * (state - new)",
            "state + update * (new - state)",
            "networks/test_memory.py::test_numpy_mirror_equals_torch",
        ),
    ),
    *plant(
        "networks/memory/gru_loop.py",
        "networks/test_memory_gradients.py",
        (
            "the reset gate scales the gradient of the candidate's input",
            "of_gates[:, :, 2] = of_states * inner",
            "of_gates[:, :, 2] *= inner",
        ),
        (
            "the direct path of the state is left out of its gradient",
            "np.add(carried, kept, out=carried)",
            "np.add(carried, 0, out=carried)",
        ),
        (
            "the weight's gradient reads the states after the steps",
            "torch.from_numpy(states[:-1]).view",
            "torch.from_numpy(states[1:]).view",
        ),
    ),
    *plant(
        "networks/memory/fused.py",
        "networks/test_resets.py",
        (
            "null steps are put one step late",
            "flags[openings - (null_steps - index) * batch, index] = 1.0",
            "flags[openings - (null_steps - index - 1) * batch, index] = 1.0",
        ),
        (
            "no pad is marked",
            "ends = steps + null_steps * resets[-1]",
            "ends = steps + null_steps * most + 0 * resets[-1]",
        ),
    ),
    *plant(
        "networks/heads/distributions.py",
        "networks/test_distributions.py",
        (
            "a Gaussian's density grows with its deviation",
            "- self.log_std - _LOG_SQRT_TAU",
            "+ self.log_std - _LOG_SQRT_TAU",
        ),
        (
            "a Gaussian's entropy lacks its constant",
            "self.log_std + 0.5 + _LOG_SQRT_TAU",
            "self.log_std + _LOG_SQRT_TAU",
        ),
        (
            "bits are as likely as their opposite",
            "torch.where(actions > 0, self.logits, -self.logits)",
            "torch.where(actions > 0, -self.logits, self.logits)",
        ),
    ),
    *plant(
        "networks/heads/policy.py",
        "networks/test_policy_heads.py",
        (
            "bits are drawn by noise of another kind",
            "generator.logistic(size=",
            "generator.normal(size=",
        ),
    ),
    *plant(
        "networks/heads/greedy.py",
        "networks/test_policy_heads.py",
        (
            "an action space's start is left out",
            'choices + np.ravel(getattr(space, "start", 0))',
            "choices",
        ),
    ),
    *plant(
        "networks/heads/histograms.py",
        "agents/test_learnt_support.py",
        (
            "histograms never show targets to their support",
            "return self.support.observe(returns, valid, self.layers.project)",
            "return {}",
        ),
    ),
    *plant(
        "networks/heads/distributions.py",
        "networks/test_distributions.py",
        (
            "squashing stretches densities the wrong way",
            "self.before.log_prob(inner) - _log_slope(inner).sum(-1)",
            "self.before.log_prob(inner) + _log_slope(inner).sum(-1)",
        ),
        (
            "a squashed policy's entropy is that before squashing",
            "return self.before.entropy() + slopes.sum(-1)",
            "return self.before.entropy() + 0 * slopes.sum(-1)",
        ),
    ),
    *plant(
        "networks/heads/box.py",
        "networks/test_policy_heads.py",
        (
            "environments receive actions twice as far out",
            "(actions.astype(np.float64) + 1.0) * 0.5",
            "(actions.astype(np.float64) + 0.5)",
        ),
        (
            "acting takes a log deviation for a deviation",
            "mean + np.exp(log_std) * noise",
            "mean + log_std * noise",
        ),
        (
            "acting takes squashed deviations unclipped",
            "inner + np.exp(np.clip(rows[:, size:], *_LOG_STD_RANGE)) * noise",
            "inner + np.exp(rows[:, size:]) * noise",
        ),
    ),
    *plant(
        "networks/heads/greedy.py",
        "networks/test_greedy.py::test_epsilon_is_how_often_any_action_is_taken",
        (
            "epsilon is the share of greedy actions",
            "generator.random(batch_size) < epsilon",
            "generator.random(batch_size) > epsilon",
        ),
        (
            "the last action is never tried",
            "generator.integers(num_actions, size=len(exploring))",
            "generator.integers(num_actions - 1, size=len(exploring))",
        ),
        (
            "all environments share the noise of their layers",
            "generator.standard_normal(size, dtype=np.float32)",
            "generator.standard_normal((1, noise_size), dtype=np.float32)",
            "networks/test_greedy.py::test_each_environment_has_noisy_layers_of_its_own",
        ),
    ),
    *plant(
        "networks/heads/values.py",
        "networks/test_action_values.py::test_a_target_is_the_reward_and_what_is_left_of_the_value_after agents/test_value_rescaling.py",
        (
            "targets take a rescaled value for a value",
            "scale(rewards + discounts * scale.inverse(value))",
            "scale(rewards + discounts * value)",
        ),
        (
            "targets are not rescaled",
            "return scale(rewards + discounts * scale.inverse(value))",
            "return rewards + discounts * scale.inverse(value)",
        ),
        (
            "Huber's loss is quadratic within 1, whatever delta says",
            'reduction="none", delta=self.delta',
            'reduction="none", delta=1.0',
            "networks/test_heads.py",
        ),
    ),
    *plant(
        "networks/heads/histograms.py",
        "networks/test_value_heads.py",
        (
            "bins of HL-Gauss begin at their middles",
            "torch.cat([centres, centres[-1:] + width]) - width / 2",
            "torch.cat([centres, centres[-1:] + width])",
        ),
        (
            "the deviation of HL-Gauss is in units of return",
            "edges, self.sigma * width)",
            "edges, self.sigma + 0 * width)",
        ),
    ),
    *plant(
        "networks/heads/distributional.py",
        "networks/test_distributional.py",
        (
            "quantiles are weighed by the other side",
            "torch.where(targets < outputs, 1 - levels[:, None], levels[:, None])",
            "torch.where(targets < outputs, levels[:, None], 1 - levels[:, None])",
        ),
        (
            "C51's atoms are not rescaled",
            "discounts[..., None], centres, scale)",
            "discounts[..., None], centres, None)",
        ),
        (
            "quantiles' targets are not rescaled",
            "discounts[..., None], later, scale)",
            "discounts[..., None], later, None)",
        ),
        (
            "C51's atoms beyond the limits are lost",
            "/ width).clamp(0, bins - 1)",
            "/ width)",
        ),
    ),
    *plant(
        "networks/heads/histograms.py",
        "networks/test_support.py",
        (
            "a learnt support leaves its margin no room",
            "while size > limit * self._share_of_targets:",
            "while size > limit:",
        ),
        (
            "a support is learnt from steps that only reset",
            "torch.where(valid & returns.isfinite(), returns.abs(), 0.0)",
            "torch.where(returns.isfinite(), returns.abs(), 0.0)",
        ),
        (
            "values jump as their support grows",
            "            project(*self._projection(limit))\n",
            "",
            "networks/test_support.py networks/test_value_heads.py",
        ),
        (
            "a learnt support begins without headroom",
            "self._move(_HEADROOM * size)",
            "self._move(size)",
        ),
    ),
    *plant(
        "networks/heads/values.py",
        "networks/test_value_scales.py",
        (
            "rescaling has no least slope",
            "+ self.eps * value",
            "+ 0 * value",
        ),
        (
            "the inverse of rescaling is only near it",
            "shifted = scaled.abs() + 1 + self.eps",
            "shifted = scaled.abs() + 1",
        ),
    ),
    *plant(
        "networks/heads/action_values.py",
        "networks/test_noisy.py",
        (
            "noise is not squashed",
            "noise.sign() * noise.abs().sqrt()",
            "noise",
        ),
    ),
    *plant(
        "networks/heads/action_values.py",
        "networks/test_action_values.py::test_dueling_values_of_actions_have_the_states_as_mean",
        (
            "dueling actions are centred over numbers, not over actions",
            "output.mean(-2, keepdim=True)",
            "output.mean(-1, keepdim=True)",
        ),
        (
            "both streams of a duel have the same noise",
            "noise[..., end - size : end] for",
            "noise[..., :size] for",
            "networks/test_action_values.py::test_dueling_streams_have_layers_and_noise_of_their_own",
        ),
    ),
    *plant(
        "networks/normalization.py",
        "networks/test_normalization.py",
        (
            "merged variances leave out how far means are apart",
            "difference.square() * self.count * size / total",
            "difference.square() * 0 * size / total",
        ),
        (
            "variances of batches are unbiased",
            "batch.var(0, correction=0)",
            "batch.var(0, correction=1)",
        ),
        (
            "the return that scales rewards runs over ends",
            "accumulator = accumulator.masked_fill(end, 0.0)",
            "accumulator = accumulator",
        ),
        (
            "the return that scales rewards runs into a new episode",
            "self.accumulator.masked_fill(is_first, 0.0)",
            "self.accumulator",
        ),
        (
            "rewards of steps that only reset move their scale",
            "torch.stack(rows)[valid]",
            "torch.stack(rows).flatten()",
        ),
        (
            "rewards are shifted",
            "(rewards * self.statistics.scale)",
            "((rewards - self.statistics.offset) * self.statistics.scale)",
        ),
        (
            "rewards are cut from above alone",
            "rewards.clamp(-self._limit, self._limit)",
            "rewards.clamp(max=self._limit)",
        ),
    ),
    *plant(
        "networks/backbone.py",
        "agents/test_movement.py::test_an_extractor_unfreezes_at_its_step_as_if_it_began_there",
        (
            "a gradient goes through frozen extractors",
            "if self.is_frozen and torch.is_grad_enabled():",
            "if self.is_frozen and False:",
            "agents/test_movement.py::test_an_extractor_unfreezes_and_the_target_network_follows",
        ),
        (
            "dropout is on in frozen extractors",
            "self.extractor.eval()",
            "self.extractor.train(mode)",
            "agents/test_movement.py::test_a_frozen_extractor_never_changes",
        ),
        (
            "extractors unfreeze one step late",
            "env_steps < self.frozen_until",
            "env_steps <= self.frozen_until",
        ),
        (
            "extractors that are frozen for ever ask for gradients",
            "extractor.requires_grad_(False)",
            "extractor.requires_grad_(True)",
            "agents/test_movement.py::test_a_frozen_extractor_never_changes",
        ),
        (
            "acting in half precision is acting in full",
            "if self.half_precision:\n            return None",
            "if False:\n            return None",
            "agents/test_precision.py::test_half_precision_has_eight_bits_of_mantissa_in_learning_and_acting",
        ),
        (
            "critics read what the policy sees",
            "own = share_of(observations, self.reader)\n        rows: Observations",
            "own = share_of(observations, 'actor')\n        rows: Observations",
            "agents/test_privileged_critic.py",
        ),
        (
            "statistics of observations count steps that only reset",
            "map_observations(lambda part: part[valid], own)",
            "map_observations(lambda part: part.flatten(0, 1), own)",
            "agents/test_ppo_recomputes.py::test_statistics_move_at_the_end_of_learning_by_valid_observations_only",
        ),
    ),
    *plant(
        "networks/layers.py",
        "agents/test_precision.py::test_half_precision_is_that_of_features_alone",
        (
            "half precision is full",
            "with torch.autocast(any_part(rows).device.type, torch.bfloat16):",
            "with torch.autocast(any_part(rows).device.type, torch.bfloat16, enabled=False):",
            "agents/test_precision.py::test_half_precision_is_that_of_features_alone",
        ),
        (
            "half precision is float16",
            "any_part(rows).device.type, torch.bfloat16",
            "any_part(rows).device.type, torch.float16",
            "agents/test_precision.py::test_half_precision_has_eight_bits_of_mantissa_in_learning_and_acting",
        ),
    ),
    *plant(
        "networks/inputs.py",
        "networks/test_inputs.py",
        (
            "intensities are divided by 256",
            ".div_(255.0)",
            ".div_(256.0)",
        ),
        (
            "identifiers are counted from 0",
            ".long() - self.starts",
            ".long() - 0 * self.starts",
        ),
        (
            "acting divides intensities by 256",
            "np.float32(255.0)",
            "np.float32(256.0)",
        ),
        (
            "identifiers overlap",
            "torch.from_numpy(np.cumsum(counts) - counts)",
            "torch.from_numpy(0 * np.cumsum(counts))",
        ),
        (
            "whatever begins at 0 is taken for intensities",
            "(space.low == 0).all() and (space.high == 255).all()",
            "(space.low == 0).all()",
        ),
    ),
    *plant(
        "networks/extractors/images.py",
        "networks/test_layout.py networks/test_cnn.py",
        (
            "channels of a stack come before its frames",
            "rows.permute(0, 1, 4, 2, 3).flatten(1, 2)",
            "rows.permute(0, 4, 1, 2, 3).flatten(1, 2)",
        ),
        (
            "images are transposed",
            "rows.permute(0, 3, 1, 2)",
            "rows.permute(0, 3, 2, 1)",
        ),
    ),
    *plant(
        "networks/extractors/cnn.py",
        "networks/test_cnn.py",
        (
            "padding counts on one side",
            "side + 2 * padding - k)",
            "side + padding - k)",
        ),
        (
            "maps are pooled while more than 7 pixels remain",
            "side // 2 >= _SMALLEST_MAP",
            "side // 2 > _SMALLEST_MAP",
        ),
    ),
    *plant(
        "networks/extractors/cnn.py",
        "networks/test_impala.py",
        (
            "residual blocks add nothing",
            "return maps + residual",
            "return residual",
        ),
    ),
    *plant(
        "networks/autoencoding/autoencoder.py",
        "networks/test_autoencoder.py",
        (
            "the KL is not in units of reconstruction",
            'self.beta / self.decoder.count * metrics["kl"]',
            'self.beta * metrics["kl"]',
        ),
    ),
    *plant(
        "networks/autoencoding/gaussian.py",
        "networks/test_autoencoder.py",
        (
            "latents are drawn with their variance",
            "(0.5 * log_variance).exp() * noise",
            "log_variance.exp() * noise",
        ),
        (
            "the KL grows with the variance alone",
            "- 1.0 - log_variance",
            "- 1.0 + log_variance",
        ),
    ),
    *plant(
        "networks/autoencoding/reconstruction.py",
        "networks/test_meaning.py",
        (
            "identifiers weigh more in larger images",
            ".flatten(1).sum(1) / self.count",
            ".flatten(1).sum(1)",
        ),
    ),
    *plant(
        "networks/autoencoding/reconstruction.py",
        "networks/test_decoders.py",
        (
            "a gradient reaches what is to be said again",
            "targets[name].detach()",
            "targets[name]",
        ),
    ),
    *plant(
        "networks/autoencoding/losses.py",
        "networks/test_auxiliary.py",
        (
            "a gradient reaches the features that are predicted",
            "reading.next_features.detach().float()",
            "reading.next_features.float()",
        ),
        (
            "the discrepancy of two lambdas does not move the agent's value",
            "(values - second).square()",
            "(values.detach() - second).square()",
            "agents/test_lambda_discrepancy.py::test_two_steps_by_hand",
        ),
        (
            "the second value does not move the memory",
            "second = self.second_value(summary)",
            "second = self.second_value(summary.detach())",
            "agents/test_lambda_discrepancy.py::test_two_steps_by_hand",
        ),
        (
            "predicted features are standardised by steps that only reset",
            "_standardized(reading.next_features.detach().float(), reading.valid)",
            "_standardized(reading.next_features.detach().float(), torch.ones_like(reading.valid))",
        ),
        (
            "predictions aim at the features that they are made of",
            "_standardized(reading.next_features.detach().float(), reading.valid)",
            "_standardized(reading.features.detach().float(), reading.valid)",
        ),
        (
            "auxiliary losses divide by steps that only reset",
            "kept.sum() / count_valid(valid)",
            "kept.mean()",
        ),
        (
            "the KL of an auxiliary loss is not in units of reconstruction",
            "self.beta / self.decoder.count * divergence",
            "self.beta * divergence",
        ),
        (
            "features of a reconstruction do not decay",
            "0.5 * self.latent_decay * features.square().sum(-1)",
            "0.5 * 0.0 * features.square().sum(-1)",
        ),
    ),
]
