"""Several rounds on one gateway, with a bystander who computes all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.chaos import invariants
from tests.chaos.doing import Doing, do_all
from tests.chaos.operations import RESULT_SECONDS, Subject, check_computes
from tests.chaos.plan import CLUSTERS, Round
from tests.chaos.victims import Cost, Victim
from tests.chaos.world import World, kill
from tests.support import eventually_sync
from tidegate.client.errors import GatewayError

OPERATION_SECONDS = 120.0
"""After which an operation hangs, whatever was killed."""
LATEST_SECONDS = 5.0
"""For how long after the end of an operation a victim is still waited for: some are started late."""


HONEST = (GatewayError, CancelledError, OSError)
"""What may be raised to a user whose cluster or connection was killed: the gateway's own words, or what Dask says of
futures that are lost and of connections that are cut."""


@dataclass
class Row:
    """What became of a round: a line of the table."""

    number: int
    operation: str
    victim: str
    moments: tuple[float, ...]
    kills: int = 0
    took: float = 0.0
    outcome: str = ""
    settled: float = 0.0
    failure: str = ""


class Bystander:
    """A user whose cluster is never meant: it computes one small thing after the other."""

    def __init__(self, world: World) -> None:
        self.subject = Subject(world.user())
        self.subject.create(1)
        assert self.subject.client is not None
        self._connection = self.subject.client.scheduler_comm.comm
        self._over = threading.Event()
        self._errors: list[str] = []
        self._results = 0
        self._thread = threading.Thread(target=self._compute, name="bystander", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The cluster."""
        return self.subject.name

    def check(self, cost: Cost) -> None:
        """See that they noticed nothing (or, if their connection may have been cut, that all is well again)."""
        before = self._results
        eventually_sync(lambda: self._results > before, RESULT_SECONDS, f"the bystander has results: {self._errors}")
        assert self.subject.client is not None
        connection = self.subject.client.scheduler_comm.comm
        errors, self._errors = self._errors, []
        if cost is Cost.CONNECTIONS:
            self._connection = connection
            return
        assert not errors, f"the bystander was disturbed: {errors}"
        assert connection is self._connection, "the bystander's connection was cut"

    def leave(self) -> None:
        """Stop computing and end the cluster."""
        self._over.set()
        self._thread.join(RESULT_SECONDS)
        self.subject.cluster.shutdown()
        self.subject.close()
        self.subject.user.close()

    def _compute(self) -> None:
        client = self.subject.client
        assert client is not None
        number = 0
        while not self._over.is_set():
            number += 1
            try:
                assert client.submit(pow, number, 2, pure=False).result(timeout=RESULT_SECONDS) == number * number
                self._results += 1
            # Whatever it is, they noticed it.
            except BaseException as error:
                self._errors.append(f"{type(error).__name__}: {error}")
                self._over.wait(0.2)
            self._over.wait(0.01)


class Chapter:
    """One gateway and its rounds.

    Parameters
    ----------
    folder : Path
    seed : int
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.world = World(folder).adopt()
        self._seed = seed
        self._granted: set[str] = set()

    def __enter__(self) -> Chapter:
        self.world.start()
        self._user = self.world.user()
        self._user.get_versions()
        self._bystander = Bystander(self.world)
        self._granted.add(self._bystander.name)
        self._descriptors = invariants.descriptors(self.world)
        return self

    def __exit__(self, *_: object) -> None:
        self.world.kill_everything()

    def play(self, rounds: Iterable[Round], tell: Callable[[Row], None]) -> bool:
        """Play rounds until one fails; return whether none did."""
        for a_round in rounds:
            row = Row(a_round.number, a_round.operation.name, a_round.victim.role, a_round.moments)
            try:
                self._play(a_round, row)
            except Exception as error:
                row.failure = f"{type(error).__name__}: {error}"
                tell(row)
                return False
            tell(row)
        return True

    def finish(self) -> None:
        """Stop the gateway, and see that nothing is left."""
        invariants.no_descriptor_leaked(self.world, self._descriptors)
        self._bystander.leave()
        self._user.close()
        self.world.stop()
        for name in self._granted:
            invariants.nothing_left_of(self.world, name)
        invariants.no_secret_in_sight(self.world, ())
        invariants.port_is_free(self.world)
        invariants.no_group_left(self.world)

    # -- a round -------------------------------------------------------------------------------------------------------

    def _play(self, a_round: Round, row: Row) -> None:
        subjects = [Subject(self._user) for _ in range(CLUSTERS)]
        try:
            do_all(a_round.operation.make_ready, subjects, OPERATION_SECONDS)
            doing, row.kills = self._disturb(a_round, subjects)
            errors = [one.wait(OPERATION_SECONDS) for one in doing]
            row.took = max(one.seconds for one in doing)
            self._granted.update(name for subject in subjects for name in subject.names)
            began = time.monotonic()
            row.outcome = self._judge(a_round, subjects, errors, row.kills > 0)
            row.settled = time.monotonic() - began
            self._bystander.check(a_round.victim.cost)
            self._end(subjects)
            invariants.all_on_record(self.world, self._granted)
            invariants.no_secret_in_sight(self.world, {self._bystander.name})
        finally:
            self._granted.update(name for subject in subjects for name in subject.names)
            with suppress(Exception):
                do_all(Subject.close, subjects, OPERATION_SECONDS)

    def _disturb(self, a_round: Round, subjects: list[Subject]) -> tuple[list[Doing], int]:
        """Let all do the operation and kill the victim meanwhile; return their calls, and how often it was found."""
        doing = [Doing(lambda subject=subject: a_round.operation.run(subject)) for subject in subjects]
        random = Random(f"{self._seed} {a_round.number} which")
        kills = 0
        for moment in a_round.moments:
            threading.Event().wait(moment)
            kills += self._strike(
                a_round.victim, subjects[a_round.meant], lambda: all(one.is_over for one in doing), random
            )
        return doing, kills

    def _strike(self, victim: Victim, subject: Subject, is_over: Callable[[], bool], random: Random) -> bool:
        """Kill one of the victims, as soon as there is one; return whether there was."""
        latest: float | None = None
        while not subject.name or not (pids := victim.find(self.world, subject.name)):
            if latest is None and is_over():
                latest = time.monotonic() + LATEST_SECONDS
            if latest is not None and time.monotonic() > latest:
                return False
            threading.Event().wait(0.005)
        kill(random.choice(pids))
        if victim.role == "supervisor":
            self.world.restart()
        return True

    def _judge(self, a_round: Round, subjects: list[Subject], errors: list[BaseException | None], struck: bool) -> str:
        """Hold every subject against what the victim's death may cost; return the outcome in words."""
        outcomes = []
        for index, (subject, error) in enumerate(zip(subjects, errors, strict=True)):
            cost = a_round.victim.cost
            if not struck or (cost is Cost.CLUSTER and index != a_round.meant):
                cost = Cost.NOTHING
            outcomes.append(self._judge_one(subject, error, cost))
        if not struck:
            assert a_round.operation.name == "shut down", f"there was no {a_round.victim.role} to kill"
            outcomes.append("it had gone before")
        return ", ".join(dict.fromkeys(outcomes))

    def _judge_one(self, subject: Subject, error: BaseException | None, cost: Cost) -> str:
        words = f"{type(error).__name__}: {error}"
        if cost is not Cost.NOTHING:
            assert error is None or isinstance(error, HONEST), (
                f"{subject.name} failed in a way that tells nothing: {words}"
            )
        if cost is Cost.CLUSTER:
            reason = invariants.settles_failed(self.world, subject)
            return f"failed: {reason}" if reason else "stopped"
        if cost is Cost.NOTHING:
            assert error is None, f"{subject.name} was disturbed: {words}"
        if subject.ends:
            invariants.settles_stopped(self.world, subject)
        else:
            invariants.settles_running(self.world, subject)
            check_computes(subject)
        return "finished" if error is None else f"cut ({type(error).__name__}), and works again"

    def _end(self, subjects: list[Subject]) -> None:
        for subject in subjects:
            if not subject.ends:
                subject.ends = True
                self._user.stop_cluster(subject.name)
        for subject in subjects:
            invariants.settles_ended(self.world, subject)
            for name in subject.names:
                invariants.nothing_left_of(self.world, name)
