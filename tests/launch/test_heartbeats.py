"""Whom a run waits for, and when it does no longer: real signs of life, and a clock that a test moves."""

from __future__ import annotations

import os
import pickle
import socket
import threading
import time
from pathlib import Path

import pytest

from msgrpo_cli.launch.heartbeats import Heartbeats
from msgrpo_cli.training.parallel.heartbeat import Heartbeat, beat_file, read_beat

HOST = socket.gethostname()
_WAITED = 120.0  # real seconds


class Clock:
    """Stands in for `time.monotonic`."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def told(beat: Heartbeat, place: str = "game.py:7 (play)") -> None:
    """What its thread does every second."""
    assert beat.folder is not None
    beat.write(place)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Heartbeat, Heartbeat]:
    beats = Heartbeat(0, tmp_path), Heartbeat(1, tmp_path)
    for beat in beats:
        beat.at("rollout", 2, 8)
        told(beat)
    return beats


def test_a_slow_rank_is_waited_for_and_one_that_stands_still_is_named(
    tmp_path: Path, clock: Clock, two: tuple[Heartbeat, Heartbeat]
) -> None:
    ranks = Heartbeats(tmp_path, 2, patience=60.0)
    assert ranks.standstill() is None
    with two[0].waiting():
        told(two[0])
        for _ in range(10):  # ten times nearly as long as is waited for
            clock.now += 59.0
            two[1].moved()
            told(two[1])
            assert ranks.standstill() is None
        clock.now += 59.0
        told(two[1], "game.py:9 (play)")  # it is alive, and has done nothing
        assert ranks.standstill() is None
        clock.now += 2.0
        assert ranks.standstill() == (
            "no process of the run has made any progress for 60 s (parallel.patience); the others wait for rank 1 on "
            f"{HOST} (process {os.getpid()}) during rollout, 2 of 8 finished, at game.py:9 (play); go on with --resume"
        )


def test_where_none_waits_all_are_named_the_one_that_stopped_first_first(
    tmp_path: Path, clock: Clock, two: tuple[Heartbeat, Heartbeat]
) -> None:
    ranks = Heartbeats(tmp_path, 2, patience=60.0)
    ranks.standstill()
    clock.now += 50.0
    two[0].at("update")
    told(two[0])
    assert ranks.standstill() is None
    clock.now += 61.0
    said = str(ranks.standstill())
    assert said.index("rank 1 on") < said.index("rank 0 on")
    assert "during update, at game.py" in said


def test_where_all_wait_for_each_other_it_is_the_connection(
    tmp_path: Path, clock: Clock, two: tuple[Heartbeat, Heartbeat]
) -> None:
    ranks = Heartbeats(tmp_path, 2, patience=60.0)
    with two[0].waiting(), two[1].waiting():
        for beat in two:
            told(beat)
        ranks.standstill()
        clock.now += 61.0
        assert "all wait for each other, so a connection between them hangs: rank 0" in str(ranks.standstill())


def test_a_rank_that_never_comes_up_is_named(tmp_path: Path, clock: Clock, two: tuple[Heartbeat, Heartbeat]) -> None:
    ranks = Heartbeats(tmp_path, 3, patience=60.0)
    ranks.standstill()
    clock.now += 61.0
    assert "the others wait for rank 2, which never came up;" in str(ranks.standstill())


def test_of_many_ranks_a_few_are_named(tmp_path: Path, clock: Clock) -> None:
    for rank in range(9):
        told(Heartbeat(rank, tmp_path))
    ranks = Heartbeats(tmp_path, 9, patience=60.0)
    ranks.standstill()
    clock.now += 61.0
    said = str(ranks.standstill())
    assert said.count("rank ") == 3
    assert "; and 6 more;" in said


def test_a_rank_that_is_gone_is_told_with_its_place(tmp_path: Path, two: tuple[Heartbeat, Heartbeat]) -> None:
    ranks = Heartbeats(tmp_path, 3, patience=60.0)
    assert ranks.named(1, 77) == f"rank 1 of 3 on {HOST} (process 77), during rollout,"
    assert ranks.named(2, 78) == f"rank 2 of 3 on {HOST} (process 78), during start,"


def until(there: object, folder: Path, rank: int) -> None:
    began = time.perf_counter()
    while (beat := read_beat(folder, rank)) is None or not there(beat):  # type: ignore[operator]
        assert time.perf_counter() - began < _WAITED, beat
        time.sleep(0.01)


def test_a_thread_writes_where_the_main_thread_is_and_counts_what_is_read_and_written(tmp_path: Path) -> None:
    beat = Heartbeat(4, tmp_path, every=0.01)
    beat.begin()
    until(lambda found: found.phase == "start" and "test_heartbeats.py" in found.place, tmp_path, 4)
    beat.at("rollout", 1, 2)
    until(lambda found: (found.phase, found.finished, found.total) == ("rollout", 1, 2), tmp_path, 4)
    moves = read_beat(tmp_path, 4).moves  # type: ignore[union-attr]
    (tmp_path / "large").write_bytes(bytes(1 << 22))
    threading.Event().wait(0.2)
    assert read_beat(tmp_path, 4).moves == moves  # type: ignore[union-attr]
    beat.at("checkpoint")
    moves += 1
    for _ in range(3):  # the first look in such a phase counts what there was before
        (tmp_path / "large").write_bytes(bytes(1 << 22))
        moves += 1
        until(lambda found: found.moves >= moves, tmp_path, 4)  # noqa: B023 - called here and now


def test_what_is_half_written_is_no_sign_of_life(tmp_path: Path) -> None:
    beat_file(tmp_path, 0).write_text('{"rank": 0')
    assert read_beat(tmp_path, 0) is None


def test_a_pass_of_the_model_is_a_sign_of_life_and_the_model_may_be_pickled(tmp_path: Path) -> None:
    """As the KL reference is, to compare it."""
    torch = pytest.importorskip("torch")
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=2))
    beat = Heartbeat(0, tmp_path)
    beat.follow(model)
    told(beat)
    before = read_beat(tmp_path, 0)
    pickle.loads(pickle.dumps(model))
    model(torch.tensor([[1, 2]]))
    told(beat)
    after = read_beat(tmp_path, 0)
    assert before is not None and after is not None and after.moves == before.moves + 1
