"""Faults in what agents learn by: rollouts, replays, the routes of gradients, optimizers."""

# ruff: noqa: E501 (statements are quoted as they stand)
from tests.planted.fault import plant

MATRIX = "agents/test_gradients.py::test_losses_train_what_is_declared_and_nothing_else"

FAULTS = [
    *plant(
        "agents/learning/rollout_learner.py",
        "agents/test_reward_scaling.py",
        (
            "rollouts are learnt from in evaluation mode",
            "with agent.training_mode():",
            "with torch.enable_grad():",
            "agents/test_modes.py",
        ),
        (
            "one pass over a rollout too few",
            "for _ in range(self.num_epochs):",
            "for _ in range(1, self.num_epochs):",
            "agents/test_ppo.py::test_without_target_kl_every_step_counts",
        ),
        (
            "minibatches are drawn from a generator that starts anew each time",
            "self.num_minibatches, agent.generator)",
            "self.num_minibatches, __import__('numpy').random.default_rng(0))",
            "agents/test_ppo.py::test_every_pass_is_a_partition_of_its_own",
        ),
        (
            "statistics of observations move by steps that only reset",
            "agent.networks.observe(trajectory.step_observations, trajectory.valid)",
            "agent.networks.observe(trajectory.step_observations, torch.ones_like(trajectory.valid))",
            "agents/test_ppo_recomputes.py::test_statistics_move_at_the_end_of_learning_by_valid_observations_only",
        ),
        (
            "the value head of a rollout is shown no returns",
            "metrics |= agent.networks.value_head.observe(batch.returns, batch.valid)",
            "metrics |= {}",
            "agents/test_learnt_support.py",
        ),
        (
            "a rollout is learnt from to its end, whatever a loss says",
            "if agent.may_stop and step.is_stopped:",
            "if False:",
            "agents/test_ppo.py::test_target_kl_stops_before_the_step_that_went_too_far",
        ),
        (
            "returns come from raw rewards",
            "rewards = scaling(rewards)",
            "rewards = rewards + 0",
        ),
        (
            "rewards are scaled by the statistics of the rollout before",
            "scaling.observe(rewards, first[0], trajectory.ended, valid)\n            rewards = scaling(rewards)",
            "rewards, before = scaling(rewards), rewards\n            scaling.observe(before, first[0], trajectory.ended, valid)",
        ),
        (
            "the return that scales rewards runs over truncations",
            "first[0], trajectory.ended, valid",
            "first[0], trajectory.terminated, valid",
        ),
        (
            "the return that scales rewards runs over an episode that opens a rollout",
            "rewards, first[0], trajectory.ended,",
            "rewards, torch.zeros_like(first[0]), trajectory.ended,",
        ),
        (
            "a critic's own memory is not carried to the next rollout",
            "self.critic_state.copy_(critic.after)",
            "self.critic_state.copy_(self.critic_state)",
            "agents/test_stream.py::test_critic_goes_on_from_before_the_next_rollout",
        ),
        (
            "steps that only reset count",
            '"valid": valid,',
            '"valid": torch.ones_like(valid),',
            "agents/test_on_policy.py::test_rewards_and_actions_of_resetting_steps_never_matter",
        ),
    ),
    *plant(
        "agents/learning/unroll.py",
        "agents/test_ppo_recomputes.py::test_first_update_values_what_it_recomputed",
        (
            "the critic's memory begins with the actor's state",
            '"critic", batch, batch.critic_state[0]',
            '"critic", batch, batch.actor_state[0]',
        ),
        (
            "the actor's memory begins every sequence empty",
            '"actor", batch, batch.actor_state[0]',
            '"actor", batch, torch.zeros_like(batch.actor_state[0])',
            "agents/test_stream.py::test_minibatches_count_like_the_environments",
        ),
        (
            "a critic of its own is read without auxiliary losses",
            "readings |= own",
            "readings |= {}",
            "agents/test_auxiliary_weights.py",
        ),
    ),
    *plant(
        "agents/learning/replay_learner.py",
        "agents/test_off_policy.py",
        (
            "weights from elsewhere are not the target's",
            'after weights were loaded."""\n        self.target_network.update(1.0)',
            'after weights were loaded."""\n        self.target_network.update(0.0)',
            "agents/test_dqn.py::test_weights_from_elsewhere_are_the_target_s_too",
        ),
        (
            "priorities are never written",
            "self.replay.update(sample.starts, result.priorities.cpu())",
            "result.priorities.cpu()",
            "agents/test_dqn.py::test_priorities_are_errors_without_weights_and_change_what_is_drawn",
        ),
        (
            "importance weights never move",
            "self.importance_exponent(agent.progress)",
            "self.importance_exponent(0.0)",
            "agents/test_dqn.py::test_importance_weights_follow_progress",
        ),
        (
            "importance weights stay where they began",
            "exploration_schedule(options.importance_exponent, 1.0, 1.0)",
            "exploration_schedule(options.importance_exponent, options.importance_exponent, 1.0)",
            "training/test_build.py",
        ),
        (
            "a target that is copied at intervals follows every gradient step",
            "if self._polyak_rate < 1 and",
            "if self._polyak_rate <= 1 and",
            "agents/test_dqn.py::test_the_target_is_copied_between_blocks_by_environment_steps",
        ),
        (
            "a learnt support sees the first batch of a block alone",
            "if agent.networks.value_head.learns_support or (agent.is_watched and not number):",
            "if not number and (agent.networks.value_head.learns_support or agent.is_watched):",
            "agents/test_dqn.py::test_a_learnt_support_has_seen_the_targets_of_every_gradient_step",
        ),
        (
            "the target is always copied whole",
            "self.target_network.update(self._polyak_rate)",
            "self.target_network.update(1.0)",
            "agents/test_dqn.py::test_an_averaged_target_moves_after_each_gradient_step",
        ),
        (
            "windows are learnt from in evaluation mode",
            "with agent.training_mode():",
            "with torch.enable_grad():",
            "agents/test_modes.py",
        ),
        (
            "the clock counts steps that only reset",
            "resets.size - int(np.count_nonzero(resets))",
            "resets.size",
            "agents/test_dqn.py::test_steps_that_only_reset_are_no_environment_steps",
        ),
        (
            "statistics of replayed observations move by steps that only reset",
            "agent.networks.observe(seen.step_observations, seen.valid)",
            "agent.networks.observe(seen.step_observations, torch.ones_like(seen.valid))",
            "agents/test_dqn.py::test_steps_that_only_reset_are_no_environment_steps",
        ),
        (
            "the return that scales replayed rewards runs over truncations",
            "trajectory.rewards, trajectory.is_first[0], trajectory.ended, trajectory.valid",
            "trajectory.rewards, trajectory.is_first[0], trajectory.terminated, trajectory.valid",
            "agents/test_reward_scaling.py",
        ),
        (
            "the return that scales replayed rewards runs over what opens a trajectory",
            "steps = trajectory.rewards, trajectory.is_first[0]",
            "steps = trajectory.rewards, torch.zeros_like(trajectory.is_first[0])",
            "agents/test_reward_scaling.py",
        ),
        (
            "states are stored though none were asked for",
            "options.stored_state and state_size > 0",
            "state_size > 0",
            "training/test_build.py",
        ),
        (
            "single steps that only reset are drawn",
            "valid_step=options.burn_in if length == 1 else None",
            "valid_step=None",
            "training/test_build.py",
        ),
        (
            "the target is copied one step off",
            "after // every > before // every",
            "(after + 1) // every > (before + 1) // every",
        ),
        (
            "learning starts one round late",
            "after < self._learning_starts",
            "after <= self._learning_starts",
        ),
        (
            "fractions of gradient steps are lost to rounding",
            "* self._ratio + 1e-6)",
            "* self._ratio)",
        ),
        (
            "burnt-in memories are thrown away",
            "        if not self.learnt.start:\n",
            "        if True:\n",
            "agents/test_dqn.py::test_memories_count_like_the_environments_from_wherever_a_window_starts",
        ),
        (
            "replayed rewards are learnt raw",
            "window.rewards if scaling is None else scaling(window.rewards)",
            "window.rewards",
            "agents/test_dqn.py::test_rewards_are_scaled_when_sampled_and_raw_in_replay",
        ),
        (
            "truncation ends a replayed value, termination does not",
            "window.terminated,\n            window.truncated,",
            "window.truncated,\n            window.terminated,",
            "agents/test_dqn.py::test_targets_of_terminal_steps_are_their_rewards",
        ),
        (
            "a separate critic begins at the actor's stored state",
            'if backbone == "actor" or self._networks.shares_backbone:',
            "if True:",
            "agents/test_action_critics.py::test_losses_are_those_of_the_definition",
        ),
        (
            "burn-in takes a gradient",
            "with torch.no_grad():\n            _, state = module.forward(",
            "with torch.enable_grad():\n            _, state = module.forward(",
            "agents/test_dqn.py::test_burn_in_takes_no_gradient",
        ),
        (
            "burn-in runs over the starts of episodes",
            "state, window.is_first[steps]\n",
            "state, torch.zeros_like(window.is_first[steps])\n",
            "agents/test_dqn.py::test_memories_count_like_the_environments_from_wherever_a_window_starts",
        ),
        (
            "replayed steps that open episodes count as those that reset",
            "return ~window.is_first[self._following]",
            "return ~window.is_first[self.learnt]",
            "agents/test_dqn.py::test_steps_that_only_reset_change_nothing",
        ),
        (
            "what is learnt from begins with the burn-in",
            "self.learnt = slice(options.burn_in, options.burn_in + length)",
            "self.learnt = slice(0, length)",
            "agents/test_dqn.py::test_memories_count_like_the_environments_from_wherever_a_window_starts",
        ),
        (
            "replayed steps lead to themselves",
            "pick_steps(observations, self._following) if self._needs_next",
            "pick_steps(observations, learnt) if self._needs_next",
            "training/test_auxiliary.py::test_what_follows_is_of_the_same_episode",
        ),
        (
            "kept states are cleared one step off",
            "trajectory.is_first[:-1],\n        sequence_length=stride",
            "trajectory.is_first[1:],\n        sequence_length=stride",
            "agents/test_dqn.py::test_stored_states_are_those_that_acting_had",
        ),
        (
            "the target has a normalisation of its own",
            "inputs = [each for b in backbones for each in (b.inputs, b.normalization)]",
            "inputs = [b.inputs for b in backbones]",
            "agents/test_gradients.py::test_the_target_network_takes_no_gradient_and_shares_inputs_alone",
        ),
        (
            "the target shares the extractor",
            "inputs = [each for b in backbones for each in (b.inputs, b.normalization)]",
            "inputs = [each for b in backbones for each in (b.inputs, b.normalization, b.extractor)]",
            "agents/test_gradients.py::test_the_target_network_takes_no_gradient_and_shares_inputs_alone",
        ),
    ),
    *plant(
        "agents/learning/target_network.py",
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
        "agents/learning/unroll.py",
        "agents/test_pqn.py::test_the_memory_counts_steps_as_the_environments_do",
        (
            "the last observation is read without a memory",
            "backbone.memory(features[-1:], after, trajectory.is_first[-1:])",
            "backbone.memory(features[-1:], torch.zeros_like(after), trajectory.is_first[-1:])",
        ),
        (
            "features that a loss predicts take a gradient",
            "with torch.no_grad():\n            next_rows",
            "with torch.enable_grad():\n            next_rows",
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
            "for b, r in readings.items()]).sum()",
            "for b, r in readings.items()]).mean()",
        ),
        (
            "losses train parts that they do not name",
            "found[part].append(loss)",
            "[own.append(loss) for own in found.values() if loss not in own]",
            "agents/test_own_agents.py::test_an_actor_that_follows_its_critic_moves_no_weight_of_it",
        ),
        (
            "gradients that are configured close nothing",
            "if loss in gradients[path]]",
            "if loss in found[part]]",
            MATRIX,
        ),
        (
            "a whole backbone's configuration opens it to losses that do not name it",
            "open_to = trains if path == part else found[part]",
            "open_to = trains",
            "agents/test_own_agents.py::test_the_path_of_a_part_opens_it_and_an_alias_does_not",
        ),
        (
            "a part's own path opens it to nothing",
            "open_to = trains if path == part else found[part]",
            "open_to = found[part]",
            "agents/test_own_agents.py::test_the_path_of_a_part_opens_it_and_an_alias_does_not",
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
            "gradients of weights with few inputs are packed by output",
            "_by_input(gradient).flatten()",
            "gradient.flatten()",
        ),
        (
            "steps that are not finite count",
            "is_taken = norm < torch.inf",
            "is_taken = norm > -1",
        ),
        (
            "steps that are to be left out count",
            "is_taken = is_taken & active",
            "is_taken = is_taken | active",
        ),
        (
            "what is frozen for a while moves",
            "taken if weight is None else taken * weight",
            "taken if weight is None else weight",
            "agents/test_movement.py::test_an_extractor_unfreezes_at_its_step_as_if_it_began_there",
        ),
        (
            "what is frozen unfreezes one step late",
            "trains = env_steps >= group.frozen_until",
            "trains = env_steps > group.frozen_until",
            "agents/test_movement.py::test_an_extractor_unfreezes_at_its_step_as_if_it_began_there",
        ),
        (
            "frozen parameters are trained",
            "for p in own if p.requires_grad]",
            "for p in own]",
            "agents/test_movement.py::test_a_frozen_extractor_never_changes",
        ),
        (
            "weights are said to move from where they are",
            "moved = self.flat - before",
            "moved = before - before",
            "agents/test_movement.py::test_updates_are_told_in_units_of_the_weights",
        ),
    ),
    *plant(
        "agents/learning/gradient_step.py",
        MATRIX,
        (
            "losses train the parts that are closed to them",
            "trained = reached & allowed",
            "trained = set(reached)",
        ),
        (
            "all losses share one backward pass",
            "frozenset() if trained == reached else allowed",
            "frozenset()",
        ),
        (
            "of several losses the last one trains",
            "own if before is None else before + own",
            "own",
        ),
        (
            "of losses that share a pass the first one trains",
            "total = total + losses[name]",
            "total = total + 0 * losses[name]",
        ),
        (
            "auxiliary losses are added up without their weights",
            "torch.stack(list(own.values())) @ weights",
            "torch.stack(list(own.values())).sum()",
            "agents/test_auxiliary_weights.py",
        ),
        (
            "weights of auxiliary losses stay those of the first step",
            "        if self._has_auxiliary:\n            weights",
            "        if self._has_auxiliary and self._auxiliary_weights is None:\n            weights",
            "agents/test_auxiliary_weights.py",
        ),
        (
            "steps go on after a loss said stop",
            "active = ~found.stop if active is None else active & ~found.stop",
            "active = None",
            "agents/test_ppo.py::test_target_kl_stops_before_the_step_that_went_too_far",
        ),
        (
            "steps that a loss stopped are told as skipped",
            "skipped = 1 - taken if active is None else active.to(taken.dtype) - taken",
            "skipped = 1 - taken",
            "agents/test_ppo.py::test_target_kl_stops_before_the_step_that_went_too_far",
        ),
        (
            "metrics are those of the last minibatch",
            "torch.stack(found).mean()",
            "found[-1]",
            "agents/test_ppo.py::test_metrics_are_means_over_the_minibatches",
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
            "an optimizer of PyTorch takes steps that must not count",
            "weight.item() == 0",
            "weight.item() < 0",
        ),
        (
            "gradients that are not finite reach moments",
            "gradients.masked_fill(weight == 0, 0.0)",
            "gradients",
        ),
        (
            "Adam moves in steps that must not count",
            "found_inf=(1 - weight).float()",
            "found_inf=(0 * weight).float()",
        ),
    ),
]
