"""Faults in returns, losses, agents, the routes of gradients and optimizers."""

# ruff: noqa: E501 (statements are quoted as they stand)
from tests.planted.fault import plant

FAULTS = [
    *plant(
        "agents/mathematics/returns.py",
        "agents/test_returns.py",
        (
            "returns end without the last value's share of lambda",
            "constants[-1] += factors[-1] * next_values[-1]",
            "constants[-1] += 0 * next_values[-1]",
        ),
        (
            "the tail of the return scan is lost",
            "constants[shift:]), tail])",
            "constants[shift:]), 0 * tail])",
        ),
        (
            "the return scan stops one doubling early",
            "while shift < steps:",
            "while 2 * shift < steps:",
        ),
        (
            "returns are discounted by nothing at truncations, not at terminations",
            "discount * (~terminated).to(rewards.dtype)",
            "discount * (~truncated).to(rewards.dtype)",
        ),
        (
            "lambda runs over truncations",
            "gae_lambda * (~truncated).to(rewards.dtype)",
            "gae_lambda * torch.ones_like(rewards)",
        ),
    ),
    *plant(
        "agents/mathematics/losses.py",
        "agents/test_losses.py",
        (
            "PPO takes the more hopeful of two surrogates",
            "return -torch.minimum(",
            "return -torch.maximum(",
        ),
        (
            "PPO clips the ratio from above alone",
            "torch.clamp(ratio, 1 - clip_range, 1 + clip_range)",
            "torch.clamp(ratio, 0 * clip_range, 1 + clip_range)",
        ),
        (
            "advantages are divided by their variance",
            "centred / (deviation + 1e-8)",
            "centred / (deviation.square() + 1e-8)",
        ),
        (
            "means divide by all steps, those that reset too",
            ".sum((-2, -1)) / valid.sum().clamp(min=1)",
            ".sum((-2, -1)) / valid.numel()",
        ),
        (
            "advantages are centred by all steps, those that reset too",
            "advantages - masked_mean(advantages, valid)",
            "advantages - advantages.mean()",
        ),
    ),
    *plant(
        "agents/ppo.py",
        "agents/test_on_policy.py::test_the_value_s_loss_has_its_coefficient",
        (
            "PPO leaves the value coefficient out",
            '"critic": self.value_coefficient * value_loss',
            '"critic": value_loss',
        ),
        (
            "PPO stops at the target KL itself, not at 1.5 of it",
            "kl > 1.5 * self.target_kl",
            "kl > self.target_kl",
            "agents/test_ppo.py::test_target_kl_is_passed_by_half_of_it_and_no_more",
        ),
        (
            "PPO takes gradient steps in evaluation mode",
            "with self.training_mode():",
            "with torch.enable_grad():",
            "agents/test_modes.py",
        ),
        (
            "PPO lowers entropy",
            "policy_loss - entropy_coefficient * entropy",
            "policy_loss + entropy_coefficient * entropy",
            "agents/test_ppo.py::test_the_entropy_bonus_alone_raises_entropy",
        ),
        (
            "PPO counts ratios of actions that a reset ignored",
            "torch.where(batch.valid, log_ratio, 0.0)",
            "log_ratio",
            "agents/test_on_policy.py::test_continuous_actions_of_resetting_steps_never_matter",
        ),
        (
            "PPO takes the smaller of clipped and free value loss",
            "torch.maximum(losses, clipped)",
            "torch.minimum(losses, clipped)",
            "agents/test_ppo.py::test_clipped_values_stop_at_the_range",
        ),
        (
            "PPO takes one pass too few",
            "for _ in range(self.num_epochs):",
            "for _ in range(1, self.num_epochs):",
            "agents/test_ppo.py::test_without_target_kl_every_step_counts",
        ),
        (
            "PPO draws minibatches from a generator that starts anew each time",
            "self.num_minibatches, self.generator)",
            "self.num_minibatches, np.random.default_rng(0))",
            "agents/test_ppo.py::test_every_pass_is_a_partition_of_its_own",
        ),
        (
            "PPO moves statistics of observations by steps that only reset",
            "self.actor.observe(trajectory.step_observations, trajectory.valid)",
            "self.actor.observe(trajectory.step_observations, torch.ones_like(trajectory.valid))",
            "agents/test_ppo_recomputes.py::test_statistics_move_at_the_end_of_learning_by_valid_observations_only",
        ),
        (
            "PPO scales advantages by steps that only reset",
            "normalized_advantages(advantages, batch.valid)",
            "normalized_advantages(advantages, torch.ones_like(batch.valid))",
            "agents/test_on_policy.py::test_rewards_and_actions_of_resetting_steps_never_matter",
        ),
        (
            "PPO shows its value head no returns",
            "observed = self.value_head.observe(batch.returns, batch.valid)",
            "observed: dict[str, Tensor] = {}",
            "agents/test_learnt_support.py",
        ),
        (
            "PPO thaws nothing",
            "self.thaw()",
            "self.progress += 0.0",
            "agents/test_gradients.py::test_an_extractor_thaws_at_its_step_as_if_it_began_there",
        ),
        (
            "PPO adds auxiliary losses up without their weights",
            'losses["auxiliary"] = auxiliary @ auxiliary_weights',
            'losses["auxiliary"] = auxiliary.sum()',
            "agents/test_auxiliary_weights.py",
        ),
    ),
    *plant(
        "agents/a2c.py",
        "agents/test_on_policy.py::test_the_value_s_loss_has_its_coefficient",
        (
            "A2C leaves the value coefficient out",
            '"critic": self.value_coefficient * value_loss',
            '"critic": value_loss',
        ),
        (
            "A2C takes gradient steps in evaluation mode",
            "with self.training_mode():",
            "with torch.enable_grad():",
            "agents/test_modes.py",
        ),
        (
            "A2C adds auxiliary losses up without their weights",
            'losses["auxiliary"] = outputs.auxiliary @ auxiliary_weights',
            'losses["auxiliary"] = outputs.auxiliary.sum()',
            "agents/test_auxiliary_weights.py",
        ),
    ),
    *plant(
        "agents/learning/on_policy.py",
        "agents/test_reward_scaling.py",
        (
            "advantages come from raw rewards",
            "self.reward_scaling(trajectory.rewards),",
            "trajectory.rewards,",
        ),
        (
            "rewards are scaled by the statistics of the rollout before",
            "self.reward_scaling.observe(\n"
            "            trajectory.rewards, trajectory.is_first[0], trajectory.ended, trajectory.valid\n"
            "        )\n"
            "        returns = lambda_returns(\n"
            "            self.reward_scaling(trajectory.rewards),",
            "scaled = self.reward_scaling(trajectory.rewards)\n"
            "        self.reward_scaling.observe(\n"
            "            trajectory.rewards, trajectory.is_first[0], trajectory.ended, trajectory.valid\n"
            "        )\n"
            "        returns = lambda_returns(\n"
            "            scaled,",
        ),
        (
            "the return that scales rewards runs over truncations",
            "trajectory.is_first[0], trajectory.ended, trajectory.valid",
            "trajectory.is_first[0], trajectory.terminated, trajectory.valid",
        ),
        (
            "the return that scales rewards runs over an episode that opens a rollout",
            "trajectory.rewards, trajectory.is_first[0], trajectory.ended,",
            "trajectory.rewards, torch.zeros_like(trajectory.is_first[0]), trajectory.ended,",
        ),
        (
            "advantages compare with the value after the step",
            '"advantages": returns - values[:-1]',
            '"advantages": returns - values[1:]',
            "agents/test_a2c.py::test_returns_reach_as_far_as_the_rollout",
        ),
        (
            "returns bootstrap from the value before the step",
            "            values[1:],\n",
            "            values[:-1],\n",
            "agents/test_a2c.py::test_returns_reach_as_far_as_the_rollout",
        ),
        (
            "a critic's own memory is not carried to the next rollout",
            "self.critic_state.copy_(critic.after)",
            "self.critic_state.copy_(self.critic_state)",
            "agents/test_stream.py::test_critic_goes_on_from_before_the_next_rollout",
        ),
        (
            "steps that only reset count",
            '"valid": trajectory.valid',
            '"valid": torch.ones_like(trajectory.valid)',
            "agents/test_on_policy.py::test_rewards_and_actions_of_resetting_steps_never_matter",
        ),
    ),
    *plant(
        "agents/learning/actor_critic.py",
        "agents/test_ppo_recomputes.py::test_first_update_values_what_it_recomputed",
        (
            "the critic's memory begins with the actor's state",
            "batch.critic_state[0], batch.is_first",
            "batch.actor_state[0], batch.is_first",
        ),
        (
            "the actor's memory begins every sequence empty",
            "batch.actor_state[0], batch.is_first",
            "torch.zeros_like(batch.actor_state[0]), batch.is_first",
            "agents/test_stream.py::test_minibatches_count_like_the_environments",
        ),
    ),
    *plant(
        "agents/pqn.py",
        "agents/test_pqn.py::test_lambda_zero_is_one_step_q_learning",
        (
            "PQN bootstraps from the mean action",
            "values[1:].amax(-1)",
            "values[1:].mean(-1)",
        ),
        (
            "PQN learns raw rewards",
            "self.reward_scaling(trajectory.rewards)",
            "trajectory.rewards",
            "agents/test_reward_scaling.py",
        ),
        (
            "PQN learns from steps that only reset",
            "masked_mean(self.value_head.loss(output, batch.returns), batch.valid)",
            "self.value_head.loss(output, batch.returns).mean()",
            "agents/test_on_policy.py::test_rewards_and_actions_of_resetting_steps_never_matter",
        ),
        (
            "PQN takes gradient steps in evaluation mode",
            "with self.training_mode():",
            "with torch.enable_grad():",
            "agents/test_modes.py",
        ),
        (
            "PQN shows its value head no returns",
            "observed = self.value_head.observe(rollout.returns, rollout.valid)",
            "observed: dict[str, Tensor] = {}",
            "agents/test_learnt_support.py",
        ),
    ),
    *plant(
        "agents/dqn.py",
        "agents/test_modes.py",
        (
            "DQN never writes priorities",
            "self.replay.update(sample.starts, priorities.cpu())",
            "priorities.cpu()",
            "agents/test_dqn.py::test_priorities_are_errors_without_weights_and_change_what_is_drawn",
        ),
        (
            "DQN writes weighted errors as priorities",
            "sequence_priorities(errors, steps.valid, max_share=share)",
            "sequence_priorities(errors * weights, steps.valid, max_share=share)",
            "agents/test_dqn.py::test_priorities_are_errors_without_weights_and_change_what_is_drawn",
        ),
        (
            "DQN leaves importance weights out",
            "self.value_head.loss(output, target) * weights",
            "self.value_head.loss(output, target)",
            "agents/test_dqn.py::test_importance_weights_scale_each_window_s_loss",
        ),
        (
            "importance weights never move",
            "beta = self.importance_exponent(self.progress)",
            "beta = self.importance_exponent(0.0)",
            "agents/test_dqn.py::test_importance_weights_follow_progress",
        ),
        (
            "a target that is copied at intervals follows every gradient step",
            "if self.polyak_rate < 1:",
            "if self.polyak_rate <= 1:",
            "agents/test_dqn.py::test_the_target_is_copied_between_blocks_by_environment_steps",
        ),
        (
            "a learnt support sees the first batch of a block alone",
            "if self.value_head.learns_support or (self.is_watched and not metrics):",
            "if not metrics and (self.value_head.learns_support or self.is_watched):",
            "agents/test_dqn.py::test_a_learnt_support_has_seen_the_targets_of_every_gradient_step",
        ),
        (
            "the target is always copied whole",
            "self.target.network.follow(self.polyak_rate)",
            "self.target.network.follow(1.0)",
            "agents/test_dqn.py::test_a_slow_target_moves_after_each_gradient_step",
        ),
        (
            "weights from elsewhere are not the target's",
            'came from elsewhere."""\n        self.target.network.follow(1.0)',
            'came from elsewhere."""\n        self.target.network.follow(0.0)',
            "agents/test_dqn.py::test_weights_from_elsewhere_are_the_target_s_too",
        ),
        (
            "dropout is on in targets",
            "self._set_dropout(False)  # targets are those of acting",
            "self._set_dropout(True)",
        ),
        (
            "dropout is off in what DQN learns",
            "self._set_dropout(True)\n        steps = learnt_steps",
            "self._set_dropout(False)\n        steps = learnt_steps",
        ),
        (
            "DQN takes gradient steps in evaluation mode",
            "with self.training_mode():",
            "with torch.enable_grad():",
        ),
        (
            "network and target have the same noise",
            "return network, target, choosing",
            "return network, network, choosing",
            "agents/test_noise.py",
        ),
        (
            "the network chooses with the noise that it learns with",
            "return network, target, choosing",
            "return network, target, network",
            "agents/test_noise.py",
        ),
        (
            "noisy layers learn without noise",
            "self.value_head(summary, noise[0])",
            "self.value_head(summary, None)",
            "agents/test_noise.py",
        ),
        (
            "DQN's clock counts steps that only reset",
            "int(valid.sum())",
            "int(valid.numel())",
            "agents/test_dqn.py::test_steps_that_only_reset_are_no_environment_steps",
        ),
        (
            "DQN moves statistics of observations by steps that only reset",
            "self.actor.observe(seen.step_observations, seen.valid)",
            "self.actor.observe(seen.step_observations, torch.ones_like(seen.valid))",
            "agents/test_dqn.py::test_steps_that_only_reset_are_no_environment_steps",
        ),
        (
            "the return that scales DQN's rewards runs over truncations",
            "trajectory.ended.to(device)",
            "trajectory.terminated.to(device)",
            "agents/test_reward_scaling.py",
        ),
        (
            "the return that scales DQN's rewards runs over what opens a trajectory",
            "trajectory.is_first[0].to(device)",
            "torch.zeros_like(trajectory.is_first[0]).to(device)",
            "agents/test_reward_scaling.py",
        ),
        (
            "DQN adds auxiliary losses up without their weights",
            'losses["auxiliary"] = auxiliary @ auxiliary_weights',
            'losses["auxiliary"] = auxiliary.sum()',
            "agents/test_auxiliary_weights.py",
        ),
        (
            "DQN's epsilon stays where it began",
            "set_epsilon(self.epsilon(self.progress))",
            "set_epsilon(self.epsilon(0.0))",
            "agents/test_dqn.py::test_epsilon_falls_with_environment_steps",
        ),
        (
            "burnt-in memories are thrown away",
            "state = warmed(self.actor, window, self.windows.burn_in)\n"
            "        target = self.target(",
            "state = window.state\n        target = self.target(",
            "agents/test_dqn.py::test_memories_count_like_the_environments_from_wherever_a_window_starts",
        ),
    ),
    *plant(
        "agents/learning/replay_learner.py",
        "agents/test_off_policy.py",
        (
            "the target is copied one step off",
            "taken // every > before // every",
            "(taken + 1) // every > (before + 1) // every",
        ),
        (
            "learning starts one round late",
            "taken < self._learning_starts",
            "taken <= self._learning_starts",
        ),
        (
            "fractions of gradient steps are lost to rounding",
            "* self._ratio + 1e-6)",
            "* self._ratio)",
        ),
        (
            "burn-in takes a gradient",
            "with torch.no_grad():\n        _, state = backbone.forward(",
            "with torch.enable_grad():\n        _, state = backbone.forward(",
            "agents/test_dqn.py::test_burn_in_takes_no_gradient",
        ),
        (
            "burn-in runs over the starts of episodes",
            "window.is_first[:burn_in],",
            "torch.zeros_like(window.is_first[:burn_in]),",
            "agents/test_dqn.py::test_memories_count_like_the_environments_from_wherever_a_window_starts",
        ),
        (
            "a sequence's priority takes the largest error for the mean",
            "max_share * kept.amax(0) + (1 - max_share) * mean",
            "(1 - max_share) * kept.amax(0) + max_share * mean",
        ),
        (
            "a sequence's mean error counts steps that only reset",
            "kept.sum(0) / valid.sum(0).clamp(min=1)",
            "kept.mean(0)",
        ),
        (
            "replayed steps that open episodes count as those that reset",
            "valid=~window.is_first[following]",
            "valid=~window.is_first[learnt]",
            "agents/test_dqn.py::test_steps_that_only_reset_change_nothing",
        ),
        (
            "what is learnt from begins with the burn-in",
            "slice(self.burn_in, self.burn_in + self.sequence_length)",
            "slice(0, self.sequence_length)",
            "agents/test_dqn.py::test_memories_count_like_the_environments_from_wherever_a_window_starts",
        ),
        (
            "replayed steps lead to themselves",
            "part[following], observations) if needs_next",
            "part[learnt], observations) if needs_next",
            "training/test_auxiliary.py::test_what_follows_is_of_the_same_episode",
        ),
        (
            "kept states are cleared one step off",
            "trajectory.is_first[:-1],\n        sequence_length=stride",
            "trajectory.is_first[1:],\n        sequence_length=stride",
            "agents/test_dqn.py::test_stored_states_are_those_that_acting_had",
        ),
    ),
    *plant(
        "agents/learning/targets.py",
        "agents/test_gradients_of_values.py::test_the_slow_copy_takes_no_gradient_and_shares_inputs_alone",
        (
            "the target has a normalisation of its own",
            "shared=[networks.actor.inputs, networks.actor.normalization]",
            "shared=[networks.actor.inputs]",
        ),
        (
            "the target shares the extractor",
            "shared=[networks.actor.inputs, networks.actor.normalization]",
            "shared=[networks.actor.inputs, networks.actor.normalization, networks.actor.extractor]",
        ),
        (
            "the target does not follow a learnt support",
            "        self._head.observe(targets, valid)\n",
            "",
            "agents/test_learnt_support.py",
        ),
        (
            "a learnt support sees values that are not rescaled",
            "targets = self.scale(bootstrap.rewards + bootstrap.discounts * values)",
            "targets = bootstrap.rewards + bootstrap.discounts * values",
            "agents/test_learnt_support.py",
        ),
        (
            "DQN learns raw rewards",
            "self.reward_scaling(window.rewards)",
            "window.rewards",
            "agents/test_dqn.py::test_rewards_are_scaled_when_sampled_and_raw_in_replay",
        ),
        (
            "the target has the noise of the network",
            "self.read(window, bootstrap.steps, noise[1])",
            "self.read(window, bootstrap.steps, noise[0])",
            "agents/test_noise.py",
        ),
        (
            "the network chooses without noise",
            "networks.value_head(summary, noise[2])",
            "networks.value_head(summary, None)",
            "agents/test_noise.py",
        ),
        (
            "double Q-learning values by the network that chose",
            "taken(outputs, actions)",
            "taken(choosing, actions)",
            "agents/test_dqn.py::test_a_double_target_is_chosen_by_one_network_and_valued_by_the_other",
        ),
        (
            "double Q-learning chooses with the memory before the burn-in",
            "state,\n                window.is_first[first:]",
            "window.state,\n                window.is_first[first:]",
            "agents/test_dqn.py::test_memories_count_like_the_environments_from_wherever_a_window_starts",
        ),
        (
            "truncation ends a replayed value, termination does not",
            "window.terminated,\n            window.truncated,",
            "window.truncated,\n            window.terminated,",
            "agents/test_dqn.py::test_targets_of_terminal_steps_are_their_rewards",
        ),
        (
            "rewards of targets are rescaled twice",
            "bootstrap.rewards, bootstrap.discounts, following, self.scale",
            "self.scale(bootstrap.rewards), bootstrap.discounts, following, self.scale",
            "agents/test_value_rescaling.py",
        ),
    ),
    *plant(
        "agents/mathematics/returns.py",
        "agents/test_targets.py",
        (
            "n-step values go on after a termination",
            "discounts * torch.where(ends, 0.0, discount)",
            "discounts * discount",
        ),
        (
            "n-step rewards run over truncations",
            "goes_on = goes_on & ~(ends | truncated[here])",
            "goes_on = goes_on & ~ends",
        ),
        (
            "n-step values are those behind an end",
            "steps = steps + goes_on",
            "steps = steps + 1",
        ),
        (
            "n-step rewards are discounted once",
            "torch.where(goes_on, discounts * rewards[here], 0.0)",
            "torch.where(goes_on, discount * rewards[here], 0.0)",
        ),
    ),
    *plant(
        "agents/learning/targets.py",
        "agents/test_target_network.py",
        (
            "the target takes gradients",
            "own.requires_grad_(False)",
            "own.requires_grad_(True)",
        ),
        (
            "the target trains",
            "return super().train(False)",
            "return super().train(mode)",
        ),
        (
            "the target goes the rest of the way",
            "torch._foreach_lerp_(own, originals, rate)",
            "torch._foreach_lerp_(own, originals, 1 - rate)",
        ),
        (
            "the target keeps its first statistics",
            "buffer.copy_(original)",
            "buffer.copy_(buffer)",
        ),
    ),
    *plant(
        "agents/learning/schedules.py",
        "agents/test_off_policy.py",
        (
            "exploration falls over the inverse of its share of the run",
            "max(progress, 0.0) / fraction",
            "max(progress, 0.0) * fraction",
        ),
    ),
    *plant(
        "agents/learning/schedules.py",
        "agents/test_schedules.py",
        (
            "schedules move away from their end",
            "progress, 0.0), 1.0) * (end - start)",
            "progress, 0.0), 1.0) * (start - end)",
        ),
    ),
    *plant(
        "agents/learning/sequences.py",
        "agents/test_sequences.py",
        (
            "sequences mix steps and environments",
            "windows.transpose(0, 1).reshape(",
            "windows.reshape(",
        ),
        (
            "minibatches are always the same",
            "generator.permutation(num_sequences)",
            "np.arange(num_sequences)",
        ),
    ),
    *plant(
        "agents/trajectory.py",
        "agents/test_reward_scaling.py",
        (
            "an episode that was truncated has not ended",
            "return self.terminated | self.truncated",
            "return self.terminated",
        ),
        (
            "the first step of an episode counts as the reset",
            "return ~self.is_first[1:]",
            "return ~self.is_first[:-1]",
            "agents/test_stream.py::test_collected_steps_belong_together",
        ),
        (
            "steps lead to themselves",
            "map_observations(lambda rows: rows[1:], self.observations)",
            "map_observations(lambda rows: rows[:-1], self.observations)",
            "training/test_auxiliary.py::test_what_follows_is_of_the_same_episode",
        ),
    ),
    *plant(
        "agents/agent.py",
        "agents/test_modes.py",
        (
            "training mode is not left",
            "self.eval()",
            "self.train()",
        ),
        (
            "training mode is not entered",
            "            self.train()\n",
            "            self.eval()\n",
        ),
        (
            "every round has the same dropout",
            "torch.default_generator.manual_seed(seed)",
            "torch.default_generator.manual_seed(0)",
        ),
        (
            "a borrowed generator is kept",
            "self.generator = kept",
            "self.generator = generator",
            "agents/test_acting.py::test_borrowed_generator_is_given_back_even_after_an_error",
        ),
        (
            "policies explore where they were told not to",
            "if explore else None",
            "if True else None",
            "agents/test_acting.py::test_the_generator_alone_decides_and_exploration_can_be_off",
        ),
    ),
    *plant(
        "agents/learning/unroll.py",
        "agents/test_pqn.py::test_the_memory_counts_steps_as_the_environments_do",
        (
            "the last observation is read without a memory",
            "backbone.memory(features[-1:], after, trajectory.is_first[-1:])",
            "backbone.memory(features[-1:], torch.zeros_like(after), trajectory.is_first[-1:])",
        ),
        (
            "features that a loss predicts take a gradient",
            "with torch.no_grad():\n                next_rows",
            "with torch.enable_grad():\n                next_rows",
            "training/test_auxiliary.py::test_what_follows_is_of_the_same_episode",
        ),
    ),
    *plant(
        "agents/learning/parts.py",
        "agents/test_auxiliary_weights.py",
        (
            "auxiliary weights follow no schedule",
            "[weight(progress) for",
            "[weight(0.0) for",
        ),
        (
            "auxiliary losses are averaged over actor and critic",
            ").sum(1)",
            ").mean(1)",
        ),
    ),
    *plant(
        "agents/learning/optimizer.py",
        "agents/test_optimizer.py",
        (
            "small gradients are scaled up",
            "(norm + 1e-6)).clamp(max=1.0)",
            "(norm + 1e-6))",
        ),
        (
            "steps that are not finite count",
            "counts = active & (norm < torch.inf)",
            "counts = active",
        ),
        (
            "what is frozen for a while moves",
            "if group.frozen_until else weight",
            "if False else weight",
            "agents/test_gradients.py::test_an_extractor_thaws_at_its_step_as_if_it_began_there",
        ),
        (
            "what is frozen thaws one step late",
            "float(env_steps >= group.frozen_until)",
            "float(env_steps > group.frozen_until)",
            "agents/test_gradients.py::test_an_extractor_thaws_at_its_step_as_if_it_began_there",
        ),
        (
            "losses train the parts that are closed to them",
            "if name not in trained)",
            "if name in trained)",
            "agents/test_gradients.py::test_losses_train_what_is_declared_and_nothing_else",
        ),
        (
            "of several losses the last one trains",
            "total[index] = gradient if before is None else before + gradient",
            "total[index] = gradient",
            "agents/test_gradients.py::test_routed_gradients_are_those_of_each_loss_alone",
        ),
        (
            "frozen parameters are trained",
            "if parameter.requires_grad]",
            "if parameter.requires_grad or True]",
            "agents/test_gradients.py::test_a_frozen_extractor_never_changes",
        ),
    ),
    *plant(
        "agents/learning/update_rules.py",
        "agents/test_optimizer.py",
        (
            "RMSprop in TensorFlow's form begins with no square",
            "torch.ones_like(parameters)",
            "torch.zeros_like(parameters)",
        ),
        (
            "RMSprop has eps inside of the root",
            "(variance.clamp(min=0.0).sqrt() + self.eps)",
            "(variance.clamp(min=0.0) + self.eps).sqrt()",
        ),
        (
            "gradients that are not finite reach moments",
            "gradients.masked_fill(weight == 0, 0.0)",
            "gradients",
        ),
        (
            "Adam moves in steps that must not count",
            "found_inf=1 - weight",
            "found_inf=0 * weight",
        ),
    ),
]
