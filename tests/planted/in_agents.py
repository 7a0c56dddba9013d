"""Faults in returns, losses and agents."""

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
            "a sequence's priority takes the largest error for the mean",
            "max_share * kept.amax(0) + (1 - max_share) * mean",
            "(1 - max_share) * kept.amax(0) + max_share * mean",
            "agents/test_off_policy.py",
        ),
        (
            "a sequence's mean error counts steps that only reset",
            "kept.sum(0) / valid.sum(0).clamp(min=1)",
            "kept.mean(0)",
            "agents/test_off_policy.py",
        ),
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
            ".sum((-2, -1)) / count",
            ".sum((-2, -1)) / valid.numel()",
        ),
        (
            "advantages are centred by all steps, those that reset too",
            "advantages - average(masked_mean(advantages, valid, count))",
            "advantages - advantages.mean()",
        ),
    ),
    *plant(
        "agents/ppo.py",
        "agents/test_on_policy.py::test_the_value_s_loss_has_its_coefficient",
        (
            "PPO leaves the value coefficient out",
            '"critic": options.value_coefficient * value_loss',
            '"critic": value_loss',
        ),
        (
            "PPO stops at the target KL itself, not at 1.5 of it",
            "average(kl) > 1.5 * options.target_kl",
            "average(kl) > options.target_kl",
            "agents/test_ppo.py::test_target_kl_is_passed_by_half_of_it_and_no_more",
        ),
        (
            "PPO lowers entropy",
            "policy_loss - entropy_coefficient * entropy",
            "policy_loss + entropy_coefficient * entropy",
            "agents/test_ppo.py::test_the_entropy_bonus_alone_raises_entropy",
        ),
        (
            "PPO counts ratios of actions that a reset ignored",
            "torch.where(valid, log_ratio, 0.0)",
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
            "PPO scales advantages by steps that only reset",
            "normalized_advantages(advantages, valid, count)",
            "normalized_advantages(advantages, torch.ones_like(valid))",
            "agents/test_on_policy.py::test_rewards_and_actions_of_resetting_steps_never_matter",
        ),
        (
            "PPO measures clipping by the other side alone",
            "(ratio - 1).abs() > clip_range",
            "(ratio - 1) > clip_range",
            "agents/test_ppo.py::test_metrics_are_means_over_the_minibatches",
        ),
        (
            "PPO waits for a target KL that nobody gave",
            "self.may_stop = options.target_kl is not None",
            "self.may_stop = False",
            "agents/test_ppo.py::test_target_kl_stops_before_the_step_that_went_too_far",
        ),
    ),
    *plant(
        "agents/a2c.py",
        "agents/test_on_policy.py::test_the_value_s_loss_has_its_coefficient",
        (
            "A2C leaves the value coefficient out",
            '"critic": options.value_coefficient * value_loss',
            '"critic": value_loss',
        ),
    ),
    *plant(
        "agents/pqn.py",
        "agents/test_pqn.py::test_lambda_zero_is_one_step_q_learning",
        (
            "PQN bootstraps from the mean action",
            "values.amax(-1)",
            "values.mean(-1)",
        ),
        (
            "PQN learns from steps that only reset",
            "masked_mean(head.loss(output, batch.returns), batch.valid)",
            "head.loss(output, batch.returns).mean()",
            "agents/test_on_policy.py::test_rewards_and_actions_of_resetting_steps_never_matter",
        ),
    ),
    *plant(
        "agents/learning/critics.py",
        "agents/test_action_critics.py::test_losses_are_those_of_the_definition",
        (
            "the target policy reads the step that is learnt",
            "actor.at(window.observations, state, window.is_first, steps)",
            "actor.at(window.observations, state, window.is_first, self._learner.learnt)",
        ),
        (
            "the target critics read the step that is learnt",
            "summary = self._learner.target_summary(window, bootstrap.steps)",
            "summary = self._learner.target_summary(window, self._learner.learnt)",
        ),
        (
            "a separate critic learns from the actor's state",
            'self._learner.read(window, "critic", states["critic"])',
            'self._learner.read(window, "critic", states["actor"])',
        ),
        (
            "the online critics are their own targets",
            "head = self._target_head if target else self._head\n        if self._has",
            "head = self._head\n        if self._has",
        ),
        (
            "the critics' losses are averaged over the critics",
            "head.loss(outputs, targets).sum(-1)",
            "head.loss(outputs, targets).mean(-1)",
        ),
    ),
    *plant(
        "agents/sac.py",
        "agents/test_action_critics.py::test_losses_are_those_of_the_definition",
        (
            "entropy outlives a termination",
            "bootstrap.discounts * self.temperature",
            "0.8 * self.temperature",
        ),
        (
            "SAC's temperature falls where entropy is short",
            "log_alpha * (entropy - target)",
            "log_alpha * (target - entropy)",
        ),
        (
            "SAC's actor lowers entropy",
            "return alpha * log_probs - self._followed",
            "return -alpha * log_probs - self._followed",
        ),
        (
            "one noise serves both steps of SAC",
            "policy.sample_with_log_prob(noise.next)",
            "policy.sample_with_log_prob(noise.here)",
        ),
        (
            "the entropy of discrete actions is not weighed",
            "sum(-1) - alpha * entropy, entropy",
            "sum(-1) - entropy, entropy",
            "agents/test_action_critics.py::test_discrete_sac_takes_expectations_over_every_action",
        ),
    ),
    *plant(
        "agents/td3.py",
        "agents/test_action_critics.py::test_losses_are_those_of_the_definition",
        (
            "the noise of TD3's targets is not clipped",
            "disturbance = (self.options.target_noise * noise.actions).clamp(-limit, limit)",
            "disturbance = self.options.target_noise * noise.actions",
        ),
        (
            "TD3's target actions leave the bounds",
            "actions.clamp(-1, 1)",
            "actions",
        ),
        (
            "TD3's targets follow every gradient step",
            "policy_delay=delay",
            "policy_delay=1",
            "agents/test_action_critics.py::test_delayed_actors_and_targets_move_at_every_so_manieth_step",
        ),
    ),
    *plant(
        "networks/heads/critics.py",
        "agents/test_action_critics.py",
        (
            "the highest critic counts",
            "return outputs.amin(2)",
            "return outputs.amax(2)",
        ),
        (
            "critics have the later weights of the first",
            "self.output(hidden).transpose(0, 1)",
            "self.output(hidden)[:1].expand(self.output_shape[0], -1, -1).transpose(0, 1)",
        ),
        (
            "the critic that TD3's actor follows is the last",
            "each[:1] if each.ndim",
            "each[-1:] if each.ndim",
        ),
    ),
    *plant(
        "agents/learning/critics.py",
        "agents/test_critic_options.py",
        (
            "the subset of critics is always the first",
            "chosen = generator.permutation(self._count)[: self._subset]",
            "chosen = np.arange(self._count)[: self._subset]",
        ),
        (
            "the lowest quantiles are dropped",
            "quantiles = outputs.flatten(2).sort(-1).values",
            "quantiles = outputs.flatten(2).sort(-1, descending=True).values",
        ),
        (
            "quantiles are dropped from the pool, not for each critic",
            "outputs.shape[2] * self._dropped",
            "self._dropped",
        ),
        (
            "the actor's actions change the batch statistics",
            "            norm.eval()\n",
            "            norm.train(norm.training)\n",
        ),
        (
            "critics without target networks bootstrap with a gradient",
            "self.lowest(later.detach(), following.chosen)",
            "self.lowest(later, following.chosen)",
        ),
    ),
    *plant(
        "networks/layers.py",
        "networks/test_layers.py",
        (
            "batch renormalisation forgets to shift",
            "/ own * scale + shift)",
            "/ own * scale)",
        ),
        (
            "batch renormalisation is warm at once",
            "is_warm = self.steps >= _WARM_UP",
            "is_warm = self.steps >= 0",
        ),
        (
            "batch statistics act",
            "        if not self.training:\n",
            "        if len(rows) < 2:\n",
        ),
        (
            "all critics have the weights of the first layer normalisation",
            "return normalized * self.weight + self.bias",
            "return normalized * self.weight[:1] + self.bias",
        ),
        (
            "blocks are not residual",
            "return rows + block",
            "return block",
        ),
    ),
    *plant(
        "networks/augmentation.py",
        "networks/test_augmentation.py",
        (
            "images are shifted the other way",
            "+ offset[:, None]).clamp",
            "- offset[:, None]).clamp",
        ),
    ),
    *plant(
        "agents/learning/replay_learner.py",
        "agents/test_critic_options.py",
        (
            "shifted images are not learnt from",
            "window = replace(window, observations=images)",
            "window = replace(window, observations=window.observations)",
        ),
    ),
    *plant(
        "networks/heads/box.py",
        "agents/test_action_critics.py::test_evaluation_and_loaded_policies_do_not_warm_up",
        (
            "deterministic policies do not explore",
            "return noise * np.float32(self.exploration_noise)",
            "return 0 * noise",
        ),
    ),
    *plant(
        "agents/agent.py",
        "agents/test_modes.py",
        (
            "a delayed loss is due one step early",
            "step % self.delays.get(n, 1) == 0",
            "step % self.delays.get(n, 1) <= 1",
            "agents/test_action_critics.py::test_delayed_actors_and_targets_move_at_every_so_manieth_step",
        ),
        (
            "evaluation acts as warm-up does",
            "self.is_warming_up = self.is_warming_up, False",
            "self.is_warming_up = self.is_warming_up, self.is_warming_up",
            "agents/test_action_critics.py::test_evaluation_and_loaded_policies_do_not_warm_up",
        ),
        (
            "an actor trains the backbone that it shares",
            'trains = {**trains, "actor": ("policy_head",)}',
            "pass",
            "agents/test_gradients.py",
        ),
        (
            "dropout is on in targets",
            "            self.train(False)\n",
            "            self.train(True)\n",
        ),
        (
            "dropout is off in what is learnt after targets",
            "            self.train(True)\n",
            "            self.train(False)\n",
        ),
    ),
    *plant(
        "agents/dqn.py",
        "agents/test_noise.py",
        (
            "DQN writes weighted errors as priorities",
            "learner.priorities(head.error(output, target), valid)",
            "learner.priorities(head.error(output, target) * (1 if weights is None else weights), valid)",
            "agents/test_dqn.py::test_priorities_are_errors_without_weights_and_change_what_is_drawn",
        ),
        (
            "DQN leaves importance weights out",
            "losses if weights is None else losses * weights",
            "losses",
            "agents/test_dqn.py::test_importance_weights_scale_each_window_s_loss",
        ),
        (
            "network and target have the same noise",
            "return network, target, choosing",
            "return network, network, choosing",
        ),
        (
            "the network chooses with the noise that it learns with",
            "return network, target, choosing",
            "return network, target, network",
        ),
        (
            "noisy layers learn without noise",
            "learner.values(window, state, noise[0])",
            "learner.values(window, state, None)",
        ),
        (
            "the target has the noise of the network",
            "learner.target_values(window, bootstrap.steps, noise[1])",
            "learner.target_values(window, bootstrap.steps, noise[0])",
        ),
        (
            "the network chooses without noise",
            "head(summary, noise[2])",
            "learner.values(window, state, None)",
        ),
        (
            "a learnt support sees values that are not rescaled",
            "bootstrapped(bootstrap.rewards, bootstrap.discounts, value, self.scale)",
            "bootstrapped(bootstrap.rewards, bootstrap.discounts, self._returns(following), None)",
            "agents/test_learnt_support.py",
        ),
        (
            "double Q-learning values by the network that chose",
            "following = select_actions(outputs, best)",
            "following = select_actions(head(summary, noise[2]), best)",
            "agents/test_dqn.py::test_a_double_target_is_chosen_by_one_network_and_valued_by_the_other",
        ),
        (
            "double Q-learning chooses with the memory before the burn-in",
            "state,\n                window.is_first[rest]",
            "window.state,\n                window.is_first[rest]",
            "agents/test_dqn.py::test_memories_count_like_the_environments_from_wherever_a_window_starts",
        ),
        (
            "rewards of targets are rescaled twice",
            "head.target(bootstrap.rewards, bootstrap.discounts, following, self.scale)",
            "head.target(self.scale(bootstrap.rewards), bootstrap.discounts, following, self.scale)",
            "agents/test_value_rescaling.py",
        ),
        (
            "value rescaling is never built",
            "Rescaling(eps=_SLOPE) if options.value_rescaling else None",
            "None",
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
            "            finally:\n                self.eval()",
            "            finally:\n                self.train()",
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
            "self.generator, self.is_warming_up = kept, was_warming_up",
            "self.is_warming_up = was_warming_up",
            "agents/test_acting.py::test_borrowed_generator_is_given_back_even_after_an_error",
        ),
        (
            "what unfroze is trained as if it were frozen",
            "unfreeze(self.env_steps):\n                self.gradient_step.renew()",
            "unfreeze(self.env_steps):\n                pass",
            "agents/test_movement.py::test_an_extractor_unfreezes_at_its_step_as_if_it_began_there",
        ),
        (
            "nothing unfreezes",
            "backbone.unfreeze(self.env_steps)",
            "backbone.unfreeze(0)",
            "agents/test_movement.py::test_an_extractor_unfreezes_at_its_step_as_if_it_began_there",
        ),
        (
            "epsilon stays where it began",
            "set_epsilon(self.epsilon(self.progress))",
            "set_epsilon(self.epsilon(0.0))",
            "agents/test_dqn.py::test_epsilon_falls_with_environment_steps",
        ),
        (
            "numbers with a schedule stay where they began",
            "torch.tensor(schedule(self.progress), device=self.device)",
            "torch.tensor(schedule(0.0), device=self.device)",
            "agents/test_ppo.py::test_every_round_learns_at_the_schedules_of_the_steps_before_it",
        ),
        (
            "policies explore where they were told not to",
            "if explore else None",
            "if True else None",
            "agents/test_acting.py::test_the_generator_alone_decides_and_exploration_can_be_off",
        ),
    ),
]
