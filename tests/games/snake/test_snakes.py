"""Snake with a player to every snake: who moves, what each sees, what each is paid, when it ends."""

from __future__ import annotations

from typing import Any

import pytest

from msgrpo_cli.common.seeding import generator
from msgrpo_cli.episode import Start
from msgrpo_cli.games.snake.board import Cell
from msgrpo_cli.games.snake.game import Snake
from msgrpo_cli.games.snake.snakes import Snakes
from msgrpo_cli.rollout.play import PlayRules, play_episodes
from msgrpo_cli.rollout.players import GreedyPlayer, RandomPlayer


def placed(*heads: Cell, food: dict[Cell, str] | None = None, **keys: Any) -> Snakes:
    """Snakes of one cell each, on a board of 5x5."""
    game = Snakes(**{"size": 5, "apples": 1, "snakes": len(heads), "step_reward": 0.0, **keys})
    game.reset(seed=0)
    game.board.bodies = [(head,) for head in heads]
    game.board.food = dict(food or {})
    return game


def test_all_that_live_move_at_once_and_each_is_paid_what_it_ate() -> None:
    game = placed((0, 0), (4, 4), food={(1, 0): "apple", (4, 3): "banana"})
    assert game.to_move() == (0, 1)
    assert game.take_turn({0: "right", 1: "down"}) == ((1.0, 2.0), False, False, None)
    assert [body[0] for body in game.board.bodies] == [(1, 0), (4, 3)]
    assert game.game_metrics() == {"apples": 0.5, "length": 2.0, "alive": 1.0}


def test_who_dies_pays_and_the_last_one_ends_the_game() -> None:
    game = placed((0, 0), (4, 4))
    assert game.take_turn({0: "left", 1: "down"}) == ((-3.0, 0.0), True, False, "last snake alive")
    assert game.take_turn({1: "up"})[0][0] == 0.0, "a dead snake is paid nothing more"


def test_heads_that_meet_both_die() -> None:
    assert placed((0, 0), (2, 0)).take_turn({0: "right", 1: "left"}) == ((-3.0, -3.0), True, False, "no snake alive")


def test_a_dead_snake_decides_no_more_while_two_others_play_on() -> None:
    game = placed((0, 0), (4, 4), (2, 2))
    rewards, ended, *_ = game.take_turn({0: "down", 1: "left", 2: "up"})
    assert rewards == (-3.0, 0.0, 0.0) and not ended and game.to_move() == (1, 2)
    rewards, *_, how = game.take_turn({1: "up", 2: "up"})
    assert rewards == (0.0, -3.0, 0.0) and how == "last snake alive"


def test_each_reads_itself_as_its_own_and_the_same_board() -> None:
    game = placed((0, 0), (3, 4), food={(1, 1): "apple"})
    assert game.describe_to(0, "compact") == "you 0 0\nother +3 +4\napple +1 +1"
    assert game.describe_to(1, "compact") == "you 3 4\nother -3 -4\napple -2 -3"
    assert "Your snake: head at (3, 4)" in game.describe_to(1) and "Other snake: head at (0, 0)" in game.describe_to(1)


def test_heuristics_go_for_their_own_apple() -> None:
    game = placed((0, 0), (4, 0), food={(0, 2): "apple", (4, 2): "apple"})
    assert [game.greedy_action_of(seat) for seat in (0, 1)] == ["up", "up"]
    assert [game.search_action_of(seat) for seat in (0, 1)] == ["up", "up"]


def test_the_rules_are_those_of_snake_whoever_moves_the_other() -> None:
    """The same moves on the same board bring the first snake the same in both games."""
    for seed in range(40):
        one, both = Snake(size=5, apples=3, opponents=1, max_steps=12), Snakes(size=5, apples=3, max_steps=12)
        one.reset(seed=seed)
        both.reset(seed=seed)
        assert both.describe_to(0) == one.describe() and both.rules_for(0) == one.rules()
        rng, ended = generator(("moves", seed)), False
        one.np_random, both.np_random = generator(("food", seed)), generator(("food", seed))
        while not ended:
            moves = [str(rng.choice(one.actions)) for _ in range(2)]
            one._opponent_move = lambda number, moves=moves: moves[1]  # type: ignore[method-assign, misc]
            _, reward, terminated, truncated, _ = one.take(moves[0])
            rewards, both_terminated, both_truncated, _ = both.take_turn(dict(enumerate(moves)))
            assert (rewards[0], both_terminated, both_truncated) == (reward, terminated, truncated)
            assert both.describe_to(0) == one.describe()
            ended = terminated or truncated


def test_the_heuristic_eats_more_than_chance_on_either_seat() -> None:
    starts = [Start(seed, 0, 0, (seed, 0)) for seed in range(60)]
    greedy, random = (
        play_episodes(starts, lambda: Snakes(step_reward=0.0), player, PlayRules())
        for player in (GreedyPlayer(), RandomPlayer())
    )
    for seat in (0, 1):
        earned = [sum(one.seats[seat].total_reward for one in played) / 60 for played in (greedy, random)]
        assert earned[0] > 1.0 > 0.0 > earned[1]


@pytest.mark.parametrize(("keys", "said"), [({"snakes": 1}, "snakes=1"), ({"snakes": 20}, "snakes=20")])
def test_a_board_without_room_or_company_is_refused(keys: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Snakes(**keys)
