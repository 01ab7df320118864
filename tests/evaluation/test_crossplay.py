"""Everybody against everybody, both ways round: with rewards that follow from who plays, or from the seat alone."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from msgrpo_cli.cli.app import app
from msgrpo_cli.cli.crossplay import show_crossplay
from msgrpo_cli.errors import UsageError
from msgrpo_cli.evaluation.crossplay import contest, measure_crossplay

GAME = '''
import gymnasium
from msgrpo_cli.games import MultiPlayerGame


class Lots(MultiPlayerGame):
    """Whoever draws long against short gets 1 from the other; with `first` it is seat 0, whatever is drawn."""

    actions = ("short", "long")
    utility = "zero_sum"
    initial_states = "few"

    def __init__(self, first: bool = False, shared: bool = False, max_steps: int = 1):
        super().__init__(max_steps)
        self.first, self.shared = first, shared
        self.utility = "common" if shared else "zero_sum"

    def new_game(self, rng):
        self.number = int(rng.integers(5))

    def to_move(self):
        return (0, 1)

    def play_turn(self, actions):
        gain = float((actions[0] == "long") - (actions[1] == "long"))
        gain = 1.0 if self.first else gain
        return ((gain, gain) if self.shared else (gain, -gain)), "drawn"

    def greedy_action_of(self, player):
        return "long"

    def search_action_of(self, player):
        return "short"

    def describe_to(self, player, observation="full"):
        return f"lot {self.number}"

    def rules(self):
        return "Draw a lot."

    def state_key(self):
        return bytes([self.number])

    def information_key(self, player):
        return bytes([player, self.number])


gymnasium.register("me/Lots-v0", entry_point=Lots)
'''


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("games")
    (folder / "env").mkdir()
    (folder / "two_lots.py").write_text(GAME)
    (folder / "env" / "lots.yaml").write_text(
        "name: lots\nid: two_lots:me/Lots-v0\nmax_steps: 1\nfirst: false\nshared: false\n"
    )
    before = list(sys.path)
    yield folder
    sys.path[:] = before
    sys.modules.pop("two_lots", None)


def crossed(games: Path, *players: str, more: tuple[str, ...] = ()) -> dict[str, Any]:
    asked = contest(players, ["env=lots", "eval.episodes=40", *more], config_dirs=[games])
    return measure_crossplay(asked)


def test_who_plays_better_gets_more_on_both_seats(games: Path) -> None:
    found = crossed(games, "random", "greedy", "search")
    pairs = {(pair["first"], pair["second"]): pair for pair in found["pairs"]}
    sure = pairs["greedy", "search"]
    assert sure["mean_total_reward"] == {"greedy": {"mean": 1.0, "ci95": None}, "search": {"mean": -1.0, "ci95": None}}
    assert (sure["wins"], sure["draws"], sure["losses"]) == (80, 0, 0)
    even = pairs["random", "greedy"]
    assert even["wins"] == 0 and 20 < even["losses"] < 60 and even["losses"] + even["draws"] == 80
    mean = even["mean_total_reward"]["random"]
    assert mean["mean"] == -even["losses"] / 80 and mean["ci95"][0] < -0.5 < mean["ci95"][1]
    by_seat = [one["mean"] for one in even["by_seat"]["random"]]
    assert sum(by_seat) / 2 == pytest.approx(mean["mean"]) and by_seat[0] != by_seat[1]
    rated = {one["player"]: one for one in found["ratings"]}
    assert [one["player"] for one in found["ratings"]] == ["greedy", "random", "search"]
    assert (
        rated["greedy"]["games"] == 160 and rated["greedy"]["score"] == (80 + even["losses"] + even["draws"] / 2) / 160
    )
    assert all(one["standard_error"] > 0 and one["interval"][0] <= one["rating"] for one in found["ratings"])


def test_what_a_seat_is_worth_goes_out_over_both_ways(games: Path) -> None:
    found = crossed(games, "random", "greedy", more=("env.first=true",))
    [pair] = found["pairs"]
    for name in ("random", "greedy"):
        assert [one["mean"] for one in pair["by_seat"][name]] == [1.0, -1.0]
        assert pair["mean_total_reward"][name] == {"mean": 0.0, "ci95": None}
    assert (pair["wins"], pair["losses"]) == (40, 40)
    assert [one["rating"] for one in found["ratings"]] == pytest.approx([0.0, 0.0], abs=1e-6)


def test_all_pairs_play_the_same_starts_and_draw_anew(games: Path) -> None:
    found = crossed(games, "random", "greedy", "search")
    ways = list(dict.fromkeys(tuple(game["seats"]) for game in found["of_games"]))
    assert len(ways) == 6
    of_way = {way: [game for game in found["of_games"] if tuple(game["seats"]) == way] for way in ways}
    assert len({tuple(game["seed"] for game in played) for played in of_way.values()}) == 1
    lots = [[game["total_rewards"][way.index("random")] for game in of_way[way]] for way in ways if "random" in way]
    drawn = {tuple(abs(reward) for reward in rewards) for rewards in lots}
    assert len(drawn) == 4, "chance is no other's"
    assert crossed(games, "random", "greedy", "search") == found, "the same again"


def test_the_command_shows_and_writes_it(games: Path, tmp_path: Path) -> None:
    typed = ["lab", "crossplay", "greedy", "search", "env=lots", f"--config-dir={games}", "eval.episodes=3"]
    told = CliRunner().invoke(app, [*typed, f"--out={tmp_path / 'games.json'}"]).stdout
    assert "lots: every pair plays 3 starts (any) both ways round" in told and "6-0-0" in told
    assert len(json.loads((tmp_path / "games.json").read_text())["of_games"]) == 6
    found = json.loads(CliRunner().invoke(app, [*typed, "--json"]).stdout)
    assert found["players"][0] == {"player": "greedy", "seated": "greedy", "valid_action_rate": 1.0}
    assert "of_games" not in found
    path = "runs/of/some/length/checkpoints/checkpoint-20"
    with redirect_stdout(io.StringIO()) as shown:
        show_crossplay(json.loads(json.dumps(found).replace('"greedy"', f'"{path}"')))
    lines = shown.getvalue().splitlines()
    assert f"A  {path}" in lines and sum(path in line for line in lines) == 1, "long names have letters"
    assert any(line.startswith("A       search") for line in lines)
    shared = CliRunner().invoke(app, [*typed, "env.shared=true"]).stdout
    assert "No ratings" in shared


@pytest.mark.parametrize(
    ("players", "overrides", "said"),
    [
        (["random"], ["env=lots"], "players random: give two or more different ones"),
        (["random", "random"], ["env=lots"], "give two or more different ones"),
        (["random", "greedy"], ["env=frozenlake"], "env=frozenlake: has 1 player as it is configured"),
        (["random", "nobody"], ["env=lots"], "nobody"),
        (["random", "greedy"], ["env=lots", "eval.seats=[self,random]"], "who plays is named"),
        (["random", "greedy"], ["env=lots", "rollout.temperature=1"], "rollout.temperature=1: changes nothing"),
    ],
)
def test_what_cannot_play_is_refused(games: Path, players: list[str], overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        contest(players, overrides, config_dirs=[games])
    assert said in str(refused.value)
