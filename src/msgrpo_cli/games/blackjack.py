"""Blackjack, as text: gymnasium's cards and rules, with the exact chances that a player can reckon with.

Knows cards and their chances. Knows nothing about tokens, models or training.
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from .core import Transition
from .facts import Fact
from .gym import GymGame

Hand = tuple[int, bool]
"""(sum, whether an ace is counted as 11 in it)."""
Seen = tuple[int, int, bool]
"""(the own sum, the dealer's open card, whether an ace is counted as 11)."""

_CHANCES = {card: (4 if card == 10 else 1) / 13 for card in range(1, 11)}
"""Of each card, drawn with replacement; an ace is 1."""
_MOST, _DEALER_STANDS = 21, 17
_TEMPLATE = """\
Your cards sum to {{ observation[0] }}{{ ", an ace counted as 11" if observation[2] else "" }}.
The dealer shows {{ "an ace" if observation[1] == 1 else observation[1] }}."""
_COMPACT = 'you {{ observation[0] }}{{ " ace" if observation[2] else "" }}\ndealer {{ observation[1] }}'
_RULES = (
    "You play blackjack. Cards 2 to 10 count their number, face cards 10, an ace 1 or 11. Hit takes a card; with more "
    "than 21 you lose. Stick ends your turn: the dealer takes cards until 17 or more, and the sum nearer to 21 wins. "
    "Winning gives 1, losing -1, a draw 0."
)


class Blackjack(GymGame):
    """Beat the dealer. +1 for winning, -1 for losing, 0 for a draw; the dealer's second card is hidden."""

    inner_id = "Blackjack-v1"
    draws = False
    reward_range = (-1.0, 1.0)
    facts: ClassVar[Any] = (
        Fact("sum", "full", r"sum to (\d+)", lambda game: [_sum_of(game.cards)[0]]),
        Fact("ace", "full", r"sum to \d+(, an ace counted as 11)?\.", lambda game: [_ace(game)]),
        Fact("dealer", "full", r"shows (an ace|\d+)", lambda game: [_shown(game)]),
        Fact("sum", "compact", r"\Ayou (\d+)", lambda game: [_sum_of(game.cards)[0]]),
        Fact("ace", "compact", r"\Ayou \d+( ace)?\n", lambda game: [" ace" if _sum_of(game.cards)[1] else None]),
        Fact("dealer", "compact", r"dealer (\d+)\Z", lambda game: [game.open_card]),
    )

    def __init__(self, max_steps: int = 12) -> None:
        super().__init__(
            actions=("stick", "hit"),
            max_steps=max_steps,
            template=_TEMPLATE,
            compact=_COMPACT,
            state=("player", "dealer"),
            rules=_RULES,
            initial_states="connected",
            hides="the dealer's second card, and how the sum is made up",
            success_from=1.0,
        )

    @property
    def cards(self) -> list[int]:
        """The own ones."""
        return [int(card) for card in self._inner.unwrapped.player]

    @property
    def open_card(self) -> int:
        """The dealer's; 1 is an ace."""
        return int(self._inner.unwrapped.dealer[0])

    # What a player can know: the hidden card is any card, since all are drawn with replacement

    def state(self) -> Seen:
        total, ace = _sum_of(self.cards)
        return total, self.open_card, ace

    def transitions(self, state: Seen, action: str) -> list[Transition]:
        total, shown, ace = state
        if action == "stick":
            return [(chance, state, reward, True) for reward, chance in _outcomes(total, shown).items() if chance]
        found: list[Transition] = []
        for card, chance in _CHANCES.items():
            after, usable = _with((total, ace), card)
            lost = after > _MOST
            found.append((chance, (after, shown, usable), -1.0 if lost else 0.0, lost))
        return found

    def greedy_action(self) -> str:
        """Stick like the dealer, from 17."""
        return "stick" if _sum_of(self.cards)[0] >= _DEALER_STANDS else "hit"


def _with(hand: Hand, card: int) -> Hand:
    """A hand and one more card."""
    total, ace = hand
    total += card
    if card == 1 and not ace and total + 10 <= _MOST:
        return total + 10, True
    if ace and total > _MOST:
        return total - 10, False
    return total, ace


def _sum_of(cards: list[int]) -> Hand:
    hand: Hand = (0, False)
    for card in sorted(cards, reverse=True):  # aces last, so that each sees what the others leave
        hand = _with(hand, card)
    return hand


@cache
def _outcomes(total: int, shown: int) -> dict[float, float]:
    """The chance of each reward when the player sticks with a sum and the dealer shows a card."""
    chances = {1.0: 0.0, 0.0: 0.0, -1.0: 0.0}
    for final, chance in _dealer(_with((0, False), shown)):
        reward = 1.0 if final > _MOST or total > final else -1.0 if total < final else 0.0
        chances[reward] += chance
    return chances


@cache
def _dealer(hand: Hand) -> tuple[tuple[int, float], ...]:
    """The dealer's final sums from here, with their chances."""
    if hand[0] >= _DEALER_STANDS:
        return ((hand[0], 1.0),)
    chances: dict[int, float] = {}
    for card, chance in _CHANCES.items():
        for final, later in _dealer(_with(hand, card)):
            chances[final] = chances.get(final, 0.0) + chance * later
    return tuple(chances.items())


def _shown(game: Blackjack) -> str:
    return "an ace" if game.open_card == 1 else str(game.open_card)


def _ace(game: Blackjack) -> str | None:
    return ", an ace counted as 11" if _sum_of(game.cards)[1] else None
