"""Two processes that train together: what a test has both of them do, and what each of them answers."""

from __future__ import annotations

import multiprocessing
import pickle
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

COUNT = 2
PATIENCE = timedelta(seconds=40)  # for one exchange: a rank that waits for nothing gets an error
LIMIT = 120.0  # seconds for a test's whole work, the start of both processes included: then they are ended


@dataclass
class Rank:
    """One of the two processes, as the work of a test sees it."""

    number: int
    meeting: Path
    group: Any = None  # the last to let go of it must be Python: see `_serve`

    @contextmanager
    def joined(self) -> Iterator[None]:
        """In one group with the other. The ranks meet in a file: no port can be taken."""
        dist.init_process_group(
            "gloo", init_method=f"file://{self.meeting}", rank=self.number, world_size=COUNT, timeout=PATIENCE
        )
        self.group = dist.group.WORLD
        try:
            yield
            dist.barrier()  # no rank hangs up while the other still reads
        finally:
            dist.destroy_process_group()

    def share(self, joined: torch.Tensor) -> torch.Tensor:
        """This rank's part of a joined batch: the first 5 samples, or the rest."""
        return joined[:5] if self.number == 0 else joined[5:]


@dataclass(frozen=True)
class Raised:
    """What a rank answers where its work raised."""

    kind: str
    message: str
    trace: str


class Pair:
    """Both processes. They wait for work: to start one takes longer than all that a test has it do."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.meetings = folder, 0
        self.members: list[tuple[Any, Any]] = []

    def run(self, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        """`work(rank, *arguments)` on both; the answers by rank."""
        answers = self._ask(work, arguments)
        assert not any(isinstance(a, Raised) for a in answers), "\n".join(getattr(a, "trace", "") for a in answers)
        return answers

    def refused(self, work: Callable[..., Any], *arguments: Any, kind: str = "TrainingError") -> list[str]:
        """The messages of the errors of that kind that `work` must raise on both."""
        answers = self._ask(work, arguments)
        kinds = [a.kind if isinstance(a, Raised) else "nothing raised" for a in answers]
        assert kinds == [kind] * COUNT, "\n".join(getattr(a, "trace", repr(a)) for a in answers)
        return [a.message for a in answers]

    def stopped(self, work: Callable[..., Any], *arguments: Any) -> list[Raised]:
        """What `work` must raise on both."""
        answers = self._ask(work, arguments)
        assert all(isinstance(a, Raised) for a in answers), answers
        return answers

    def close(self) -> None:
        for process, pipe in self.members:
            pipe.close()
            process.kill()
            process.join()
        self.members = []

    def _ask(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Any]:
        deadline = time.monotonic() + LIMIT
        if not all(process.is_alive() for process, _ in self.members):
            self.close()
        self.members = self.members or [_started(number) for number in range(COUNT)]
        self.meetings += 1
        order = pickle.dumps((work, self.folder / f"meeting{self.meetings}", arguments))
        for _, pipe in self.members:
            pipe.send_bytes(order)
        return [self._answer(number, deadline) for number in range(COUNT)]

    def _answer(self, number: int, deadline: float) -> Any:
        pipe = self.members[number][1]
        try:
            if pipe.poll(max(deadline - time.monotonic(), 0.0)):
                return pickle.loads(pipe.recv_bytes())
        except EOFError:
            pass
        self.close()  # the next test starts two others
        return pytest.fail(f"rank {number} hangs or has died")


def _started(number: int) -> tuple[Any, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(number, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _serve(number: int, pipe: Any) -> None:
    torch.set_num_threads(1)
    while True:
        try:
            work, meeting, arguments = pickle.loads(pipe.recv_bytes())
        except EOFError:  # the tests are over
            return
        rank = Rank(number, meeting)
        try:
            answer = work(rank, *arguments)
        except Exception as error:
            answer = Raised(type(error).__name__, str(error), traceback.format_exc())
        # All frames are gone, and a DistributedDataParallel in them. Had it been the last that holds the group, it would
        # wait for gloo's threads, and they for the interpreter to let go of a tensor; Python's own handle does not.
        rank.group = None
        pipe.send_bytes(pickle.dumps(answer))  # plain bytes: a tensor's memory is not shared
