"""TextArena's games: who answers now, what each player has been told, what is paid.

Knows TextArena's interface. Knows nothing about its single games, how a seat is played, tokens, models or training.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from .guard import reason

TEXTS = spaces.Text(
    min_length=1,
    max_length=100_000,
    charset="\n" + "".join(map(chr, (*range(0x20, 0x7F), *range(0xA0, 0x250), *range(0x2000, 0x2800)))),
)
"""Cards, arrows and frames among them."""
_INSTALL = "needs TextArena: pip install 'msgrpo[textarena]'"
_VALUES = (bool, int, float, str, type(None))


@dataclass
class Heard:
    """What a player has been told: its rules, the latest board, and the rest, since it last answered or altogether."""

    rules: str = ""
    board: str = ""
    said: str = ""

    def text(self) -> str:
        return "\n".join(filter(None, [self.board, self.said])) or "Nothing has been said yet."


class TextArenaTable:
    """A game with all its players; whatever it draws comes from the generators it is given."""

    def __init__(self, game: str, arguments: Mapping[str, Any] | None, players: int, *, remember: bool = False) -> None:
        """`remember`: what is said to a player, and what it answers, stays until the end.

        Raises ValueError for a game that TextArena does not have, or that cannot be started with so many players."""
        self.name, self.players, self._remember = game, players, remember
        self._arguments = dict(arguments or {})
        self._pristine = self._inner = _made(game, self._arguments)
        self.heard = [Heard() for _ in range(players)]
        try:
            self.new_game(np.random.default_rng(0))
        except Exception as problem:
            by = "one player" if players == 1 else f"{players} players"
            raise ValueError(f"game={game}: cannot be started by {by}: {reason(problem)}") from problem

    def new_game(self, rng: np.random.Generator) -> None:
        self.heard = [Heard() for _ in range(self.players)]
        self._inner = copy.deepcopy(self._pristine)  # some games keep things from before
        with _chance(rng) as seed:
            self._inner.reset(num_players=self.players, seed=seed)
            self._listen()

    @property
    def mover(self) -> int:
        """Who answers now."""
        return int(self._inner.state.current_player_id)

    def answer(self, text: str, rng: np.random.Generator) -> bool:
        """The mover's answer; whether it ended the game. One that the game calls invalid is told to whoever gave it."""
        with _chance(rng):
            if not self._remember:
                self.heard[self.mover].said = ""
            ended, _ = self._inner.step(text)
            self._listen()
        return bool(ended)

    def rewards(self) -> tuple[float, ...]:
        """What each player is paid, once the game has ended."""
        paid, _ = self._inner.close()
        return tuple(float((paid or {}).get(player, 0.0)) for player in range(self.players))

    def _listen(self) -> None:
        """Sort what is said: rules, boards, and the rest; of answers those of others, and one's own to remember."""
        from textarena import ObservationType

        for player, heard in enumerate(self.heard):
            if player == self.mover:
                messages = self._inner.get_observation()[1]
            else:
                messages, self._inner.state.observations[player] = self._inner.state.observations[player], []
            said = [(sender, kind, text.strip()) for sender, text, kind in messages]
            if prompts := [text for _, kind, text in said if kind is ObservationType.PROMPT]:
                heard.rules = "\n".join(prompts)
            if boards := [text for _, kind, text in said if kind is ObservationType.GAME_BOARD]:
                heard.board = boards[-1]
            apart = (ObservationType.PROMPT, ObservationType.GAME_BOARD, ObservationType.PLAYER_ACTION)
            told = [
                text if kind is not ObservationType.PLAYER_ACTION else f"Player {sender}: {text}"
                for sender, kind, text in said
                if kind not in apart or (kind is ObservationType.PLAYER_ACTION and (self._remember or sender != player))
            ]
            heard.said = "\n".join(filter(None, [heard.said, *told]))

    def key(self, *told: str) -> bytes:
        """Every plain value that the game and its state hold, its log of messages apart; its own count of turns too."""
        state = self._inner.state
        counted = [getattr(state, name, None) for name in ("turn", "error_count", "done")]
        own = {name: value for name, value in vars(self._inner).items() if name != "state"}
        return repr((_plain(own), _plain(state.game_state), counted, *told)).encode()

    def refuses_all(self, answers: Sequence[str]) -> bool:
        """Whether every answer is called invalid at the start; found out once for each game and list of answers."""
        key = (self.name, self.players, repr(self._arguments), tuple(answers))
        if key not in _refusals:
            _refusals[key] = all(self._is_refused(answer) for answer in answers)
        return _refusals[key]

    def _is_refused(self, answer: str) -> bool:
        inner = copy.deepcopy(self._pristine)
        with _chance(np.random.default_rng(0)) as seed:
            inner.reset(num_players=self.players, seed=seed)
            mover = inner.state.current_player_id
            inner.step(answer)
        return bool(getattr(inner.state, "error_count", 0) or inner.state.game_info[mover].get("invalid_move"))


def _made(game: str, arguments: Mapping[str, Any]) -> Any:
    """The game itself, without TextArena's wrappers, which would put the whole conversation into one text."""
    try:
        import textarena
        from textarena.envs.registration import ENV_REGISTRY
    except ImportError as problem:
        raise ValueError(f"game={game}: {_INSTALL}") from problem
    if game not in ENV_REGISTRY:
        from msgrpo_cli.common.text import did_you_mean

        raise ValueError(f"game={game}: TextArena has no game of that name{did_you_mean(game, ENV_REGISTRY)}")
    try:
        made = textarena.make(game, **arguments)
    except Exception as problem:
        raise ValueError(f"game={game}: cannot be made: {reason(problem)}") from problem
    while isinstance(made, textarena.Wrapper):
        made = made.env
    return made


_refusals: dict[tuple[str, int, str, tuple[str, ...]], bool] = {}


@contextmanager
def _chance(rng: np.random.Generator) -> Iterator[int]:
    """TextArena draws from the global generators: they are seeded from `rng` here, and put back afterwards."""
    seed = int(rng.integers(2**31))
    python, legacy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield seed
    finally:
        random.setstate(python)
        np.random.set_state(legacy)


def _plain(value: Any) -> Any:
    """Numbers, texts and containers of them, in one order; the place of everything else."""
    if isinstance(value, _VALUES):
        return value
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return [(_plain(key), _plain(inner)) for key, inner in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    return type(value).__name__
