"""Reference players: exact values of ALGORITHM.md, regrets worked out by hand, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, islice
from statistics import mean, stdev

import numpy as np
import pytest

from msgrpo_cli.common.seeding import seed_from
from msgrpo_cli.episode import Start
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.core import Observation, TextMediatedStochasticGame
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.guard import GameError
from msgrpo_cli.rollout.play import Decision, PlayRules, Policy, play_episodes
from msgrpo_cli.rollout.players import ExactPlayer, GreedyPlayer, RandomPlayer, SearchPlayer
from msgrpo_cli.rollout.split import start_seeds
from support.chance import NORMAL_LIMIT, fits
from support.planted_games import Careless, Fenced

BOARD = ("SFFF", "FHFH", "FFFH", "HFFG")


class Riddle(TextMediatedStochasticGame):
    """A game that tells neither its transitions nor a heuristic."""

    actions = ("yes", "no")

    def new_game(self, rng: np.random.Generator) -> None:
        pass

    def play(self, action: str) -> tuple[float, str | None]:
        return 0.0, "answered"

    def describe(self, observation: Observation = "full") -> str:
        return "Well?"

    def rules(self) -> str:
        return "Guess."

    def state_key(self) -> bytes:
        return b""


def dry() -> FrozenLake:
    return FrozenLake(size=4, p=0.8, slippery=False, max_steps=8)


def slippery() -> FrozenLake:
    return FrozenLake(size=4, p=0.9, slippery=True, max_steps=15)


def drawn(board: tuple[str, ...], max_steps: int, cell: int = 0, slippery: bool = False) -> FrozenLake:
    game = FrozenLake(size=len(board), slippery=slippery, max_steps=max_steps)
    game.reset(seed=0)
    game.board, game.cell = board, cell
    return game


def wins(make_game: Callable[[], FrozenLake], policy: Policy, episodes: int) -> float:
    """Share of won episodes on the generator's own distribution (split any)."""
    seeds = start_seeds(make_game(), "any", (seed_from(("test", number)) for number in count()))
    starts = [Start(seed, number, 0, ("test", number)) for number, seed in enumerate(islice(seeds, episodes))]
    played = play_episodes(starts, make_game, policy, PlayRules(max_live_episodes=100))
    assert all(episode.total_reward == float(bool(episode.success)) for episode in played)
    return mean(episode.total_reward for episode in played)


def error_of(share: float, episodes: int) -> float:
    """Half the width of the 99.9 % interval of a share."""
    return float(NORMAL_LIMIT * (share * (1 - share) / episodes) ** 0.5)


@pytest.mark.slow
@pytest.mark.parametrize(("make_game", "share", "episodes"), [(dry, 0.0076, 4000), (slippery, 0.0647, 2000)])
def test_random_play_wins_as_often_as_it_must(make_game: Callable[[], FrozenLake], share: float, episodes: int) -> None:
    assert wins(make_game, RandomPlayer(), episodes) == pytest.approx(share, abs=error_of(share, episodes))


def test_optimal_play_on_slippery_ice_wins_as_often_as_it_must() -> None:
    assert wins(slippery, ExactPlayer(), 1000) == pytest.approx(0.379, abs=error_of(0.379, 1000))


def test_value_of_optimal_play_on_slippery_ice() -> None:
    player, game, values = ExactPlayer(), slippery(), []
    for number in range(600):
        game.reset(seed=seed_from(("test", number)))
        values.append(player.value(game) or 0.0)
    error = NORMAL_LIMIT * stdev(values) / 600**0.5
    assert error < 0.02
    assert mean(values) == pytest.approx(0.379, abs=error)


def test_optimal_play_on_dry_lakes_always_wins() -> None:
    assert wins(dry, ExactPlayer(), 500) == 1.0
    player, game = ExactPlayer(), dry()
    for number in range(500):
        game.reset(seed=seed_from(("test", number)))
        assert player.value(game) == 1.0


def test_heuristic_play_wins_dry_lakes_and_falls_behind_on_slippery_ones() -> None:
    assert wins(dry, GreedyPlayer(), 200) == 1.0
    assert wins(slippery, GreedyPlayer(), 300) < wins(slippery, ExactPlayer(), 300)


@pytest.mark.parametrize(
    ("max_steps", "cell", "best", "regrets"),
    [
        (6, 0, "down", [1.0, 0.0, 0.0, 1.0]),  # no step to spare
        (7, 0, "left", [0.0, 0.0, 0.0, 0.0]),  # one to spare: the first of equally good actions
        (5, 0, "left", [0.0, 0.0, 0.0, 0.0]),  # too late, whatever is done
        (8, 8, "left", [0.0, 1.0, 0.0, 0.0]),  # down is a hole
        (4, 8, "right", [1.0, 1.0, 0.0, 1.0]),
        (1, 14, "right", [1.0, 1.0, 0.0, 1.0]),
    ],
)
def test_regrets_on_a_dry_board(max_steps: int, cell: int, best: str, regrets: list[float]) -> None:
    player, game = ExactPlayer(), drawn(BOARD, max_steps, cell)
    assert [player.judge(game, action) for action in game.actions] == [(best, regret) for regret in regrets]


# "SF" over "FG", slippery. One step before the end, right of the start: every action but up reaches the goal below
# with 1/3; so V_1 = 1/3 there and below the start. Two steps before the end, at the start: left slips up, left, down;
# down slips left, down, right; right slips down, right, up; up slips left, up, right.
def test_regrets_on_slippery_ice() -> None:
    player, game = ExactPlayer(), drawn(("SF", "FG"), 2, slippery=True)
    assert player.value(game) == pytest.approx(2 / 9)
    judged = [player.judge(game, action) for action in ("left", "down", "right", "up")]
    assert [best for best, _ in judged] == ["down"] * 4
    assert [regret for _, regret in judged] == [pytest.approx(1 / 9), 0.0, 0.0, pytest.approx(1 / 9)]
    game.cell, game.elapsed = 1, 1
    assert player.value(game) == pytest.approx(1 / 3)
    judged = [player.judge(game, action) for action in ("left", "down", "right", "up")]
    assert [best for best, _ in judged] == ["left"] * 4
    assert [regret for _, regret in judged] == [0.0, 0.0, 0.0, pytest.approx(1 / 3)]


def test_the_best_action_has_no_regret() -> None:
    player, game = ExactPlayer(), slippery()
    for seed in range(100):
        game.reset(seed=seed)
        best, _ = player.judge(game, None)
        assert player.judge(game, best) == (best, 0.0)
        regrets = [player.judge(game, action)[1] for action in game.actions]
        assert all(regret is not None and 0.0 <= regret <= 1.0 for regret in regrets)
        assert best == game.actions[regrets.index(0.0)], "the first of equally good actions, rounding aside"


def test_only_the_steps_that_are_left_count() -> None:
    player, game = ExactPlayer(), drawn(BOARD, 8)
    assert player.value(game) == 1.0
    game.elapsed = 3
    assert player.value(game) == 0.0


def test_one_player_keeps_boards_and_ice_apart() -> None:
    player = ExactPlayer()
    assert player.value(drawn(("SF", "FG"), 2)) == 1.0
    assert player.value(drawn(("SF", "FG"), 2, slippery=True)) == pytest.approx(2 / 9)
    assert player.value(drawn(("SH", "HG"), 2)) == 0.0


def test_a_long_horizon_is_no_deep_recursion() -> None:
    assert ExactPlayer().value(drawn(BOARD, 2000, slippery=True)) == pytest.approx(14 / 17, abs=5e-4)


def test_nothing_done_has_no_regret_that_is_known() -> None:
    assert ExactPlayer().judge(drawn(BOARD, 6), None) == ("down", None)


def test_random_player_is_uniform_and_depends_on_the_key_only() -> None:
    game = drawn(BOARD, 8)
    decisions = [Decision(game, "", (0, 1, number, 0, 0)) for number in range(4000)]
    actions = [completion.action for completion in RandomPlayer().act(decisions)]
    assert fits([actions.count(action) for action in game.actions], [1 / 4] * 4)
    assert actions[::-1] == [completion.action for completion in RandomPlayer().act(decisions[::-1])]


def test_players_say_their_action() -> None:
    asked = [Decision(drawn(BOARD, 1, cell=14), "", (0,))]
    for player in (GreedyPlayer(), ExactPlayer()):
        (completion,) = player.act(asked)
        assert (completion.text, completion.action, completion.token_ids) == ("right", "right", ())


def test_what_is_unknown_is_none_and_cannot_be_played() -> None:
    game = Riddle(max_steps=1)
    game.reset(seed=0)
    assert ExactPlayer().judge(game, "yes") == (None, None)
    assert ExactPlayer().value(game) is None
    with pytest.raises(ValueError, match="Riddle does not tell its transitions, so optimal play is unknown"):
        ExactPlayer().act([Decision(game, "", (0,))])
    with pytest.raises(ValueError, match="Riddle has no search"):
        SearchPlayer().act([Decision(game, "", (0,))])
    with pytest.raises(ValueError, match="Riddle has no heuristic player"):
        GreedyPlayer().act([Decision(game, "", (0,))])
    assert RandomPlayer().act([Decision(game, "", (0,))])[0].action in ("yes", "no")


def test_exact_play_is_over_the_legal_moves() -> None:
    """Two rows and columns of dry ice, and slippery: a move off the board would be a step for nothing."""
    game = Fenced(size=2, p=1.0, max_steps=2)
    game.reset(seed=0)
    player = ExactPlayer()
    assert player.value(game) == 1.0
    assert player.judge(game, "right") == ("down", 0.0)
    game.take("down")
    assert player.judge(game, "up") == ("right", 1.0), "asked for legal moves alone, which are right and up here"
    assert player.act([Decision(game, "", (0,))])[0].action == "right"


def test_random_play_is_uniform_over_the_legal_moves() -> None:
    game = Fenced(p=1.0)
    game.reset(seed=0)
    answers = RandomPlayer().act([Decision(game, "", (0, number)) for number in range(600)])
    said = [answer.action for answer in answers]
    assert set(said) == {"down", "right"} and fits([said.count("down"), said.count("right")], [0.5, 0.5])


def test_a_heuristic_that_breaks_its_own_rules_is_told() -> None:
    starts = [Start(5, 0, 0, (0,))]
    with pytest.raises(GameError, match=r"greedy_action.. or search_action.. is 'left', no move of legal"):
        play_episodes(starts, lambda: Careless(p=1.0), GreedyPlayer(), PlayRules())


def test_exact_play_needs_a_list() -> None:
    game = Fenced(size=2, p=1.0, max_steps=2)
    game.reset(seed=0)
    game.legal_in = lambda state: ()  # type: ignore[method-assign]
    with pytest.raises(UsageError, match=r"Fenced: legal_in\(\) lists no move of a state that goes on"):
        ExactPlayer().value(game)
