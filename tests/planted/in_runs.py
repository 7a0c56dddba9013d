"""Faults in environments, collecting, evaluating, building, saving and going on."""

from tests.planted.fault import plant

FAULTS = [
    *plant(
        "training/stream/collect.py",
        "training/test_collect.py",
        (
            "an episode opens one step early",
            "row.next_is_first[...] = self._ended",
            "row.next_is_first[...] = ended",
        ),
        (
            "a failure terminates an episode",
            ".rows[step - 1].truncated[restarted & ~self._ended] = True",
            ".rows[step - 1].terminated[restarted & ~self._ended] = True",
        ),
        (
            "the step that opens a life ends an episode too",
            "ends = has_lost & ~self._ended",
            "ends = has_lost",
            "training/test_lives.py",
        ),
        (
            "the step between two lives is paid",
            "row.reward[self._ended] = 0.0",
            "row.reward[self._ended] *= 1.0",
            "training/test_lives.py",
        ),
        (
            "an environment that begins anew does not say so",
            'tensors["is_first"] | torch.from_numpy(~exact)',
            'tensors["is_first"]',
            "training/test_lives.py training/test_resume.py",
        ),
        (
            "collecting does not explore",
            "explore=explores",
            "explore=False",
        ),
        (
            "an episode that was truncated goes on in the stream",
            "ended = is_over = terminated | truncated",
            "ended = is_over = terminated & terminated",
        ),
        (
            "steps of a lost episode count in the next score",
            "self.counter.forget(restarted)",
            "self.counter.forget(restarted & False)",
        ),
        (
            "a lost life is a truncation",
            "row.terminated[ends] = True",
            "row.truncated[ends] = True",
            "training/test_lives.py",
        ),
    ),
    *plant(
        "training/stream/collect.py",
        "training/test_lives.py",
        (
            "who told nothing has lost all lives",
            'np.where(infos.get("_lives", True), lives, self.left)',
            "np.asarray(lives)",
        ),
    ),
    *plant(
        "training/stream/storage.py",
        "training/test_collect.py",
        (
            "ends of the trajectory before are kept",
            "            flags.fill(False)",
            "            pass",
        ),
    ),
    *plant(
        "training/stream/episodes.py",
        "training/test_episodes.py",
        (
            "scores are of rewards as wrappers made them",
            'unwrapped if getattr(unwrapped, "has_raw_statistics", False) else None',
            "None",
        ),
        (
            "episodes are one step longer for their reset",
            "self._begins[ended] = self._steps + 1",
            "self._begins[ended] = self._steps",
        ),
        (
            "returns run on into the next episode",
            "self._returns[ended] = 0.0\n            self._begins",
            "self._returns[ended] *= 1.0\n            self._begins",
        ),
    ),
    *plant(
        "training/stream/episodes.py",
        "training/test_info.py",
        (
            "numbers that another environment told are its own",
            "if key in infos and (mask is None or mask[index]):",
            "if key in infos:",
        ),
    ),
    *plant(
        "training/tracking/event_files.py",
        "training/test_info.py",
        (
            "a resumed run repeats lines of its table",
            "[*event_files(directory), *directory.glob(EPISODES)]",
            "event_files(directory)",
        ),
    ),
    *plant(
        "training/evaluation/watching.py",
        "training/test_watching.py",
        (
            "an evaluation elsewhere forgets the run's own arguments",
            'kept | asked["env"]["kwargs"]',
            'asked["env"]["kwargs"]',
        ),
        (
            "unequal spaces are not refused",
            "            refuse_other_spaces(agent, environments)",
            "            pass",
        ),
    ),
    *plant(
        "training/evaluation/evaluation.py",
        "training/test_evaluation.py",
        (
            "every evaluation has the same seeds",
            "size, purpose=self.purpose, index=index",
            "size, purpose=self.purpose, index=0",
        ),
        (
            "every evaluation draws the same actions",
            "2, purpose=purpose, index=own",
            "2, purpose=purpose, index=0",
        ),
        (
            "evaluation draws from training's generator",
            "generator = np.random.default_rng(seeds)",
            "generator = agent.generator",
        ),
        (
            "policies draw what their environments drew",
            'f"{self.purpose} policy", 0 if',
            "self.purpose, 0 if",
        ),
        (
            "episodes that remain are not played",
            "[(episodes + index) // size for",
            "[episodes // size for",
        ),
        (
            "evaluation always explores",
            "collector.explores, collector.behaves = not self.deterministic, behaves",
            "collector.explores, collector.behaves = True, behaves",
        ),
        (
            "an episode that never ends is cut one step late",
            "lengths >= self._limit",
            "lengths > self._limit",
        ),
        (
            "episodes beyond their share count",
            "if self._left[episode.environment] > 0:",
            "if self._left[episode.environment] > -100:",
        ),
    ),
    *plant(
        "training/building/build.py",
        "training/test_build.py",
        (
            "the agent's generator knows no seed",
            "generator=np.random.default_rng(agent_seed)",
            "generator=np.random.default_rng(0)",
        ),
        (
            "weights are drawn by no seed of the run",
            "int(weights_seed.generate_state(1)[0])",
            "0 * int(weights_seed.generate_state(1)[0])",
            "training/test_build.py",
        ),
        (
            "training has the seeds of evaluation",
            'purpose="train"',
            'purpose="evaluation"',
        ),
    ),
    *plant(
        "training/building/heads.py",
        "training/test_build.py",
        (
            "rewards are scaled by an undiscounted return",
            "discount=config.agent.discount",
            "discount=1.0",
        ),
    ),
    *plant(
        "training/building/heads.py",
        "agents/test_auxiliary_weights.py",
        (
            "auxiliary weights stay whatever their schedule says",
            'schedule(own["weight_schedule"], own["weight"], 0.0)',
            'schedule("constant", own["weight"], 0.0)',
        ),
    ),
    *plant(
        "training/stream/loop.py",
        "agents/test_ppo.py::test_every_round_learns_at_the_schedules_of_the_steps_before_it",
        (
            "schedules stand still",
            "agent.update_progress(before, total_env_steps=schedule_end)",
            "agent.update_progress(0, total_env_steps=schedule_end)",
        ),
    ),
    *plant(
        "training/runs/run.py",
        "training/test_resume.py training/test_resume_replay.py",
        (
            "a run that goes on forgets what is due",
            'self._due.load_state_dict(state["due"], self.at.env_steps)',
            'assert state["due"]',
        ),
        (
            "the worst weights are kept as the best",
            "self.score(found) >= self.score(at.best)",
            "self.score(found) <= self.score(at.best)",
            "training/test_run.py",
        ),
        (
            "every evaluation of a run has the same episodes",
            "index, watch = self.at.env_steps,",
            "index, watch = 0,",
            "training/test_run.py::test_every_evaluation_of_a_run_plays_episodes_of_its_own",
        ),
    ),
    *plant(
        "training/runs/fit.py",
        "training/test_fit.py",
        (
            "a policy on other environments begins with other weights",
            "agent.load_state_dict(kept, strict=False)",
            "agent.load_state_dict({}, strict=False)",
            "training/test_fit.py::test_a_policy_is_fitted_on_another_number_of_environments",
        ),
        (
            "a call begins where the first one did",
            "collector.env_steps, total = policy.env_steps, policy.env_steps + steps",
            "total = policy.env_steps + steps",
            "training/test_fit.py::test_a_call_tells_how_it_goes_unless_it_is_not_to",
        ),
        (
            "no callback ends a call",
            "if False in [callback.on_iteration(told) for callback in called]:",
            "if None in [callback.on_iteration(told) and 0 for callback in called]:",
            "training/test_fit.py::test_a_callback_ends_training",
        ),
    ),
    *plant(
        "training/evaluation/policy.py",
        "test_neurl.py",
        (
            "a policy begins anew at every call",
            "self._is_first = np.zeros(size, dtype=bool)\n        chosen",
            "self._is_first = np.ones(size, dtype=bool)\n        chosen",
        ),
    ),
    *plant(
        "envs/seeding.py",
        "envs/test_seeding.py",
        (
            "repeated uses of a purpose have the same seeds",
            "spawn_key=(purpose_key, index, environment)",
            "spawn_key=(purpose_key, 0 * index, environment)",
        ),
        (
            "all environments play the same episodes after their first one",
            "_mixed(_mixed(seed & _MASK) + episode",
            "_mixed(_mixed(0 & _MASK) + episode",
        ),
    ),
    *plant(
        "envs/vector/base.py",
        "envs/test_vector.py envs/test_snapshot.py",
        (
            "every episode is the first one again",
            "self._histories[index].episode += 1",
            "self._histories[index].episode += 0",
        ),
        (
            "a resumed run plays its next episode again",
            '_History(s["seed"], s["episode"], s["restarts"])',
            '_History(s["seed"], -1, s["restarts"])',
        ),
    ),
    *plant(
        "envs/vector/slot.py",
        "envs/test_vector.py",
        (
            "a truncated environment does not reset",
            "if terminated or truncated:",
            "if terminated:",
        ),
        (
            "truncations are told as terminations",
            "return reward, bool(terminated), bool(truncated), info",
            "return reward, bool(terminated or truncated), bool(truncated), info",
        ),
    ),
    *plant(
        "envs/wrappers/adapters.py",
        "envs/test_wrappers.py",
        (
            "episodes open with a previous reward",
            "zeros = {name: np.zeros(box.shape, np.float32)",
            "zeros = {name: np.ones(box.shape, np.float32)",
        ),
        (
            "a cut episode is told again",
            "if self._is_unreported:",
            "if True:",
        ),
    ),
    *plant(
        "envs/wrappers/frame_stack.py",
        "envs/test_frame_stack.py envs/test_wrappers.py",
        (
            "a stack keeps frames of the episode before",
            "frames[:] = self._newest(observation, name)",
            "frames[-1] = self._newest(observation, name)",
        ),
        (
            "the next step changes a stack that was shown",
            "copy.copy(self._frames.get(name, part))",
            "self._frames.get(name, part)",
        ),
    ),
    *plant(
        "envs/games/atari.py",
        "envs/test_atari.py",
        (
            "Atari shows the last frame alone",
            "merged = frame if before is None else np.maximum(before, frame)",
            "merged = frame",
        ),
    ),
    *plant(
        "agents/learning/behaviour.py",
        "agents/test_behaviour.py",
        (
            "a behaviour policy's source begins each step with an empty memory",
            "observations, rest, is_first, explore=self._explores",
            "observations, 0 * rest, is_first, explore=self._explores",
        ),
    ),
    *plant(
        "training/runs/resume.py",
        "training/test_resume.py training/test_resume_replay.py",
        (
            "a run that goes on draws anew",
            'agent.generator.bit_generator.state = state["generator"]',
            'assert state["generator"]',
        ),
        (
            "a run that goes on has an empty replay",
            'experience.load(part_of(tensors, "experience"), state["experience"], saved.chunks)',
            "assert saved.chunks is not None",
            "training/test_resume_replay.py",
        ),
    ),
    *plant(
        "training/runs/ranks.py",
        "training/test_ranks.py",
        (
            "ranks forget the older part of a checkpoint that the first one lost",
            "if not roll_back(directory / LAST, env_steps):",
            "if not (directory / LAST).exists():",
        ),
        (
            "batches are checked as if they were one process's",
            "share[group][name] = value // count",
            "share[group][name] = value",
        ),
    ),
    *plant(
        "networks/ranks.py",
        "training/test_ranks.py::test_two_ranks_take_the_steps_of_one",
        (
            "gradients are added up over ranks",
            "return mean.div_(size())",
            "return mean",
        ),
        (
            "each rank's mean counts alike, however few its steps",
            "count: Any = average(valid.sum())",
            "count: Any = valid.sum()",
        ),
    ),
    *plant(
        "agents/cloning.py",
        "training/test_cloning.py",
        (
            "what is held out is measured from an empty memory",
            "self.actor(seen.step_observations, seen.state, seen.is_first[:-1])",
            "self.actor(seen.step_observations, 0 * seen.state, seen.is_first[:-1])",
        ),
    ),
    *plant(
        "agents/autoencoding.py",
        "agents/test_autoencoding.py",
        (
            "reset steps are measured as held out",
            "is_valid = seen.valid.flatten()",
            "is_valid = torch.ones_like(seen.valid).flatten()",
        ),
    ),
    *plant(
        "training/saving/weights.py",
        "training/test_pretraining.py",
        (
            "pre-training gives its last weights in place of the best",
            "if place == source / _LAST and has_checkpoint(best):",
            "if place == source / _BEST and has_checkpoint(best):",
        ),
    ),
]
