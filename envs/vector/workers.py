"""Vector environment with one worker process per environment.

Faster for environments that take more than about 0.1 ms per step, if there are enough cores.
"""

import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize
from typing import Any

from envs.spaces import one_line
from envs.vector.base import Episode, Failures, OnFailure, SlotVectorEnv
from envs.vector.batch import Array, arrays_in, layout_bytes, observation_bytes
from envs.vector.processes import START_METHOD, Deadline, Worker, WorkerLost
from envs.vector.serving import (
    BEGIN,
    RAW_EPISODE,
    REMAKE,
    RESTORE,
    SNAPSHOT,
    STEP,
    TOKEN,
    TRY,
    exchange_layout,
    scout,
    serve,
)
from envs.vector.slot import Description, Make, RemoteFailure, Snapshot

_MAKE_SECONDS = 300.0  # for making an environment, if there is a step timeout
_CLOSE_SECONDS = 2.0  # for closing all environments, before processes are killed

Answers = dict[int, Any]


class WorkerVectorEnv(SlotVectorEnv):
    """Steps environments in worker processes.

    A worker that dies is noticed at once, one that hangs after `step_timeout` seconds. Either is a
    failure of its environment, which then gets a new process. Actions, observations, rewards and
    flags are in anonymous shared memory, which is always freed.
    """

    def __init__(
        self, makers: Sequence[Make], *, on_failure: OnFailure, step_timeout: float | None
    ) -> None:
        """Starts the processes.

        Args:
            makers: one per environment, importable in a worker.
            step_timeout: most seconds of a step or a reset; None for no limit.

        Raises:
            ValueError: a maker cannot be sent to another process.
            RuntimeError: a worker cannot make its environment, or its spaces differ.
        """
        refuse_unsendable(makers[0])
        self._step_timeout = step_timeout
        self._workers: list[Worker] = []
        # Otherwise the process would wait for hanging workers at its end.
        self._finalizer = Finalize(self, _kill, (self._workers,), exitpriority=100)
        num_envs = len(makers)
        description = self._describe(makers[0])
        spaces = description.spaces
        context = multiprocessing.get_context(START_METHOD)
        observations = context.RawArray("b", observation_bytes(spaces[0], num_envs))
        super().__init__(description, num_envs, buffer=observations, on_failure=on_failure)
        layout = exchange_layout(spaces[1], num_envs)
        exchange = context.RawArray("b", layout_bytes(layout))
        self._shared = arrays_in(exchange, layout)
        self._actions = self._shared["actions"]
        self._makers = makers
        self._arguments = (spaces, (observations, exchange), num_envs)
        self._number = 0
        try:
            self._start_all()
        except BaseException:
            self.close()
            raise

    def _describe(self, make: Make) -> Description:
        """Describes an environment in a temporary process: none ever runs in this one."""
        worker = Worker(scout, (make,), 0)
        try:
            description: Description = _made(worker, 0, self._making())
            return description
        finally:
            worker.end(Deadline(_CLOSE_SECONDS))

    def _start_all(self) -> None:
        for index in range(self.num_envs):
            self._workers.append(self._started(index))
        deadline = self._making()
        for index, worker in enumerate(self._workers):
            _made(worker, index, deadline)

    def _started(self, index: int) -> Worker:
        return Worker(serve, (self._makers[index], *self._arguments), index)

    def _making(self) -> Deadline:
        limit = self._step_timeout
        return Deadline(None if limit is None else max(limit, _MAKE_SECONDS))

    def _ask(
        self, question: int, arguments: Mapping[int, Any], deadline: Deadline
    ) -> tuple[Answers, Failures]:
        """Asks workers in parallel, and collects all answers before any is processed."""
        self._number += 1
        token = TOKEN.pack(question, self._number)
        for index, argument in arguments.items():
            self._workers[index].ask(token, argument)
        answers: Answers = {}
        failures: Failures = {}
        for index in arguments:
            try:
                answers[index] = self._workers[index].answer(self._number, deadline)
            except (RemoteFailure, WorkerLost) as error:
                failures[index] = error
        return answers, failures

    def _begin(self, seeds: Sequence[int | None], infos: dict[str, Any]) -> Failures:
        arguments = {index: (seed,) for index, seed in enumerate(seeds)}
        answers, failures = self._ask(BEGIN, arguments, Deadline(self._step_timeout))
        for index, info in answers.items():
            self._add(infos, info, index)
        return failures

    def _step_slots(
        self, actions: Array, rewards: Array, infos: dict[str, Any]
    ) -> tuple[Array, Array, Failures]:
        self._actions[...] = actions
        self._number = number = self._number + 1
        token = TOKEN.pack(STEP, number)
        for worker in self._workers:
            worker.ask(token, None)
        deadline = Deadline(self._step_timeout)
        failures: Failures = {}
        for index, worker in enumerate(self._workers):
            try:
                info = worker.answer(number, deadline)
            except (RemoteFailure, WorkerLost) as error:
                failures[index] = error
                continue
            if info:
                self._add(infos, info, index)
        rewards[...] = self._shared["rewards"]
        return self._shared["terminated"].copy(), self._shared["truncated"].copy(), failures

    def _remake(self, index: int, seed: int) -> BaseException | None:
        """Makes an environment again, in a new process if the old one is dead."""
        try:
            if self._workers[index].is_lost:
                self._workers[index] = self._started(index)
                self._workers[index].answer(0, self._making())
                failures: Failures = {}
            else:
                _, failures = self._ask(REMAKE, {index: None}, self._making())
            if not failures:
                _, failures = self._ask(BEGIN, {index: (seed,)}, Deadline(self._step_timeout))
        except (RemoteFailure, RuntimeError) as error:  # WorkerLost, or the process cannot start
            return error
        return failures.get(index)

    def _snapshots(self) -> list[Snapshot | None]:
        arguments = dict.fromkeys(range(self.num_envs))
        answers, _ = self._ask(SNAPSHOT, arguments, Deadline(self._step_timeout))
        return [answers.get(index) for index in arguments]

    def raw_episodes(self, indices: Iterable[int]) -> dict[int, tuple[float, int]]:
        """Returns raw returns and lengths of unfinished episodes."""
        return self._ask(RAW_EPISODE, dict.fromkeys(indices), Deadline(self._step_timeout))[0]

    def _can_replay(self) -> bool:
        last = self.num_envs - 1
        answers, _ = self._ask(TRY, {last: None}, self._making())
        return bool(answers.get(last))

    def _replay(self, episodes: Mapping[int, Episode]) -> set[int]:
        limit = self._step_timeout
        if limit is not None:
            longest = max(len(actions) for _, actions in episodes.values())
            limit = _MAKE_SECONDS + limit * (2 + longest)
        answers, _ = self._ask(RESTORE, episodes, Deadline(limit))
        return {index for index, is_exact in answers.items() if is_exact}

    def close_extras(self) -> None:
        """Closes every environment, or kills its process, within a few seconds."""
        for worker in self._workers:
            worker.ask_to_close()
        deadline = Deadline(_CLOSE_SECONDS)
        for worker in self._workers:
            worker.end(deadline)
        self._finalizer()


def _made(worker: Worker, index: int, deadline: Deadline) -> Any:
    """Waits until a worker has made its environment; returns its answer.

    Raises:
        ValueError: the worker raised it.
        RuntimeError: the worker raised it or any other error.
    """
    try:
        return worker.answer(0, deadline)
    except (RemoteFailure, WorkerLost) as error:
        kind, _, text = str(error).partition(": ")
        for known in (ValueError, RuntimeError):  # as if raised in this process
            if isinstance(error, RemoteFailure) and kind == known.__name__:
                raise known(text) from error
        raise RuntimeError(f"environment {index} cannot be made: {error}") from error


def _kill(workers: list[Worker]) -> None:
    for worker in workers:
        worker.kill()


def refuse_unsendable(make: Make) -> None:
    """Refuses a maker that cannot be sent to a worker process.

    Raises:
        ValueError: names the maker and the fix.
    """
    try:
        ForkingPickler.dumps(make)
    except Exception as error:
        raise ValueError(
            "env.vectorization=async: worker processes must be able to import what they need, "
            f"such as a class or function at the top level of a module ({one_line(error)}); "
            "use env.vectorization=sync"
        ) from error
