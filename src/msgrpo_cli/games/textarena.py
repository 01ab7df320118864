"""Any single-player game of TextArena with a finite list of actions: `env=textarena env.game=LightsOut-v0`.

Knows TextArena's interface. Knows nothing about its single games, tokens, models or training.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium import spaces

from msgrpo_cli.common.numbers import counted

from .core import InitialStates, Observation, TextMediatedStochasticGame

_INSTALL = "needs TextArena: pip install 'msgrpo[textarena]'"
_CHARACTERS = "\n" + "".join(map(chr, (*range(0x20, 0x7F), *range(0xA0, 0x250), *range(0x2000, 0x2800))))
_TEXTS = spaces.Text(min_length=1, max_length=100_000, charset=_CHARACTERS)  # cards, arrows, frames
_VALUES = (bool, int, float, str, type(None))


class TextArenaGame(TextMediatedStochasticGame):
    """One game, its own words for rules and state, and an answer for every action.

    The text is the latest board and what the game has said since the last action; the rewards are the game's own, which
    most games give at their end alone. A move that the game calls invalid is told in the text; how many of them it
    forgives is its own rule.
    """

    actions: tuple[str, ...] = ()

    def __init__(
        self,
        game: str,
        actions: Sequence[str],
        max_steps: int,
        answer: str = "[{action}]",
        arguments: Mapping[str, Any] | None = None,
        initial_states: InitialStates = "many",
        success_from: float | None = None,
    ) -> None:
        """`answer` is what TextArena is told; `arguments` go to the game's constructor.

        Raises ValueError for a game that TextArena does not have, or that cannot be started with one player.
        """
        if "{action}" not in answer:
            raise ValueError(f"answer={answer}: must hold {{action}}")
        self.actions = tuple(actions)
        super().__init__(max_steps)
        self.initial_states, self._success_from = initial_states, success_from
        self.hides = "what was said before the last action"
        self._answer = answer
        self._pristine = self._inner = _made(game, arguments or {})
        self.observation_space = _TEXTS
        self._board = self._said = ""
        self._total = 0.0
        try:
            self.new_game(np.random.default_rng(0))
        except Exception as problem:
            raise ValueError(f"game={game}: cannot be started by one player: {_line(problem)}") from problem
        if _all_refused(self._pristine, game, repr(arguments), tuple(map(self._told, self.actions))):
            raise ValueError(f"actions={list(actions)}: {game} refuses every one of them, told as {answer}")

    def new_game(self, rng: np.random.Generator) -> None:
        self._board, self._total = "", 0.0
        self._inner = copy.deepcopy(self._pristine)  # some games keep things from before
        with _chance(rng) as seed:
            self._inner.reset(num_players=1, seed=seed)
            self._listen()

    def play(self, action: str) -> tuple[float, str | None]:
        with _chance(self.np_random):
            ended, _ = self._inner.step(self._told(action))
            self._listen()
        if not ended:
            return 0.0, None
        rewards, _ = self._inner.close()
        self._total = float((rewards or {}).get(0, 0.0))
        return self._total, "end"

    def _told(self, action: str) -> str:
        return self._answer.replace("{action}", action)

    def _listen(self) -> None:
        """Sort what the game says: its rules, the latest board, and the rest since the last action."""
        from textarena import ObservationType

        said = [(kind, text.strip()) for _, text, kind in self._inner.get_observation()[1]]
        if prompts := [text for kind, text in said if kind is ObservationType.PROMPT]:
            self._rules = "\n".join(prompts)
        if boards := [text for kind, text in said if kind is ObservationType.GAME_BOARD]:
            self._board = boards[-1]
        apart = (ObservationType.PROMPT, ObservationType.GAME_BOARD, ObservationType.PLAYER_ACTION)
        self._said = "\n".join(text for kind, text in said if kind not in apart)

    def describe(self, observation: Observation = "full") -> str:
        return "\n".join(filter(None, [self._board, self._said])) or "Nothing has been said yet."

    def rules(self) -> str:
        return f"{self._rules}\nYou have at most {counted(self.max_steps, 'move')}."

    def state_key(self) -> bytes:
        """Every plain value that the game and its state hold, its log of messages apart; its own count of turns too."""
        state = self._inner.state
        counted = [getattr(state, name, None) for name in ("turn", "error_count", "done")]
        own = {name: value for name, value in vars(self._inner).items() if name != "state"}
        return repr((_plain(own), _plain(state.game_state), counted, self._board, self._said)).encode()

    @property
    def success(self) -> bool | None:
        return None if self._success_from is None else self._total >= self._success_from


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
        raise ValueError(f"game={game}: cannot be made: {_line(problem)}") from problem
    while isinstance(made, textarena.Wrapper):
        made = made.env
    return made


_refusals: dict[tuple[str, str, tuple[str, ...]], bool] = {}


def _all_refused(pristine: Any, game: str, arguments: str, answers: tuple[str, ...]) -> bool:
    """Whether the game calls every answer invalid at its start; found out once for each game and list of answers."""
    key = (game, arguments, answers)
    if key not in _refusals:
        _refusals[key] = all(_is_refused(copy.deepcopy(pristine), answer) for answer in answers)
    return _refusals[key]


def _is_refused(inner: Any, answer: str) -> bool:
    with _chance(np.random.default_rng(0)) as seed:
        inner.reset(num_players=1, seed=seed)
        inner.step(answer)
    return bool(getattr(inner.state, "error_count", 0) or inner.state.game_info[0].get("invalid_move"))


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


def _line(problem: BaseException) -> str:
    from .guard import reason

    return reason(problem)
