"""OpenSpiel's games, their seats in words: whose turn it is, what each may do and sees, what is paid; and as a `Tree`.

Knows OpenSpiel's interface. Knows nothing about how a seat is played, templates, tokens, models or training.

OpenSpiel numbers actions, and names them by the state they are taken in. A word must stand for one action of a seat in
whatever state, so words are looked for in some random play, the same each time: a name that was seen for one number
alone, and no other for that number, is its word; all other actions are called "move" and their number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from msgrpo_cli.common.text import did_you_mean

from .core import Observation

_INSTALL = "needs OpenSpiel: pip install 'msgrpo[openspiel]'"
_SURVEYED, _LONGEST = 200, 4000  # games, and moves of all of them together, that are played to learn words
Utility = Literal["zero_sum", "constant_sum", "general_sum", "identical"]


class OpenSpielTable:
    """A game with all its seats. `np_random` is whatever chance draws from, by OpenSpiel's own probabilities."""

    def __init__(self, game: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Raises ValueError for a game or parameter that OpenSpiel does not have, or that has no turns."""
        self.name = game
        self._game = _loaded(game, dict(arguments or {}))
        kind = self._game.get_type()
        self.title = str(kind.long_name)
        self.ends_within = int(self._game.max_game_length())  # decisions, chance's own left out
        self.players = int(self._game.num_players())
        self.utility: Utility = kind.utility.name.lower()
        self._perfect = perfect = kind.information.name == "PERFECT_INFORMATION"
        self.hides = (
            "how the board came about" if perfect else "what this player has not been shown, such as others' cards"
        )
        self._shows_history = bool(kind.provides_information_state_string)
        self._shows_board = bool(kind.provides_observation_string) and (perfect or not self._shows_history)
        if not (self._shows_history or self._shows_board):
            raise ValueError(f"game={game}: OpenSpiel gives no text of what a player sees; take another game")
        at_end = kind.reward_model.name == "TERMINAL"
        bounds = (float(self._game.min_utility()), float(self._game.max_utility()))
        self.reward_range = bounds if at_end else (-float("inf"), float("inf"))
        self._words = _words(str(self._game))
        self._numbers = tuple({word: number for number, word in of_seat.items()} for of_seat in self._words)
        self.np_random = np.random.default_rng(0)
        self._state = self._game.new_initial_state()

    def words_of(self, player: int) -> tuple[str, ...]:
        """The words of a seat's actions, in OpenSpiel's order: those that some state showed, then every other."""
        return tuple(self._words[player].values())

    def new_game(self, rng: np.random.Generator) -> None:
        """Begin anew; what chance does before the first move is drawn from `rng`, which stays the one to draw from."""
        self.np_random = rng
        self._state = self._game.new_initial_state()
        self._let_chance_move()

    @property
    def ended(self) -> str | None:
        """A word for the end, once the game has ended."""
        return "end" if self._state.is_terminal() else None

    def to_move(self) -> tuple[int, ...]:
        """The seats that choose now; several where they choose at once, none at the end."""
        return _to_move(self._state)

    def legal(self, player: int) -> tuple[str, ...]:
        """The words of what a seat may do now; empty where it is not its turn."""
        if player not in self.to_move():
            return ()
        return tuple(self._words[player][number] for number in self._state.legal_actions(player))

    def play_turn(self, actions: Mapping[int, str]) -> tuple[tuple[float, ...], str | None]:
        """All seats of `to_move` choose, then chance moves; what each seat is paid for it, and a word for the end.

        Raises ValueError for choices that are none of `to_move` and `legal`.
        """
        seats = self.to_move()
        if set(actions) != set(seats):
            raise ValueError(f"{self.name}: moves of the seats {sorted(actions)}, where {list(seats)} are to move")
        numbers = {seat: self._numbers[seat].get(actions[seat]) for seat in seats}
        for seat, number in numbers.items():
            if number is None or number not in self._state.legal_actions(seat):
                raise ValueError(f"{self.name}: {actions[seat]!r} is no legal move of seat {seat}")
        before = self._state.returns()
        _apply(self._state, numbers)
        self._let_chance_move()
        paid = tuple(float(after - was) for after, was in zip(self._state.returns(), before, strict=True))
        return paid, self.ended

    def _let_chance_move(self) -> None:
        while self._state.is_chance_node():
            numbers, chances = zip(*self._state.chance_outcomes(), strict=True)
            bounds = np.cumsum(chances)
            drawn = int(np.searchsorted(bounds, self.np_random.random() * bounds[-1], side="right"))
            self._state.apply_action(numbers[min(drawn, len(numbers) - 1)])

    def information_key(self, player: int) -> bytes:
        """All that a seat knows: OpenSpiel's information state, or, where it has none, what the seat sees now."""
        return _information(self._state, player, self._shows_history).encode()

    def state_key(self) -> bytes:
        """All that happened, chance included: never wrong, if finer than where the board alone decides (in Go it does
        not: a position may not be repeated)."""
        return str(self._state.history_str()).encode()

    def describe(self, observation: Observation, player: int) -> str:
        """What a seat sees: `compact` as OpenSpiel writes it but for brackets, `full` in words where they are known."""
        board = self._shows_board
        text = self._state.observation_string(player) if board else self._state.information_state_string(player)
        read = _READERS.get(self.name, _tidy) if observation == "full" else _tidy
        seen = read(str(text)) or "Nothing has happened yet."
        if observation == "compact":
            return seen
        moves = self.legal(player)
        return f"{seen}\nYour moves: {', '.join(map(self._told(player), moves))}." if moves else seen

    def _told(self, player: int) -> Callable[[str], str]:
        """A word, with what OpenSpiel calls the action in this state where that is something else."""

        def told(word: str) -> str:
            name = _name(self._state.action_to_string(player, self._numbers[player][word]))
            return word if name == word else f"{word} ({name})"

        return told

    def stand_at(self, node: OpenSpielTree) -> None:
        """Be where a node of the tree is."""
        self._state = node.state.clone()

    def tree(self) -> OpenSpielTree:
        """The whole game, from before chance first moves."""
        root = self._game.new_initial_state()
        return OpenSpielTree(root, self._words, self._shows_history, self._perfect, tuple([0.0] * self.players))


@dataclass(frozen=True)
class OpenSpielTree:
    """A node of a game of OpenSpiel; keeps the protocol of `tree.Tree`."""

    state: Any
    words: tuple[Mapping[int, str], ...]
    shows_history: bool
    perfect_information: bool
    before: tuple[float, ...]
    """What every seat had been paid at the node before."""

    @property
    def players(self) -> int:
        return len(self.words)

    def chance(self) -> Sequence[tuple[float, OpenSpielTree]]:
        if not self.state.is_chance_node():
            return []
        return [
            (float(chance), self._with(self.state.child(number))) for number, chance in self.state.chance_outcomes()
        ]

    def to_move(self) -> tuple[int, ...]:
        return _to_move(self.state)

    def legal(self, player: int) -> tuple[str, ...]:
        return tuple(self.words[player][number] for number in self.state.legal_actions(player))

    def information_key(self, player: int) -> Hashable:
        return self.state_key() if self.perfect_information else _information(self.state, player, self.shows_history)

    def after(self, actions: Mapping[int, str]) -> OpenSpielTree:
        state = self.state.clone()
        numbers = {
            seat: next(one for one in state.legal_actions(seat) if self.words[seat][one] == word)
            for seat, word in actions.items()
        }
        _apply(state, numbers)
        return self._with(state)

    def rewards(self) -> Sequence[float]:
        return [float(now - was) for now, was in zip(self.state.returns(), self.before, strict=True)]

    def state_key(self) -> Hashable:
        """The state as OpenSpiel writes it, whose turn it is, and what has been paid."""
        return str(self.state), self.to_move(), tuple(self.state.returns())

    def _with(self, state: Any) -> OpenSpielTree:
        return replace(self, state=state, before=tuple(map(float, self.state.returns())))


def _to_move(state: Any) -> tuple[int, ...]:
    if state.is_terminal() or state.is_chance_node():
        return ()
    if state.is_simultaneous_node():
        return tuple(seat for seat in range(state.num_players()) if state.legal_actions(seat))
    return (int(state.current_player()),)


def _apply(state: Any, numbers: Mapping[int, Any]) -> None:
    if state.is_simultaneous_node():
        state.apply_actions([numbers.get(seat, 0) for seat in range(state.num_players())])
    else:
        state.apply_action(*numbers.values())


def _information(state: Any, player: int, shows_history: bool) -> str:
    return str(state.information_state_string(player) if shows_history else state.observation_string(player))


def _loaded(game: str, arguments: dict[str, Any]) -> Any:
    """OpenSpiel writes its complaints to stderr beside raising, so what can be looked up is looked up before."""
    try:
        import pyspiel
    except ImportError as problem:
        raise ValueError(f"game={game}: {_INSTALL}") from problem
    names = pyspiel.registered_names()
    if game not in names:
        raise ValueError(f"game={game}: OpenSpiel has no game of that name{did_you_mean(game, names)}")
    kind = next(one for one in pyspiel.registered_games() if one.short_name == game)
    if unknown := [name for name in arguments if name not in kind.parameter_specification]:
        hint = did_you_mean(unknown[0], kind.parameter_specification)
        raise ValueError(f"arguments={arguments}: {game} has no parameter {unknown[0]}{hint}")
    if kind.dynamics.name not in ("SEQUENTIAL", "SIMULTANEOUS"):
        raise ValueError(f"game={game}: a mean-field game, which has no seats; take another")
    try:
        made = pyspiel.load_game(game, arguments)
        made.new_initial_state()
    except Exception as problem:
        key = f"arguments={arguments}" if arguments else f"game={game}"
        raise ValueError(f"{key}: {game} cannot be made: {' '.join(str(problem).split())}") from problem
    if kind.chance_mode.name == "SAMPLED_STOCHASTIC":
        raise ValueError(f"game={game}: OpenSpiel draws its chance unseen, without probabilities; take another game")
    return made


@lru_cache
def _words(game: str) -> tuple[dict[int, str], ...]:
    """For every seat the word of each action number; `game` is OpenSpiel's own way to write a game with parameters."""
    import pyspiel

    made = pyspiel.load_game(game)
    rng, moves = np.random.default_rng(0), 0
    names: list[dict[int, set[str]]] = [{} for _ in range(made.num_players())]
    for _ in range(_SURVEYED):
        state = made.new_initial_state()
        while not state.is_terminal() and moves < _LONGEST:
            moves += 1
            if state.is_chance_node():
                state.apply_action(int(rng.choice(state.legal_actions())))  # whatever it may be, however seldom
                continue
            seats = _to_move(state)
            for seat in seats:
                for number in state.legal_actions(seat):
                    names[seat].setdefault(number, set()).add(_name(state.action_to_string(seat, number)))
            _apply(state, {seat: int(rng.choice(state.legal_actions(seat))) for seat in seats})
    return tuple(_words_of_seat(of_seat, made.num_distinct_actions()) for of_seat in names)


def _words_of_seat(names: Mapping[int, set[str]], actions: int) -> dict[int, str]:
    owners: dict[str, set[int]] = {}
    for number, told in names.items():
        for name in told:
            owners.setdefault(name, set()).add(number)
    words = {}
    for number in range(actions):
        name = next(iter(names.get(number, ())), "")
        clear = len(names.get(number, ())) == 1 and len(owners[name]) == 1 and name.isprintable() and "<" not in name
        words[number] = name if clear and name and not name.startswith("move ") else f"move {number}"
    return words


def _name(text: str) -> str:
    """As a parser reads it: lower case, blanks single."""
    return " ".join(text.lower().split())


def _tidy(text: str) -> str:
    """OpenSpiel's `[Private: 1][Pot: 2]` as lines."""
    lines = text.strip("\n")
    return "\n".join(re.findall(r"\[([^\[\]]*)\]", lines)) if re.fullmatch(r"(\[[^\[\]]*\])+", lines) else lines


def _kuhn(text: str) -> str:
    card, moves = re.fullmatch(r"(\d+)([pb]*)", text).groups()  # type: ignore[union-attr]
    said = ", ".join({"p": "pass", "b": "bet"}[move] for move in moves) or "none"
    return f"Your card is {card}; the highest card wins. Moves so far, from player 0 on: {said}."


def _leduc(text: str) -> str:
    """Sequences of the rounds in words; who looks is told by the rules."""
    names = {"0": "fold", "1": "call", "2": "raise"}
    lines = []
    for line in _tidy(text).splitlines():
        if round_ := re.fullmatch(r"Round(\d): ?([\d ]*)", line):
            said = ", ".join(names[number] for number in round_[2].split()) or "none"
            lines.append(f"Moves of round {round_[1]}: {said}")
        elif not line.startswith("Observer"):
            lines.append(line.replace("Private:", "Your card:").replace("Public:", "Card on the table:"))
    return "\n".join(lines)


_READERS: Mapping[str, Callable[[str], str]] = {"kuhn_poker": _kuhn, "leduc_poker": _leduc}
"""Of games whose own texts are a code."""
