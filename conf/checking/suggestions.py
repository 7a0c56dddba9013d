"""Suggestions: the nearest word, or our name for another library's."""

from collections.abc import Collection
from difflib import get_close_matches

STABLE_BASELINES3 = {
    "gamma": "agent.discount",
    "gae_lambda": "agent.gae_lambda",
    "n_steps": "agent.rollout_length",
    "n_epochs": "agent.num_epochs",
    "batch_size": "agent.num_minibatches",
    "clip_range": "agent.clip_range",
    "clip_range_vf": "agent.value_clip_range",
    "vf_coef": "agent.value_coefficient",
    "ent_coef": "agent.entropy_coefficient",
    "normalize_advantage": "agent.normalize_advantages",
    "target_kl": "agent.target_kl",
    "learning_rate": "optimizer.learning_rate",
    "max_grad_norm": "optimizer.max_grad_norm",
    "optimizer_class": "optimizer",
    "optimizer_kwargs": "optimizer",
    "use_rms_prop": "optimizer",
    "rms_prop_eps": "optimizer.eps",
    "total_timesteps": "total_env_steps",
    "n_timesteps": "total_env_steps",
    "n_envs": "env.num_envs",
    "env_kwargs": "env.kwargs",
    "env_wrapper": "env.wrappers",
    "vec_env_cls": "env.vectorization",
    "policy_kwargs": "extractor",
    "net_arch": "extractor.hidden_sizes",
    "activation_fn": "extractor.activation",
    "ortho_init": "extractor.initialization",
    "log_std_init": "policy_head.initial_log_std",
    "features_extractor_class": "extractor",
    "features_extractor_kwargs": "extractor",
    "share_features_extractor": "share_backbone",
    "lstm_hidden_size": "memory.hidden_size",
    "n_lstm_layers": "memory.num_layers",
    "shared_lstm": "share_backbone",
    "enable_critic_lstm": "critic.memory",
    "norm_obs": "normalize_observations",
    "norm_reward": "normalize_rewards",
    "eval_freq": "evaluation.interval",
    "n_eval_episodes": "evaluation.episodes",
    "save_freq": "checkpoint.interval",
    "tensorboard_log": "tracking.tensorboard",
    "log_interval": "tracking.interval",
    "progress_bar": "tracking.progress",
    "terminal_on_life_loss": "env.life_loss",
    "clip_reward": "clip_rewards",
    "frame_stack": "env.frame_stack",
    "algo": "agent",
    "buffer_size": "agent.buffer_size",
    "learning_starts": "agent.learning_starts",
    "train_freq": "agent.train_frequency",
    "gradient_steps": "agent.replay_ratio",
    "target_update_interval": "agent.target_update_interval",
    "tau": "agent.polyak_rate",
    "exploration_initial_eps": "agent.epsilon",
    "exploration_final_eps": "agent.final_epsilon",
    "exploration_fraction": "agent.epsilon_fraction",
    "replay_buffer_class": "agent.prioritized",
    "optimize_memory_usage": "agent.buffer_size",
    "n_quantiles": "value_head.quantiles",
}

CLEANRL = {
    "env_id": "env.id",
    "num_envs": "env.num_envs",
    "num_steps": "agent.rollout_length",
    "update_epochs": "agent.num_epochs",
    "num_minibatches": "agent.num_minibatches",
    "clip_coef": "agent.clip_range",
    "clip_vloss": "agent.value_clip_range",
    "norm_adv": "agent.normalize_advantages",
    "anneal_lr": "optimizer.schedule",
    "torch_deterministic": "seed",
    "cuda": "device",
    "track": "tracking",
    "exp_name": "run_dir",
    "capture_video": "evaluation.video",
    "buffer_size": "agent.buffer_size",
    "learning_starts": "agent.learning_starts",
    "train_frequency": "agent.train_frequency",
    "target_network_frequency": "agent.target_update_interval",
    "tau": "agent.polyak_rate",
    "start_e": "agent.epsilon",
    "end_e": "agent.final_epsilon",
    "exploration_fraction": "agent.epsilon_fraction",
    "prioritized_replay_alpha": "agent.priority_exponent",
    "prioritized_replay_beta": "agent.importance_exponent",
    "n_atoms": "value_head.bins",
    "v_min": "value_head.support",
    "v_max": "value_head.support",
    "q_lambda": "agent.td_lambda",
}

ELSEWHERE = {
    "lr": "optimizer.learning_rate",
    "lam": "agent.gae_lambda",
    "lambda": "agent.gae_lambda",
    "epochs": "agent.num_epochs",
    "entropy_coef": "agent.entropy_coefficient",
    "value_coef": "agent.value_coefficient",
    "grad_clip": "optimizer.max_grad_norm",
    "env_name": "env.id",
    "max_episode_steps": "env.time_limit",
    "timesteps": "total_env_steps",
    "total_steps": "total_env_steps",
    "hidden_dim": "memory.hidden_size",
    "seq_len": "memory.sequence_length",
    "bptt": "memory.sequence_length",
    "layers": "extractor.hidden_sizes",
    "network": "extractor",
    "encoder": "extractor",
    "rnn": "memory",
    "algorithm": "agent",
    "env_steps": "total_env_steps",
    "logdir": "run_dir",
    "log_dir": "run_dir",
    "save_dir": "run_dir",
    "output_dir": "run_dir",
    "eval": "evaluation",
    "threads": "num_threads",
    "torch_compile": "compile",
    "reward_clipping": "clip_rewards",
    "episodic_life": "env.life_loss",
    "replay_size": "agent.buffer_size",
    "memory_size": "agent.buffer_size",
    "utd": "agent.replay_ratio",
    "update_to_data_ratio": "agent.replay_ratio",
    "target_update_freq": "agent.target_update_interval",
    "eps_start": "agent.epsilon",
    "eps_end": "agent.final_epsilon",
    "eps_decay": "agent.epsilon_fraction",
    "double_dqn": "agent.double_q",
    "noisy_nets": "agent.noisy",
    "noisy_net": "agent.noisy",
    "num_atoms": "value_head.bins",
}

# Names for agents with a replay buffer; for other agents those above.
OF_REPLAY = {"batch_size": "agent.batch_size", "n_steps": "agent.n_step"}

# Notes beside a name.
NOTES = {
    "batch_size": "batch_size = agent.rollout_length x env.num_envs / agent.num_minibatches; "
    "of dqn: agent.batch_size",
    "n_steps": "of dqn: agent.n_step",
    "policy_kwargs": "with memory, policy_head and value_head",
    "net_arch": "policy_head.hidden_sizes and value_head.hidden_sizes come after the memory",
    "anneal_lr": "linear or constant",
    "clip_vloss": "a range, or null for none",
    "clip_range_vf": "a range, or null for none",
    "enable_critic_lstm": "null: a memory like the actor's; memory@critic.memory=none: none",
    "torch_deterministic": "on a CPU a seed always gives the same run",
    "algo": "agent=ppo",
    "use_rms_prop": "optimizer=rmsprop, or rmsprop_tf",
    "tau": "1 copies",
    "train_freq": "steps of each environment",
    "gradient_steps": "for each environment step",
    "target_update_freq": "counted in env steps",
    "exploration_fraction": "of total_env_steps",
    "eps_decay": "the share of total_env_steps that it takes",
    "replay_buffer_class": "true or false",
    "optimize_memory_usage": "every observation is kept once, always",
    "n_atoms": "with value_head=c51",
    "num_atoms": "with value_head=c51",
    "n_quantiles": "with value_head=quantile",
    "v_min": "[low, high]",
    "v_max": "[low, high]",
    "target_kl": "the update stops beyond it",
    "terminal_on_life_loss": "in training alone",
}

VOCABULARY = {**ELSEWHERE, **CLEANRL, **STABLE_BASELINES3}


def nearest(word: str, words: Collection[str], cutoff: float = 0.66) -> str | None:
    """Find the closest word, ignoring case; None if nothing is close.

    A cutoff of 0.66 accepts a swap in a word of three letters; 1 is the same word.
    """
    by_lower = {candidate.lower(): candidate for candidate in sorted(words)}
    matches = get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None


def did_you_mean(word: str, words: Collection[str]) -> str:
    """Return the end of a message, empty if nothing is close: `; did you mean lstm?`."""
    match = nearest(word, words)
    return f"; did you mean {match}?" if match else ""


def key_hint(key: str, known: Collection[str]) -> str:
    """Return the end of a message about an unknown key, empty if there is no hint.

    Args:
        key: the path that was given: `agent.clip_rang`.
        known: every path that exists.
    """
    parent, dot, leaf = key.rpartition(".")
    if translates(key, known):
        return _translation(_word(leaf), parent, known)
    by_leaf: dict[str, list[str]] = {}
    for path in sorted(known):
        by_leaf.setdefault(path.rpartition(".")[2], []).append(path)
    if len(by_leaf.get(leaf, ())) == 1:
        return f"; did you mean {by_leaf[leaf][0]}?"
    if _word(leaf) in VOCABULARY:
        return _translation(_word(leaf), parent, known)
    siblings = [name for name, paths in by_leaf.items() if f"{parent}{dot}{name}" in paths]
    sibling = nearest(leaf, siblings)
    if sibling:
        return f"; did you mean {parent}{dot}{sibling}?"
    elsewhere = nearest(leaf, by_leaf)
    match = nearest(key, known, cutoff=0.8) if elsewhere is None else by_leaf[elsewhere][0]
    return f"; did you mean {match}?" if match else ""


def translates(key: str, known: Collection[str]) -> bool:
    """Tell whether an unknown key is another library's name for an existing key."""
    word = _word(key.rpartition(".")[2])
    meanings = (VOCABULARY.get(word), OF_REPLAY.get(word))
    return any(ours in known and not f".{ours}".endswith(f".{word}") for ours in meanings if ours)


def _word(leaf: str) -> str:
    return leaf.replace("-", "_").lower()


def _translation(word: str, parent: str, known: Collection[str]) -> str:
    """Return our name for another library's."""
    if OF_REPLAY.get(word) in known:
        return f"; in this project it is {OF_REPLAY[word]}"
    ours = VOCABULARY[word]
    here = f"{parent}.{ours.rpartition('.')[2]}"
    if here in known:
        return f"; in this project it is {here}"
    note = f" ({NOTES[word]})" if word in NOTES else ""
    lacking = "" if ours in known else ", which nothing that is chosen here has"
    return f"; in this project it is {ours}{note}{lacking}"
