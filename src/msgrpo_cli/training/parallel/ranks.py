"""The processes of one run, and the one way in which they tell each other anything: each gives a value, all get all.

Knows torch.distributed. Knows nothing about games, models, trainers or files.

One way, so that nobody waits for ever: whoever fails gives its failure instead of a value, and all raise it. A rank
that fails where the others do not listen (in a backward pass, whose gradients are summed by torch) ends as a process;
torch tells the others that their peer is gone.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from msgrpo_cli.common.text import one_line
from msgrpo_cli.errors import Interrupted, RunError

from .blame import E, blame, blamed
from .heartbeat import Heartbeat

T = TypeVar("T")
_PATIENT = timedelta(days=30)
"""How long torch lets ranks wait for each other: as long as one of them plays, evaluates or writes. For how long none
of them may stand still is another question: `heartbeat`."""


class PeerLost(RunError):
    """Another process of the run is gone; what ended it says more."""


@dataclass(frozen=True)
class _Failed:
    error: BaseException


@dataclass(frozen=True)
class _Ended:
    """The first rank has ended the run, well or badly; nothing more is to be done."""


class EndedByFirst(Exception):
    """Raised on the other ranks where the first has ended the run."""


@dataclass(eq=False)
class Ranks:
    """The ranks of a run as one of them sees them. One process alone is rank 0 of 1, and talks to nobody."""

    rank: int = 0
    count: int = 1
    group: Any = None
    """Over which they talk."""
    hosts: tuple[str, ...] = (socket.gethostname(),)
    """Where each of them runs."""
    beat: Heartbeat = field(default_factory=Heartbeat)
    """Of this rank."""
    _listening: bool = field(default=True, init=False)

    @classmethod
    def joined(cls, beat: Heartbeat | None = None, timeout: timedelta = _PATIENT) -> Ranks:
        """Those that torchrun's variables speak of; waits until all are there.

        `timeout`: how long a gradient may wait for another rank's.
        """
        beat = beat or Heartbeat(int(os.environ["RANK"]))
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with beat.waiting():
            dist.init_process_group(backend, timeout=timeout)
            group = dist.new_group(backend="gloo", timeout=_PATIENT)
        ranks = cls(dist.get_rank(), dist.get_world_size(), group, beat=beat)
        ranks.hosts = tuple(ranks.gather(socket.gethostname))
        return ranks

    @property
    def alone(self) -> bool:
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this rank decides and writes."""
        return self.rank == 0

    def gather(self, work: Callable[[], T]) -> list[T]:
        """What `work` gives on each rank, in their order.

        Where it fails on one of them, all raise that error: the first rank's that has one, an interruption last.
        Raises PeerLost where another process is gone, EndedByFirst where the first has ended the run.
        """
        if self.alone:
            return [work()]
        try:
            mine: Any = work()
        except (Exception, Interrupted) as error:  # noqa: BLE001 - all ranks raise it
            mine = _Failed(self.blaming(error, self.rank))
        given = self._exchanged(mine)
        failures = [value.error for value in given if isinstance(value, _Failed)]
        if failures:
            worst = min(failures, key=lambda error: isinstance(error, Interrupted))
            if isinstance(mine, _Failed) and repr(worst) == repr(mine.error):
                raise mine.error  # with its traceback
            raise worst
        if any(isinstance(value, _Ended) for value in given):
            raise EndedByFirst
        return given

    def told(self, work: Callable[[], T]) -> T:
        """What `work` gives on the first rank; the others do not work."""
        return self.gather(work if self.first else lambda: None)[0]  # type: ignore[return-value]

    def tell(self, words: object) -> None:
        """From the first rank to the others, who `hear` it."""
        self.told(lambda: words)

    def hear(self) -> Any:
        """What the first rank tells."""
        return self.told(lambda: None)

    def after_first(self, work: Callable[[], T]) -> T:
        """`work` on every rank, on the first before the others begin: it may write what they read."""
        if self.first:
            return self.gather(work)[0]
        self.gather(lambda: None)
        return work()

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """Around what all ranks do at once while torch sums their gradients: whoever fails there is not heard, and the
        others raise PeerLost once its process is gone."""
        self._listening = False
        try:
            yield
        except RuntimeError as error:
            if of_a_peer(error):
                raise self._lost(error) from error
            raise
        self._listening = True

    @contextmanager
    def led(self) -> Iterator[None]:
        """Around all that the first rank does: at its end, the others end too."""
        try:
            yield
        finally:
            if not self.alone and self._listening:
                try:
                    self._exchanged(_Ended())
                except PeerLost:
                    self._listening = False  # what ended that one is told elsewhere

    def _exchanged(self, mine: object) -> list[Any]:
        given: list[Any] = [None] * self.count
        try:
            with self.beat.waiting():
                dist.all_gather_object(given, _portable(mine), group=self.group)
        except RuntimeError as error:  # that of gloo is no other
            raise self._lost(error) from error
        return given

    def named(self, rank: int) -> str:
        """A rank, to people."""
        return f"rank {rank} of {self.count} on {self.hosts[rank]}"

    def blaming(self, error: E, rank: int) -> E:
        """The same error, which knows from now on of which rank it is."""
        return blame(error, None if self.alone else f"{self.named(rank)}, during {self.beat.phase}")

    def _lost(self, error: BaseException) -> PeerLost:
        why = "has sent no gradient in time" if "timed out" in str(error).lower() else "is gone"
        return PeerLost(f"another process of the run {why}: {one_line(error)}")


def of_a_peer(error: BaseException) -> bool:
    """Whether torch says that it waited for another process in vain."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def _portable(value: object) -> object:
    """A failure as it can be sent: exceptions of libraries may not survive it."""
    if isinstance(value, _Failed):
        try:
            pickle.loads(pickle.dumps(value))
        except Exception:  # noqa: BLE001 - whatever pickle or the exception's own constructor raises
            sent = RunError(f"{type(value.error).__name__}: {one_line(value.error)}")
            return _Failed(blame(sent, blamed(value.error)))
    return value


ALONE = Ranks()
