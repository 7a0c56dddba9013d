"""Faults of action masks, wherever an action is chosen or weighed."""

from tests.planted.fault import plant

_TARGETS = "agents/test_action_masks.py::test_targets_are_of_legal_actions"

FAULTS = [
    *plant(
        "agents/dqn.py",
        _TARGETS,
        (
            "Q-learning bootstraps from illegal actions",
            "mask_illegal(outputs, legal).amax(-1)",
            "outputs.amax(-1)",
        ),
        (
            "double Q-learning selects illegal actions",
            "mask_illegal(head.value(head(summary, noise[2])), legal)",
            "head.value(head(summary, noise[2]))",
        ),
        (
            "distributional Q-learning selects illegal actions",
            "mask_illegal(head.value(outputs), legal)",
            "head.value(outputs)",
        ),
        (
            "targets are masked as the steps before them",
            "self.networks.legal(window.observations, bootstrap.steps)",
            "self.networks.legal(window.observations, learnt)",
        ),
    ),
    *plant(
        "agents/pqn.py",
        "agents/test_action_masks.py::test_returns_of_pqn_are_of_legal_actions",
        (
            "PQN bootstraps from illegal actions",
            "mask_illegal(values, rollout.legal)",
            "values + 0",
        ),
    ),
    *plant(
        "agents/ppo.py",
        "agents/test_action_masks.py::test_probabilities_of_the_rollout_are_those_of_acting",
        (
            "PPO's rollout is of the policy without masks",
            "self.networks.policy(rollout.summary, rollout.legal, slice(-1))",
            "self.networks.policy(rollout.summary, None)",
        ),
    ),
    *plant(
        "agents/sac.py",
        "agents/test_action_masks.py::test_sac_asks_for_entropy_among_legal_actions",
        (
            "SAC asks for the entropy of illegal actions",
            "masked_mean(legal[self.learner.learnt].sum(-1).log(), valid)",
            "math.log(legal.shape[-1])",
        ),
        (
            "SAC's actor weighs illegal actions",
            "self.networks.policy(read.actor, legal, self.learner.learnt)",
            "self.networks.policy(read.actor, None)",
        ),
        (
            "SAC's target weighs illegal actions",
            "self.networks.policy(summary, legal, steps)",
            "self.networks.policy(summary, None)",
            "agents/test_action_masks.py::test_targets_of_sac_are_of_legal_actions",
        ),
    ),
    *plant(
        "agents/learning/rollout_learner.py",
        "agents/test_action_masks.py::test_a_frozen_extractor_leaves_the_masks_to_the_gradient_steps",
        (
            "frozen features leave no masks",
            '"legal": None if legal is None else legal[:-1],',
            '"legal": None,',
        ),
    ),
    *plant(
        "agents/learning/unroll.py",
        "agents/test_action_masks.py",
        (
            "gradient steps are of the policy without masks",
            "networks.policy(summary, batch.legal)",
            "networks.policy(summary, None)",
            "agents/test_action_masks.py::test_probabilities_of_the_rollout_are_those_of_acting",
        ),
    ),
    *plant(
        "agents/agent.py",
        "agents/test_action_masks.py::test_no_agent_ever_tries_a_closed_door",
        (
            "the policy acts without its mask",
            "noise = head.mask_noise(noise, head.legal_array(mask), self.generator)",
            "pass",
        ),
        (
            "warming up ignores the mask",
            "uniform_actions(head, mask,",
            "uniform_actions(head, None,",
        ),
    ),
    *plant(
        "networks/heads/greedy.py",
        "networks/test_legal_actions.py",
        (
            "exploring is not uniform among legal actions",
            "draw_legal(legal[exploring], random)",
            "legal[exploring].argmax(1)",
        ),
        (
            "combinations need one legal option alone",
            "legal[..., :, None] & own[..., None, :]",
            "legal[..., :, None] | own[..., None, :]",
        ),
    ),
    *plant(
        "envs/wrappers/action_mask.py",
        "envs/test_action_mask.py",
        (
            "a truncated episode forgets its mask",
            "told = None if terminated else self._told(info)",
            "told = None if terminated or truncated else self._told(info)",
        ),
        ("every action is legal for once", "legal[~has_any] = True", "legal[:] = True"),
        (
            "copies in a vector environment are not asked",
            "if call and all(call(",
            "if call and not all(call(",
        ),
        ("a list of choices is no mask", "if found == {dimensions} else told", "if () else told"),
    ),
    *plant(
        "envs/making/make.py",
        "envs/test_action_mask.py",
        (
            "what hides observations hides masks",
            '[("env.action_mask", mask_apart)] if env.action_mask else []',
            "[]",
        ),
    ),
    *plant(
        "training/exporting/acting.py",
        "training/test_exporting.py::test_a_module_without_its_mask_says_what_it_needs",
        (
            "a module acts without its mask",
            "if action_mask is None and self._has_masks:",
            "if False:",
        ),
    ),
]
