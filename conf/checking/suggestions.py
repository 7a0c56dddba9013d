"""Suggestions: the nearest word, or our name for another library's."""

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Key:
    """A key of ours and its names in other libraries, several of one library with spaces.

    Attributes:
        elsewhere: names that are used by others.
        note: printed beside our key.
        of_replay: our key for agents with a replay buffer, if it is another one.
    """

    ours: str
    sb3: str = ""
    cleanrl: str = ""
    elsewhere: str = ""
    note: str = ""
    of_replay: str = ""


KEYS = (
    Key("agent.discount", "gamma"),
    Key("agent.gae_lambda", "gae_lambda", "", "lam lambda"),
    Key("agent.rollout_length", "n_steps", note="of dqn: agent.n_step", of_replay="agent.n_step"),
    Key("agent.num_epochs", "n_epochs", "update_epochs", "epochs"),
    Key(
        "agent.num_minibatches",
        "batch_size",
        note="batch_size = agent.rollout_length x env.num_envs / agent.num_minibatches; "
        "of dqn: agent.batch_size",
        of_replay="agent.batch_size",
    ),
    Key("agent.clip_range", "clip_range", "clip_coef"),
    Key("agent.value_clip_range", "clip_range_vf", "clip_vloss", note="a range, or null for none"),
    Key("agent.value_coefficient", "vf_coef", "", "value_coef"),
    Key("agent.entropy_coefficient", "ent_coef", "", "entropy_coef"),
    Key("agent.normalize_advantages", "normalize_advantage", "norm_adv"),
    Key("agent.target_kl", "target_kl", note="the update stops beyond it"),
    Key("optimizer.learning_rate", "learning_rate", "", "lr"),
    Key("optimizer.max_grad_norm", "max_grad_norm", "", "grad_clip"),
    Key("optimizer", "optimizer_class optimizer_kwargs"),
    Key("optimizer", "use_rms_prop", note="optimizer=rmsprop, or rmsprop_tf"),
    Key("optimizer.eps", "rms_prop_eps"),
    Key("total_env_steps", "total_timesteps n_timesteps", "", "timesteps total_steps env_steps"),
    Key("env.num_envs", "n_envs", "num_envs"),
    Key("env.kwargs", "env_kwargs"),
    Key("env.wrappers", "env_wrapper"),
    Key("env.vectorization", "vec_env_cls"),
    Key("extractor", "policy_kwargs", note="with memory, policy_head and value_head"),
    Key(
        "extractor.hidden_sizes",
        "net_arch",
        "",
        "layers",
        note="policy_head.hidden_sizes and value_head.hidden_sizes come after the memory",
    ),
    Key("extractor.activation", "activation_fn"),
    Key("extractor.initialization", "ortho_init"),
    Key("policy_head.initial_log_std", "log_std_init"),
    Key("extractor", "features_extractor_class features_extractor_kwargs", "", "network encoder"),
    Key("share_backbone", "share_features_extractor shared_lstm"),
    Key("memory.hidden_size", "lstm_hidden_size", "", "hidden_dim"),
    Key("memory.num_layers", "n_lstm_layers"),
    Key(
        "critic.memory",
        "enable_critic_lstm",
        note="null: a memory like the actor's; memory@critic.memory=none: none",
    ),
    Key("normalize_observations", "norm_obs"),
    Key("normalize_rewards", "norm_reward"),
    Key("evaluation.interval", "eval_freq"),
    Key("evaluation.episodes", "n_eval_episodes"),
    Key("checkpoint.interval", "save_freq"),
    Key("tracking.tensorboard", "tensorboard_log"),
    Key("tracking.interval", "log_interval"),
    Key("tracking.progress", "progress_bar"),
    Key("env.life_loss", "terminal_on_life_loss", "", "episodic_life", note="in training alone"),
    Key("clip_rewards", "clip_reward", "", "reward_clipping"),
    Key("env.frame_stack", "frame_stack"),
    Key("agent", "algo", note="agent=ppo"),
    Key("agent.buffer_size", "buffer_size", "buffer_size", "replay_size memory_size"),
    Key("agent.learning_starts", "learning_starts", "learning_starts"),
    Key("agent.train_frequency", "train_freq", "train_frequency", note="steps of each environment"),
    Key(
        "agent.replay_ratio",
        "gradient_steps",
        "",
        "utd update_to_data_ratio",
        note="for each environment step",
    ),
    Key("agent.target_update_interval", "target_update_interval", "target_network_frequency"),
    Key("agent.target_update_interval", "", "", "target_update_freq", "counted in env steps"),
    Key("agent.polyak_rate", "tau", "tau", note="1 copies"),
    Key("agent.epsilon", "exploration_initial_eps", "start_e", "eps_start"),
    Key("agent.final_epsilon", "exploration_final_eps", "end_e", "eps_end"),
    Key(
        "agent.epsilon_fraction",
        "exploration_fraction",
        "exploration_fraction",
        "eps_decay",
        note="of total_env_steps",
    ),
    Key("agent.prioritized", "replay_buffer_class", note="true or false"),
    Key(
        "agent.buffer_size", "optimize_memory_usage", note="every observation is kept once, always"
    ),
    Key("value_head.quantiles", "n_quantiles", note="with value_head=quantile"),
    Key("env.id", "", "env_id", "env_name"),
    Key("agent.rollout_length", "", "num_steps"),
    Key("agent.num_minibatches", "", "num_minibatches"),
    Key("optimizer.schedule", "", "anneal_lr", note="linear or constant"),
    Key("seed", "", "torch_deterministic", note="on a CPU a seed always gives the same run"),
    Key("device", "", "cuda"),
    Key("tracking", "", "track"),
    Key("run_dir", "", "exp_name", "logdir log_dir save_dir output_dir"),
    Key("evaluation.video", "", "capture_video"),
    Key("agent.priority_exponent", "", "prioritized_replay_alpha"),
    Key("agent.importance_exponent", "", "prioritized_replay_beta"),
    Key("value_head.bins", "", "n_atoms", "num_atoms", note="with value_head=c51"),
    Key("value_head.support", "", "v_min v_max", note="[low, high]"),
    Key("agent.td_lambda", "", "q_lambda"),
    Key("env.time_limit", "", "", "max_episode_steps"),
    Key("memory.sequence_length", "", "", "seq_len bptt"),
    Key("memory", "", "", "rnn"),
    Key("agent", "", "", "algorithm"),
    Key("evaluation", "", "", "eval"),
    Key("num_threads", "", "", "threads"),
    Key("compile", "", "", "torch_compile"),
    Key("agent.double_q", "", "", "double_dqn"),
    Key("agent.noisy", "", "", "noisy_nets noisy_net"),
)
VOCABULARY = {
    word: key for key in KEYS for word in " ".join([key.sb3, key.cleanrl, key.elsewhere]).split()
}


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
    by_leaf: dict[str, list[str]] = {}
    for path in sorted(known):
        by_leaf.setdefault(path.rpartition(".")[2], []).append(path)
    is_unique = len(by_leaf.get(leaf, ())) == 1
    word = VOCABULARY.get(_word(leaf))
    if word and (translates(key, known) or not is_unique):
        return _translation(word, parent, known)
    siblings = [name for name, paths in by_leaf.items() if f"{parent}{dot}{name}" in paths]
    sibling = nearest(leaf, siblings)
    if sibling and not is_unique:
        return f"; did you mean {parent}{dot}{sibling}?"
    elsewhere = nearest(leaf, by_leaf)  # the same word, if there is one
    match = nearest(key, known, cutoff=0.8) if elsewhere is None else by_leaf[elsewhere][0]
    return f"; did you mean {match}?" if match else ""


def translates(key: str, known: Collection[str]) -> bool:
    """Tell whether an unknown key is another library's name for an existing key."""
    leaf = _word(key.rpartition(".")[2])
    word = VOCABULARY.get(leaf, Key(""))
    meanings = (word.ours, word.of_replay)
    return any(ours in known and not f".{ours}".endswith(f".{leaf}") for ours in meanings)


def _word(leaf: str) -> str:
    return leaf.replace("-", "_").lower()


def _translation(word: Key, parent: str, known: Collection[str]) -> str:
    """Return our name for another library's."""
    if word.of_replay in known:
        return f"; in this project it is {word.of_replay}"
    here = f"{parent}.{word.ours.rpartition('.')[2]}"
    if here in known:
        return f"; in this project it is {here}"
    note = f" ({word.note})" if word.note else ""
    lacking = "" if word.ours in known else ", which nothing that is chosen here has"
    return f"; in this project it is {word.ours}{note}{lacking}"
