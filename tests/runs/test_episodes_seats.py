"""Lines of episodes of several players: what each seat had, who sat there, what training made of each pair."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgrpo_cli.analysis.replay.steps import lines_of, outcome, totals, verdict
from msgrpo_cli.episode import Episode, Start, pairs
from msgrpo_cli.evaluation.scores import score
from msgrpo_cli.rollout.play import PlayRules, play_episodes
from msgrpo_cli.rollout.players import RandomPlayer
from msgrpo_cli.runs.episodes import (
    EpisodeFile,
    TrainedPair,
    episode_from_json,
    episode_to_json,
    table_to_json,
)
from support.two_player_games import Cards, Hands


def played(game: Any, seats: tuple[str, ...] = ("self", "random")) -> Episode:
    [episode] = play_episodes([Start(5, 0, 0, (1, 2), seats)], game, RandomPlayer(), PlayRules("a game"))
    return episode


def line_of(episode: Episode, trained: list[TrainedPair]) -> dict[str, Any]:
    line = table_to_json(episode, kind="train", update=1, split="train", trained=trained)
    return dict(json.loads(json.dumps(line)))


def test_a_line_holds_what_each_seat_had() -> None:
    episode = played(Hands)
    line = line_of(episode, [TrainedPair(0, 0.5, [0.5, 0.5], True)])
    own, other = line["seats"]
    assert own == {
        "player": "self",
        "total_reward": episode.seats[0].total_reward,
        "success": episode.seats[0].success,
        "advantage": 0.5,
        "drawn": True,
    }
    assert other["player"] == "random" and other["advantage"] is None and other["drawn"] is None
    assert line["total_reward"] == own["total_reward"] and line["success"] is None and line["drawn"] is True
    assert [step["seat"] for step in line["steps"]] == [0, 1, 0, 1]


def test_advantages_that_differ_stand_at_the_steps_of_their_seat() -> None:
    line = line_of(played(Hands), [TrainedPair(0, 0.5, [0.25, 0.75], True)])
    assert [step.get("advantage") for step in line["steps"]] == [0.25, None, 0.75, None]


def test_what_is_read_back_scores_as_what_was_played() -> None:
    for game in (Cards, Hands):
        for seats in (("self", "random"), ("random", "self"), ("self", "self")):
            episode = played(game, seats)
            found = episode_from_json(episode_to_json(episode, kind="eval", update=None, split="any"))
            assert found.seats == episode.seats and found.start.seats == seats
            assert [pair.total_reward for pair in pairs([found])] == [pair.total_reward for pair in pairs([episode])]
            assert score([found]) == score([episode])


def test_nobody_of_self_has_no_total() -> None:
    line = episode_to_json(played(Hands, ("random", "greedy")), kind="eval", update=None, split="any")
    assert line["total_reward"] is None


def test_scores_are_those_of_selfs_seats() -> None:
    episodes = [replace(played(Hands, seats)) for seats in (("self", "random"), ("random", "self"))]
    found = score(episodes)
    own = [episodes[0].seats[0].total_reward, episodes[1].seats[1].total_reward]
    assert found.mean_total_reward == sum(own) / 2 and found.episodes == 2
    assert found.game_metrics["seat0/total_reward"] == own[0] and found.game_metrics["seat1/total_reward"] == own[1]
    assert found.mean_length == 2.0, "decisions of one seat"
    assert sum(found.ends.values()) == 2


def test_a_replay_says_who_decided_and_what_each_got(tmp_path: Path) -> None:
    episode = played(Hands)
    (tmp_path / "episodes.jsonl").write_text(
        json.dumps(line_of(episode, [TrainedPair(0, 0.5, [0.5, 0.5], True)])) + "\n"
    )
    [(_, row)] = list(EpisodeFile(tmp_path / "episodes.jsonl").scan())
    _, own, other = outcome(row)
    assert own.startswith("player 0 (self) ") and own.endswith("advantage +0.500 drawn for training")
    assert other.startswith("player 1 (random) ") and "advantage" not in other
    assert verdict(row["steps"][1]).words.startswith("player 1: ")
    gains = [step.reward for step in episode.steps]
    assert totals(row) == [gains[0], gains[1], gains[0] + gains[2], gains[1] + gains[3]], "of whoever decided"
    assert "player 1" in "\n".join(lines_of(row, "episode 1"))
