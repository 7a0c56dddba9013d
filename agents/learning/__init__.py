"""Learning: gradient steps, optimizers, schedules, replay and rollout learners."""
