"""The workloads as overrides of our configuration."""

from benchmarks.work import AnyWork, Criticising, Replaying, Throughput

# Pong as in the peers; for them sync and ale-py's own vector form make no difference.
_PONG = ["env=atari", "extractor=nature_cnn", "clip_rewards=1.0"]


def throughput_overrides(work: AnyWork) -> list[str]:
    """Write the workload as overrides of our configuration."""
    if isinstance(work, Criticising):
        return _criticising(work)
    return _replaying(work) if isinstance(work, Replaying) else _on_policy(work)


def _on_policy(work: Throughput) -> list[str]:
    common = [
        f"env.num_envs={work.num_envs}",
        f"agent.rollout_length={work.rollout_length}",
        f"agent.num_epochs={work.num_epochs}",
        f"agent.num_minibatches={work.num_minibatches}",
        f"optimizer.learning_rate={work.learning_rate}",
        "optimizer.schedule=constant",
        f"compile={'force' if work.compiled else 'false'}",
    ]
    if work.images:
        return [*common, *_PONG, "share_backbone=true", _precision(work)]
    layers = f"[{work.hidden_size},{work.hidden_size}]"
    network = [f"extractor.hidden_sizes={layers}", "extractor.activation=tanh"]
    if work.memory_size:
        network = [
            "pomdp=mask_velocity",
            "extractor=flatten",
            "memory=lstm",
            f"memory.hidden_size={work.memory_size}",
            f"memory.sequence_length={work.sequence_length}",
            f"policy_head.hidden_sizes={layers}",
            f"value_head.hidden_sizes={layers}",
            f"share_backbone={str(work.shared_memory).lower()}",
        ]
    vectorization = "native" if work.native else "sync"
    return ["env=cartpole", f"env.vectorization={vectorization}", *common, *network]


def _replaying(work: Replaying) -> list[str]:
    layers = f"[{work.hidden_size},{work.hidden_size}]"
    network = ["env=cartpole", "extractor=mlp", f"extractor.hidden_sizes={layers}"]
    return [
        "agent=dqn",
        "value_head=huber",
        *(_PONG if work.images else [*network, "extractor.activation=relu"]),
        f"env.num_envs={work.num_envs}",
        f"agent.train_frequency={work.train_frequency}",
        f"agent.replay_ratio={1 / work.steps_per_iteration}",
        f"agent.batch_size={work.batch_size}",
        f"agent.buffer_size={work.buffer_size}",
        f"agent.learning_starts={work.learning_starts}",
        f"agent.target_update_interval={work.target_update_interval}",
        f"agent.epsilon={work.epsilon}",
        f"agent.final_epsilon={work.epsilon}",
        f"optimizer.learning_rate={work.learning_rate}",
        "optimizer.schedule=constant",
        "optimizer.max_grad_norm=10",
        _precision(work),
        f"compile={'force' if work.compiled else 'false'}",
    ]


def _criticising(work: Criticising) -> list[str]:
    layers = f"[{work.hidden_size},{work.hidden_size}]"
    memory = [
        "pomdp=mask_velocity",
        "memory=lstm",
        f"memory.hidden_size={work.memory_size}",
        f"agent.sequence_length={work.sequence_length}",
    ]
    return [
        f"agent={work.agent}",
        "env=pendulum",
        *(memory if work.memory_size else ()),
        f"env.num_envs={work.num_envs}",
        f"agent.replay_ratio={1 / work.steps_per_iteration}",
        f"agent.batch_size={work.batch_size}",
        f"agent.buffer_size={work.buffer_size}",
        f"agent.learning_starts={work.learning_starts}",
        f"policy_head.hidden_sizes={layers}",
        f"value_head.hidden_sizes={layers}",
        f"optimizer.learning_rate={work.learning_rate}",
        "optimizer.schedule=constant",
        _precision(work),
        f"compile={'force' if work.compiled else 'false'}",
    ]


def _precision(work: AnyWork) -> str:
    return f"precision={'bf16' if work.half_precision else 'float32'}"
