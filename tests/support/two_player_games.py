"""Users' games of two players, one file each, written where a user's module would lie: in turn, and at once.

They are made here, not taken from anywhere: a card game with hidden cards and a bet, like Kuhn's, and two matrix games.
"""

from __future__ import annotations

from pathlib import Path

import gymnasium

from msgrpo_cli.games import MultiPlayerGame

CARDS = '''
import gymnasium
from msgrpo_cli.games import MultiPlayerGame


class Cards(MultiPlayerGame):
    """Three cards, one for each of two players; bet or pass in turn, the higher card takes the pot."""

    actions = ("pass", "bet")
    utility = "zero_sum"
    initial_states = "few"
    hides = "the other player's card"

    def __init__(self, max_steps: int = 3):
        super().__init__(max_steps)

    def new_game(self, rng):
        self.cards = tuple(int(card) for card in rng.permutation(3)[:2])
        self.bets = ""

    def to_move(self):
        return (len(self.bets) % 2,)

    def play_turn(self, actions):
        self.bets += actions[len(self.bets) % 2][0]
        if self.bets in ("bp", "pbp"):
            winner, stake = (0 if self.bets == "bp" else 1), 1.0
        elif self.bets in ("pp", "bb", "pbb"):
            winner, stake = (0 if self.cards[0] > self.cards[1] else 1), 2.0 if "bb" in self.bets else 1.0
        else:
            return (0.0, 0.0), None
        self.winner = winner
        return ((stake, -stake) if winner == 0 else (-stake, stake)), "showdown"

    def describe_to(self, player, observation="full"):
        return f"card {self.cards[player]} bets {self.bets or 'none'}"

    def rules(self):
        return "Pass or bet; the higher card wins."

    def state_key(self):
        return repr((self.cards, self.bets)).encode()

    def information_key(self, player):
        return repr((player, self.cards[player], self.bets)).encode()

    def greedy_action_of(self, player):
        return "bet" if self.cards[player] == 2 else "pass"


gymnasium.register("me/Cards-v0", entry_point=Cards)
'''
HANDS = '''
import gymnasium
from msgrpo_cli.games import MultiPlayerGame

BEATS = {("rock", "scissors"), ("scissors", "paper"), ("paper", "rock")}


class Hands(MultiPlayerGame):
    """Both show a hand at once, some rounds long."""

    actions = ("rock", "paper", "scissors")
    utility = "zero_sum"
    seats_are_alike = True
    initial_states = "few"

    def __init__(self, rounds: int = 2, max_steps: int = 2):
        super().__init__(max_steps)
        self.rounds = rounds

    def new_game(self, rng):
        self.shown, self.points = (), [0.0, 0.0]

    def to_move(self):
        return (0, 1)

    def play_turn(self, actions):
        first, second = actions[0], actions[1]
        gain = 1.0 if (first, second) in BEATS else -1.0 if (second, first) in BEATS else 0.0
        self.shown = (*self.shown, (first, second))
        self.points = [self.points[0] + gain, self.points[1] - gain]
        return (gain, -gain), "over" if len(self.shown) == self.rounds else None

    def success_of(self, player):
        return self.points[player] > self.points[1 - player]

    def describe_to(self, player, observation="full"):
        before = [f"{hands[player]} against {hands[1 - player]}" for hands in self.shown]
        return "shown: " + (", ".join(before) or "nothing")

    def rules(self):
        return "Show a hand; rock beats scissors, scissors beat paper, paper beats rock."

    def state_key(self):
        return repr(self.shown).encode()

    def information_key(self, player):
        return repr([(hands[player], hands[1 - player]) for hands in self.shown]).encode()


gymnasium.register("me/Hands-v0", entry_point=Hands)
'''
MEETING = '''
import gymnasium
from msgrpo_cli.games import MultiPlayerGame


class Meeting(MultiPlayerGame):
    """Both win where they go the same way, in a direction that `tiny` knows a word for."""

    actions = ("left", "right", "up", "down")
    utility = "common"
    seats_are_alike = True
    initial_states = "few"

    def __init__(self, max_steps: int = 2):
        super().__init__(max_steps)

    def new_game(self, rng):
        self.met = 0

    def to_move(self):
        return (0, 1)

    def play_turn(self, actions):
        gain = 1.0 if actions[0] == actions[1] else 0.0
        self.met += int(gain)
        return (gain, gain), None

    def describe_to(self, player, observation="full"):
        return f"met {self.met}"

    def rules(self):
        return "Go where the other goes."

    def state_key(self):
        return bytes([self.met])

    def information_key(self, player):
        return bytes([self.met])


gymnasium.register("me/Meeting-v0", entry_point=Meeting)
'''
KEYS = {
    "meeting": "name: meeting\nid: two_meeting:me/Meeting-v0\nmax_steps: 2\n",
    "cards": "name: cards\nid: two_cards:me/Cards-v0\nmax_steps: 3\n",
    "hands": "name: hands\nid: two_hands:me/Hands-v0\nrounds: 2\nmax_steps: 2\n",
}


def write_games(folder: Path) -> None:
    """Makes a folder for --config-dir, with the games `env=cards`, `env=hands` and `env=meeting` in it."""
    (folder / "env").mkdir(parents=True, exist_ok=True)
    (folder / "two_cards.py").write_text(CARDS)
    (folder / "two_hands.py").write_text(HANDS)
    (folder / "two_meeting.py").write_text(MEETING)
    for name, keys in KEYS.items():
        (folder / "env" / f"{name}.yaml").write_text(keys)


def _class(source: str, name: str) -> type[MultiPlayerGame]:
    names: dict[str, object] = {}
    exec(source.replace("gymnasium.register", "(lambda *_, **__: None)"), names)
    found = names[name]
    assert isinstance(found, type) and issubclass(found, MultiPlayerGame)
    return found


Cards = _class(CARDS, "Cards")
Hands = _class(HANDS, "Hands")
gymnasium.register("test/Cards-v0", entry_point=Cards)
gymnasium.register("test/Hands-v0", entry_point=Hands)
