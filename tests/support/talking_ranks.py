"""Two real ranks that talk to each other in every way there is; each writes down what it heard. Started by torchrun."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch

from msgrpo_cli.errors import Interrupted, NotFinite, RunError
from msgrpo_cli.training.parallel.blame import blamed
from msgrpo_cli.training.parallel.equals import compare
from msgrpo_cli.training.parallel.ranks import EndedByFirst, Ranks


class Unsendable(Exception):
    def __init__(self, text: str, more: int) -> None:
        super().__init__(text)


def _raised(work: Callable[[], object]) -> str:
    try:
        return f"nothing: {work()}"
    except (Exception, Interrupted) as error:  # noqa: BLE001 - that is what is asked
        return f"{type(error).__name__}: {error}"


def main() -> None:
    folder, short = Path(sys.argv[1]), timedelta(seconds=3)
    ranks = Ranks.joined(timeout=short)
    heard: dict[str, object] = {}

    def fails(error: BaseException, *, on: int) -> Callable[[], int]:
        def work() -> int:
            if ranks.rank == on:
                raise error
            return ranks.rank

        return work

    heard["gathered"] = ranks.gather(lambda: ranks.rank * 10)
    heard["told"] = ranks.told(lambda: f"by {ranks.rank}")
    if ranks.first:
        ranks.tell("a word")
    else:
        heard["heard"] = ranks.hear()
    heard["one fails"] = _raised(lambda: ranks.gather(fails(RunError("of rank 1"), on=1)))
    heard["not to be sent"] = _raised(lambda: ranks.gather(fails(Unsendable("of a library", 3), on=1)))
    heard["not finite"] = _raised(lambda: ranks.gather(fails(NotFinite("no number", {"a": 1}, [2]), on=1)))
    heard["interrupted"] = _raised(lambda: ranks.gather(fails(Interrupted("asked to end", 143), on=1)))

    def both() -> None:
        raise RunError("the fault") if ranks.rank else Interrupted("asked", 130)

    heard["a fault before an interruption"] = _raised(lambda: ranks.gather(both))
    mark = folder / "written-by-the-first"

    def first_writes() -> bool:
        there = mark.exists()
        mark.touch()
        return there

    heard["after the first"] = ranks.after_first(first_writes)
    if ranks.first:
        time.sleep(2 * short.total_seconds())  # longer than a gradient may wait
    heard["patient"] = ranks.gather(lambda: ranks.rank)
    ranks.beat.at("scoring")
    heard["blamed"] = _blamed(lambda: ranks.gather(fails(RunError("of rank 1"), on=1)))
    heard["sent and blamed"] = _blamed(lambda: ranks.gather(fails(Unsendable("of a library", 3), on=1)))
    model = torch.nn.Linear(2, 2)
    with torch.no_grad():
        for weights in model.parameters():
            weights.fill_(1.0)
        if not ranks.first:
            model.bias[1] = 2.0
    heard["different weights"] = _raised(lambda: compare(ranks, model, 7))
    if ranks.first:
        heard["ended"] = _raised(lambda: _lead_and_fail(ranks))
    else:
        try:
            ranks.gather(lambda: 1)
        except EndedByFirst:
            heard["ended"] = "by the first"
    if ranks.first:
        heard["late"] = "gone"
        _write(folder, ranks, heard)  # the other may break as it leaves, and torchrun then ends this one
        time.sleep(2 * short.total_seconds())  # a gradient that does not come in time
    else:
        heard["late"] = _raised(lambda: _step(ranks))
        _write(folder, ranks, heard)


def _write(folder: Path, ranks: Ranks, heard: dict[str, object]) -> None:
    (folder / f"rank-{ranks.rank}.json").write_text(json.dumps(heard))


def _blamed(work: Callable[[], object]) -> str | None:
    try:
        work()
    except RunError as error:
        return blamed(error)
    return "nobody"


def _step(ranks: Ranks) -> None:
    with ranks.in_step():
        torch.distributed.all_reduce(torch.ones(3))


def _lead_and_fail(ranks: Ranks) -> None:
    with ranks.led():
        raise RunError("the disk is full")


if __name__ == "__main__":
    main()
