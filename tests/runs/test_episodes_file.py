"""Episodes found again by place; half lines wait, damaged ones are told, foreign ones refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.episodes import EpisodeFile
from support.recorded_episodes import episode, written


def file(folder: Path, *rows: object, tail: str = "") -> EpisodeFile:
    return EpisodeFile(written(folder, rows, tail) / "episodes.jsonl")  # type: ignore[arg-type]


def test_every_episode_is_found_again(tmp_path: Path) -> None:
    rows = [episode(seed=n, ended_by="é" * n) for n in range(4)]
    episodes = file(tmp_path, *rows)
    found = list(episodes.scan())
    assert [place.number for place, _ in found] == [1, 2, 3, 4]
    assert [row for _, row in found] == [episodes.at(place) for place, _ in reversed(found)][::-1] == rows


def test_half_a_line_is_none_yet_and_no_fault(tmp_path: Path) -> None:
    episodes = file(tmp_path, episode(), tail='{"schema": 1, "kin')
    assert len(list(episodes.scan())) == 1 and episodes.complaint is None


def test_a_damaged_line_is_told(tmp_path: Path) -> None:
    episodes = file(tmp_path, episode(), tail=f"nonsense\n{json.dumps(episode())}\n")
    assert len(list(episodes.scan())) == 1
    assert episodes.complaint is not None and "line 2 is damaged" in episodes.complaint


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([], "line 1 is no episode"),
        ({**episode(), "steps": []}, "it has no steps"),
        ({key: value for key, value in episode().items() if key != "drawn"}, "it has no drawn"),
        ({**episode(), "steps": [{"t": 0}]}, "it has no steps.observation"),
        ({**episode(), "schema": 2}, "newer msgrpo"),
    ],
)
def test_what_is_no_episode_is_refused(tmp_path: Path, row: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        list(file(tmp_path, row).scan())


def test_a_file_that_was_cut_meanwhile(tmp_path: Path) -> None:
    episodes = file(tmp_path, episode(), episode())
    last = list(episodes.scan())[-1][0]
    written(tmp_path, [episode()])
    with pytest.raises(UsageError, match="line 2 is no longer there"):
        episodes.at(last)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        list(EpisodeFile(tmp_path / "episodes.jsonl").scan())
