"""`msgrpo env check` of games of several players: sound ones pass, each planted fault is named by its check."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest

from msgrpo_cli.games.registry import GameBlock
from msgrpo_cli.rollout.game_check import _result, check_game, checks_of
from support.two_player_games import Cards, Hands


def failures(game: Any) -> dict[str, str]:
    """What fails, and why; of all checks but that in fresh processes, which do not know the planted game."""
    name = f"planted/{game.__name__}-v0"
    gymnasium.registry.pop(name, None)
    gymnasium.register(name, entry_point=game)
    env = GameBlock(game.__name__, name, {})
    results = [_result(check, look, env) for check, look in checks_of(env).items() if check != "repeats"]
    return {check.name: check.detail for check in results if not check.passed}


def test_sound_games_pass() -> None:
    for name in ("Cards", "Hands"):
        env = GameBlock(name.lower(), f"support.two_player_games:test/{name}-v0", {})
        checks = {check.name: check for check in check_game(env)}
        assert all(check.passed for check in checks.values()), checks
        assert "what seats see" in checks and "gymnasium" not in checks
    assert (
        "went on alike" in checks["state key"].detail and "gave exchanged rewards" in checks["exchanged seats"].detail
    )


def test_a_player_who_sees_the_others_cards() -> None:
    class Peeking(Cards):  # type: ignore[valid-type, misc]
        def describe_to(self, player: int, observation: Any = "full") -> str:
            return f"{super().describe_to(player)} other {self.cards[1 - player]}"

    assert "player 0 reads what it may not know" in failures(Peeking)["what seats see"]


def test_a_key_that_leaves_out_what_is_shown() -> None:
    class Forgetful(Cards):  # type: ignore[valid-type, misc]
        def information_key(self, player: int) -> bytes:
            return repr((player, self.bets)).encode()

    assert "reads what it may not know" in failures(Forgetful)["what seats see"]


def test_a_text_that_leaves_out_what_may_be_known() -> None:
    class Silent(Hands):  # type: ignore[valid-type, misc]
        def describe_to(self, player: int, observation: Any = "full") -> str:
            return "Show a hand."

    assert "say in `hides`" in failures(Silent)["what seats see"]


def test_a_legal_list_that_leaks() -> None:
    class Leaking(Cards):  # type: ignore[valid-type, misc]
        def legal_for(self, player: int) -> tuple[str, ...]:
            return ("pass", "bet") if self.cards[player] > self.cards[1 - player] else ("pass",)

    assert "tells what the full text hides: ('pass',)" in failures(Leaking)["legal moves"]


@pytest.mark.parametrize(
    ("tied", "said"), [("zero_sum", "sum to"), ("common", "differ")], ids=["not zero sum", "not common"]
)
def test_rewards_that_are_not_tied_as_declared(tied: str, said: str) -> None:
    class Loose(Hands):  # type: ignore[valid-type, misc]
        utility = tied

        def play_turn(self, actions: Any) -> Any:
            (gain, _), ending = super().play_turn(actions)
            return (gain + 1.0, 0.5), ending

    assert said in failures(Loose)["rewards"]


def test_a_seat_whose_reward_goes_to_the_other() -> None:
    class Swapped(Hands):  # type: ignore[valid-type, misc]
        def play_turn(self, actions: Any) -> Any:
            (first, second), ending = super().play_turn(actions)
            return (second, first), ending

    found = failures(Swapped)
    assert "do the rewards go to the right seats?" in found["rewards"] and list(found) == ["rewards"]


def test_seats_that_are_not_alike() -> None:
    class Favouring(Hands):  # type: ignore[valid-type, misc]
        def play_turn(self, actions: Any) -> Any:
            (gain, _), ending = super().play_turn(actions)
            gain = 1.0 if actions[0] == "rock" else gain
            return (gain, -gain), ending

    assert "seats_are_alike, but" in failures(Favouring)["exchanged seats"]


def test_a_state_key_that_forgets() -> None:
    class Blurred(Cards):  # type: ignore[valid-type, misc]
        def state_key(self) -> bytes:
            return str(self.bets).encode()

    assert "equal keys, unequal states" in failures(Blurred)["state key"]


def test_a_heuristic_that_breaks_the_rules() -> None:
    class Cheating(Cards):  # type: ignore[valid-type, misc]
        def legal_for(self, player: int) -> tuple[str, ...]:
            return ("pass",)

        def greedy_action_of(self, player: int) -> str:
            return "bet"

    assert "greedy_action_of(0) is 'bet'" in failures(Cheating)["legal moves"]


def test_an_endless_game() -> None:
    class Endless(Hands):  # type: ignore[valid-type, misc]
        def _count_step(self, terminated: bool) -> bool:
            self.elapsed += 1
            return False

        def play_turn(self, actions: Any) -> Any:
            return (0.0, 0.0), None

    assert "goes on after max_steps=2 turns" in failures(Endless)["ends"]
