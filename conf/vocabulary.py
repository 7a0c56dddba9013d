"""Words of stable-baselines3, CleanRL and the wider field, and the keys that mean the same here.

A refusal of an unknown key looks here first. docs/configuration.md shows the same table; a test
compares them.
"""

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
    "algo": "agent",
    "tau": "agent.polyak_rate",
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
}

# What a name alone does not say.
NOTES = {
    "batch_size": "batch_size = agent.rollout_length x env.num_envs / agent.num_minibatches",
    "policy_kwargs": "with memory, policy_head and value_head",
    "net_arch": "policy_head.hidden_sizes and value_head.hidden_sizes come after the memory",
    "anneal_lr": "linear or constant",
    "clip_vloss": "a range, or null for none",
    "clip_range_vf": "a range, or null for none",
    "enable_critic_lstm": "null: a memory like the actor's; memory@critic.memory=none: none",
    "torch_deterministic": "on a CPU a seed always gives the same run",
    "algo": "agent=ppo",
    "tau": "agents with target networks only",
    "target_kl": "the update stops beyond it",
}

VOCABULARY = {**ELSEWHERE, **CLEANRL, **STABLE_BASELINES3}

NOT_YET = {
    "precision": "everything is computed in float32 so far",
    "auxiliary": "there are no auxiliary losses yet",
    "gradients": "every loss trains every part that it reads so far",
}
"""Keys that are planned, and what holds until they are there."""
